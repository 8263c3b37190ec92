"""Where things lie: one person's files (user mode) or the machine's (system mode), perhaps below another root.

Paths here are what files say and programs see; `at(path)` is where setup itself reads and writes them (`--root DIR`).

User mode follows the XDG directories exactly as `dma_runtime.config.user_directories` does:

    ~/.config/dma/        dma.conf auth.conf aliases answers.RECIPE.yml secrets/
    ~/.local/state/dma/   spool/, or spool-MACHINE/ where several machines share the home
    ~/.local/state/dma-setup/<time>/   the journals
    ~/.local/lib/dma/     dma, dma-queue: the launchers
    ~/.local/bin/         sendmail, mailq, newaliases: links to the launcher

`environment` is what a process needs besides HOME so that the runtime finds this configuration: empty in the ordinary
case, XDG_* where they are not the default, DMA_CONF for root (who never reads user-mode files by itself).
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, field

from dma_runtime.config import home_directory, queue_path, user_directories
from dma_setup import mounts
from dma_setup.errors import SetupError
from dma_setup.image import inside

USER = "user"
SYSTEM = "system"


@dataclass(frozen=True)
class Place:
    mode: str
    root: str  # "" for the running machine, else the directory of --root without a slash at its end
    uid: int
    login: str
    home: str
    config: str  # directory of dma.conf
    spool: str
    spooldir: str  # the same as dma.conf says it
    state: str  # directory of the journals
    library: str  # directory of the launchers
    links: dict[str, str]  # name -> path of the link to the launcher
    units: str  # directory of systemd units, "" where none are written
    environment: dict[str, str] = field(default_factory=dict)

    def at(self, path: str, *, follow: bool = False) -> str:
        """Where `path` really is; `follow`: where what a link at its end leads to is, as for a dma.conf kept elsewhere."""
        if follow and not self.root:
            return os.path.realpath(path)
        return inside(self.root, path, follow=follow)

    @property
    def dma_conf(self) -> str:
        return self.config + "/dma.conf"

    @property
    def auth_conf(self) -> str:
        return self.config + "/auth.conf"

    @property
    def aliases(self) -> str:
        return self.config + "/aliases" if self.mode == USER else "/etc/aliases"

    @property
    def launcher(self) -> str:
        return self.library + "/dma"

    @property
    def is_user(self) -> bool:
        return self.mode == USER

    @property
    def is_live(self) -> bool:
        """The running machine: commands may be run and messages sent."""
        return not self.root

    def shown(self, path: str) -> str:
        """A path for people: `~` for the home, and below --root as it will be seen from inside."""
        if self.is_user and path.startswith(self.home + "/"):
            return "~" + path[len(self.home) :]
        return path

    def typed(self, path: str) -> str:
        """A path in a command that is typed here: below --root not that of the same name on this machine."""
        return self.shown(path) if self.is_live else self.at(path)


def login_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def for_user(uid: int, environ: dict[str, str], root: str = "") -> Place:
    """The place of the person `uid`. Raises SetupError for one without a home directory."""
    config, state = user_directories(uid, environ)
    home = home_directory(uid, environ).rstrip("/")
    if not config or not state or not home:
        raise SetupError("you have no home directory; set HOME, or use --system as root")
    for name, path in (("XDG_CONFIG_HOME", config), ("XDG_STATE_HOME", state), ("HOME", home)):
        if not path.startswith("/"):
            raise SetupError(f"{name} is not an absolute path: {path}")
    # One home of several machines: each has a queue of its own. A queue that is there already stays.
    shared = not root and mounts.is_shared(home) and not os.path.isdir(state + "/spool")
    spooldir = state + ("/spool-%m" if shared else "/spool")
    needed = {}
    if uid == 0:
        needed["DMA_CONF"] = config + "/dma.conf"
    if config != home + "/.config/dma":
        needed["XDG_CONFIG_HOME"] = os.path.dirname(config)
    if state != home + "/.local/state/dma":
        needed["XDG_STATE_HOME"] = os.path.dirname(state)
    return Place(
        mode=USER,
        root=root.rstrip("/"),
        uid=uid,
        login=login_name(uid),
        home=home,
        config=config,
        spool=queue_path(spooldir),
        spooldir=spooldir,
        state=os.path.dirname(state) + "/dma-setup",
        library=home + "/.local/lib/dma",
        links={name: f"{home}/.local/bin/{name}" for name in ("sendmail", "mailq", "newaliases")},
        units=os.path.dirname(config) + "/systemd/user",
        environment=needed,
    )


def for_system(root: str = "") -> Place:
    """The place of the whole machine, or of an image below `root`."""
    return Place(
        mode=SYSTEM,
        root=root.rstrip("/"),
        uid=0,
        login="root",
        home="/root",
        config="/etc/dma",
        spool="/var/spool/dma",
        spooldir="/var/spool/dma",
        state="/var/lib/dma-setup",
        library="/usr/local/lib/dma",
        links={
            "sendmail": "/usr/sbin/sendmail",
            "lib-sendmail": "/usr/lib/sendmail",
            "mailq": "/usr/bin/mailq",
            "newaliases": "/usr/bin/newaliases",
        },
        units="",
    )
