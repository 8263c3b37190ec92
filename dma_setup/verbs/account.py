"""`account: {name, home, comment}`: a user of the machine that nobody logs in as, with a group of the same name.

The number is the highest free one below 1000, as systemd-sysusers(8) takes it. An account that is there is left as it is,
but one with the rights of root is refused.
"""

from __future__ import annotations

import grp
import pwd
from typing import Any

from dma_setup.changes import Change
from dma_setup.changes.account import AccountChange, find, numbers
from dma_setup.errors import SetupError
from dma_setup.view import View

HIGHEST, LOWEST = 999, 100
SHELLS = ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false")


def plan(step: dict[str, Any], view: View) -> list[Change]:
    name = step["name"]
    if view.place.root and find(view.text("/etc/passwd") or "", name) == "":
        return [_new(step, view)]
    try:
        uid, gid = view.account(name)
    except SetupError:
        return [_new(step, view)]
    if 0 in (uid, gid):
        raise SetupError(f"the account {name} has the rights of root; mail must not run as root: remove it first")
    there = AccountChange(view.place.root, name, uid, gid, "", "", "", f"account {name}", "owns the queue", is_new=False)
    return [there]


def _new(step: dict[str, Any], view: View) -> AccountChange:
    name = step["name"]
    users, groups = (view.text(path) for path in ("/etc/passwd", "/etc/group"))
    if users is None or groups is None:
        raise SetupError(f"{view.place.at('/etc')} has no passwd and group; an account cannot be made there")
    if find(groups, name):
        raise SetupError(f"there is a group {name} but no user {name}; make the user: useradd --system -g {name} {name}")
    taken = numbers(users) | numbers(groups)
    if view.place.is_live:  # what comes from elsewhere, such as LDAP
        taken |= {found.pw_uid for found in pwd.getpwall()} | {found.gr_gid for found in grp.getgrall()}
    number = next((number for number in range(HIGHEST, LOWEST - 1, -1) if number not in taken), 0)
    if not number:
        raise SetupError(f"no number between {LOWEST} and {HIGHEST} is free for the account {name}")
    shell = next((path for path in SHELLS if view.entry(path) is not None), SHELLS[-1])
    return AccountChange(
        root=view.place.root,
        name=name,
        uid=number,
        gid=number,
        comment=step.get("comment", ""),
        home=step["home"],
        shell=shell,
        subject=f"account {name}",
        says=f"owns the queue; uid {number}, nobody can log in as it",
        owns=(view.place.spool,),
    )
