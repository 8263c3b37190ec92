"""`login: {path, host, user}`: the line of auth.conf for a relay; it refers to the password and never holds it.

A line for the same user and host is replaced in place, wherever it is the one that counts; lines for other relays stay
as they are, literal passwords included.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dma_runtime import authconf
from dma_setup import view as views
from dma_setup.changes import Change
from dma_setup.changes.path import HIDE_PASSWORDS
from dma_setup.errors import SetupError
from dma_setup.verbs import secret
from dma_setup.view import View


def plan(step: dict[str, Any], view: View) -> list[Change]:
    path = view.resolve(step["path"])
    host, user = step["host"], step["user"]
    reference = secret.reference(view, host, user)
    line = f"{user}|{host}:{reference}"
    parsed = authconf.parse(line, path).logins
    if len(parsed) != 1 or (parsed[0].user, parsed[0].host) != (user, host.lower().rstrip(".")) or "\n" in line:
        raise SetupError(f"auth.conf cannot hold the login name {user!r}")
    old = view.text(path)
    wanted = views.file(merge(old, host, line) if old is not None else HEAD + line + "\n", 0o600)
    if not view.place.is_user:
        wanted = replace(wanted, mode=0o640, uid=0, gid=view.account(secret.ACCOUNT)[1])
    literals = _literals(wanted.content.decode("utf-8", "surrogateescape"))
    says = "one line for this relay" if literals else "refers to where the password is; holds no password"
    return [view.path_change(path, wanted, says, hides=HIDE_PASSWORDS, drains=True)]


HEAD = """\
# auth.conf: login|host:password, or a reference to the password instead:
# keyring:  credential:NAME  file:PATH  command:WORDS  literal:TEXT
"""


def _literals(text: str) -> bool:
    return any(login.reference.kind == authconf.LITERAL for login in authconf.parse(text, "").logins)


def merge(old: str, host: str, line: str) -> str:
    """`old` with `line` as the one that counts for `host`; other lines of the same user and host go."""
    wanted = authconf.parse(line, "").logins[0]
    found = authconf.parse(old, "")
    same = [login for login in found.logins if (login.user, login.host) == (wanted.user, wanted.host)]
    counts = found.find(host, 0)
    if (
        counts is not None
        and counts in same
        and len(same) == 1
        and repr(counts.reference) == repr(wanted.reference)
        and not counts.port
    ):
        return old
    lines = old.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    dropped = {login.line for login in same}
    place = same[-1].line if counts is not None and counts in same else 0
    kept = []
    for number, text in enumerate(lines, 1):
        if number == place:
            kept.append(line)
        elif number not in dropped:
            kept.append(text)
    if not place:
        kept.append(line)
    return "\n".join(kept) + "\n"
