"""Exim as Debian configures it: update-exim4.conf.conf, with passwd.client (update-exim4.conf(8), exim4-config_files(5))."""

from __future__ import annotations

import fnmatch

from dma_runtime.secret import Secret
from dma_setup.imports.found import Account, Files, Imported, ImportProblem, content, settings

NAMES = ("update-exim4.conf.conf",)


def read(files: Files) -> Imported:
    path = files.paths.get(NAMES[0], files.first)
    keys = {}
    for _, line in settings(content(path)):
        name, equals, value = line.partition("=")
        if equals:
            keys[name.strip()] = value.strip().strip("'\"")
    found = Imported("Exim")
    kind = keys.get("dc_eximconfig_configtype", "")
    if kind in ("smarthost", "satellite"):
        _relay(keys, files, found)
        found.null_client = kind == "satellite"
        if not found.accounts:
            raise ImportProblem(f"{path}: dc_smarthost is empty")
    elif kind == "internet":
        found.direct = True
    elif kind == "local":
        found.local_only = True
    else:
        known = "smarthost, satellite, internet and local are read"
        raise ImportProblem(f"{path}: dc_eximconfig_configtype is {kind or 'missing'}; {known}")
    if keys.get("dc_readhost"):
        found.settings["MAILNAME" if kind == "satellite" else "MASQUERADE"] = keys["dc_readhost"]
    if keys.get("dc_local_interfaces", "") not in ("127.0.0.1", "127.0.0.1 ; ::1", "127.0.0.1;::1", "<; 127.0.0.1 ; ::1"):
        found.note("dc_local_interfaces: Exim takes mail from the network; dma does not")
    for name in ("dc_relay_domains", "dc_relay_nets"):
        if keys.get(name):
            found.note(f"{name}={keys[name]}: dma relays for nobody else")
    if keys.get("dc_localdelivery") == "maildir_home":
        found.note("dc_localdelivery=maildir_home: dma delivers to the mailbox in /var/mail")
    return found


def _relay(keys: dict[str, str], files: Files, found: Imported) -> None:
    """`host::port;host2`: the first is the relay, the others follow as FALLBACK."""
    hubs = [hub.strip() for hub in keys.get("dc_smarthost", "").split(";") if hub.strip()]
    for number, hub in enumerate(hubs):
        host, _, port = hub.partition("::")
        account = Account(host, port or "25")
        account.tls = "implicit" if port == "465" else "opportunistic"
        if not number:
            _password(account, files, found)
            found.accounts.append(account)
    if len(hubs) > 1:
        found.settings["FALLBACK"] = " ".join(hub.replace("::", ":") for hub in hubs[1:])


def _password(account: Account, files: Files, found: Imported) -> None:
    text = files.text("passwd.client", elsewhere="/etc/exim4/passwd.client")
    for _, line in settings(text or ""):
        pattern, _, rest = line.partition(":")
        login, _, password = rest.partition(":")
        # Exim looks its relay up by the name DNS gives back; Debian's own advice is to write *.domain for that.
        if login and (fnmatch.fnmatch(account.host, pattern) or account.host == pattern.removeprefix("*.") or pattern == "*"):
            account.login, account.secret = login, Secret(password) if password else None
            return
    if text is None:
        found.note("passwd.client is not there (or cannot be read): no login is carried over")
