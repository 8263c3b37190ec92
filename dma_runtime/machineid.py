"""Which machine this is: machine-id(5). Built-in modules only: the submit path may use it."""

from __future__ import annotations

FILES = ("/etc/machine-id", "/var/lib/dbus/machine-id")


def machine_id() -> str:
    """The id of this machine, "" when it has none (yet)."""
    for path in FILES:
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                said = file.read(100).strip()
        except OSError:
            continue
        if said and said != "uninitialized":
            return said
    return ""
