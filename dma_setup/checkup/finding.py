"""What a check says, and what it may look at.

A `Diagnosis` is one finding: `severity` OK, WARN (somebody should know) or FAIL (mail does not flow, or a secret lies
open); `evidence`: what was seen, quoted; `command`: the one that mends it, or shows how, "" when nothing need be done.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dma_runtime.authconf import Login
from dma_runtime.config import Config
from dma_runtime.system.identity import mail_name
from dma_setup import itself
from dma_setup.facts.look import FAIL, OK, WARN
from dma_setup.place import Place
from dma_setup.present import Present, last_recipe
from dma_setup.system import System

__all__ = ["FAIL", "OK", "WARN", "Check", "Diagnosis", "Patient"]


@dataclass(frozen=True)
class Diagnosis:
    check: str  # the name of the check, for --json and monitoring
    severity: str
    text: str
    evidence: str = ""
    command: str = ""


@dataclass(frozen=True)
class Patient:
    """The place that is looked at. `present`: what is set up. `online`: whether a check may use the network."""

    place: Place
    system: System
    present: Present
    online: bool
    now: float  # wall clock, seconds

    @property
    def config(self) -> Config:
        return self.present.config

    @property
    def login(self) -> Login | None:
        return self.present.login

    @property
    def direct(self) -> bool:
        """Mail goes straight to its recipients' servers."""
        return self.config.SMARTHOST is None and not self.config.LOCALONLY and not self.config.LMTP

    @property
    def spool(self) -> str:
        return self.place.at(str(self.config.values.get("SPOOLDIR", self.place.spool)))

    def setup(self, words: str) -> str:
        """The command `dma-setup WORDS` for this place."""
        return itself.command(self.place, words)

    def again(self, more: str = "") -> str:
        """The command that runs the recipe again, with the saved answers of the last run when they are there."""
        recipe, path = last_recipe(self.place, self.system)
        if not recipe:
            return self.setup("RECIPE") + "    # dma-setup list shows the recipes"
        answers = self.place.typed(path)
        return f"{self.setup(recipe)} --answers {answers}" + (f" {more}" if more else "")

    def sender_domain(self) -> tuple[str, str]:
        """(the domain that mail leaves as from here, what says so)."""
        masquerade, mailname = self.config.MASQUERADE, self.config.MAILNAME
        if masquerade is not None and masquerade[1]:
            return masquerade[1].lower(), "MASQUERADE"
        if mailname is not None and mailname.startswith("/") and not self.place.is_live:
            entry = self.system.look(self.place.at(mailname, follow=True))
            said = entry.content.decode("utf-8", "replace").split("\n")[0].strip() if entry is not None else ""
            return said.lower(), mailname
        return mail_name(self.config).lower(), mailname or "the host's name"

    @property
    def edit(self) -> str:
        """The command that opens dma.conf."""
        return self.edit_of(self.place.dma_conf)

    def edit_of(self, path: str) -> str:
        """The command that opens the file at `path`. A path with blanks is quoted, one with `~` is not: the shell knows it."""
        where = self.place.typed(path)
        return f"{self.sudo}${{EDITOR:-vi}} {where if where.startswith('~') else shlex.quote(where)}"

    @property
    def sudo(self) -> str:
        return "" if self.place.is_user else "sudo "


Check = Callable[[Patient], Iterator[Diagnosis]]
