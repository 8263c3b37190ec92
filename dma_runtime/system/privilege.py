"""Giving up root for good: the machine's mail account, and how a process becomes it.

Group list, group, user, in this order, real, effective and saved; then it is checked that root cannot come back. Nothing of
the caller's environment is used. On the submit path of root: built-in modules only.
"""

from __future__ import annotations

from dma_runtime import posixos as os
from dma_runtime.errors import EX_CONFIG, EX_OSERR, DmaError

ACCOUNT = "dma"


class Account:
    """`name`, `uid`, `gid` of a user."""

    __slots__ = ("gid", "name", "uid")

    def __init__(self, name: str, uid: int, gid: int) -> None:
        self.name = name
        self.uid = uid
        self.gid = gid


def account(name: str = ACCOUNT) -> Account:
    """The account mail runs as. Raises DmaError (78) when there is none."""
    import pwd

    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise DmaError(f"user `{name}' not found; `dma-setup --system' makes it", EX_CONFIG) from None
    if found.pw_uid == 0 or found.pw_gid == 0:
        raise DmaError(f"user `{name}' has the rights of root (uid {found.pw_uid}, gid {found.pw_gid})", EX_CONFIG)
    return Account(found.pw_name, found.pw_uid, found.pw_gid)


def become(who: Account) -> None:
    """Be `who`, with the groups of that account and no way back. Raises DmaError (71)."""
    try:
        os.initgroups(who.name, who.gid)
        os.setresgid(who.gid, who.gid, who.gid)
        os.setresuid(who.uid, who.uid, who.uid)
    except OSError as error:
        raise DmaError(f"can not become user `{who.name}': {error.strerror}", EX_OSERR) from None
    if os.getresuid() != (who.uid,) * 3 or os.getresgid() != (who.gid,) * 3 or 0 in os.getgroups():
        raise DmaError(f"can not become user `{who.name}' wholly", EX_OSERR)
    os.umask(0o077)
