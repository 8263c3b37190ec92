"""Exim as Debian configures it: update-exim4.conf.conf, with passwd.client (update-exim4.conf(8), exim4-config_files(5))."""

from __future__ import annotations

import re
import socket

from dma_runtime.secret import Secret
from dma_setup.imports.found import MAILNAME, Account, Files, Imported, ImportProblem, content, settings, written

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
    found.settings["MAILNAME"] = MAILNAME
    if kind == "satellite" and keys.get("dc_readhost"):
        found.settings["MAILNAME"] = keys["dc_readhost"]  # also where mail to this machine's users goes
    elif kind == "smarthost" and keys.get("dc_readhost") and keys.get("dc_hide_mailname") == "true":
        found.settings["MASQUERADE"] = keys["dc_readhost"]
    _addresses(files, found)
    if keys.get("dc_local_interfaces", "") not in ("127.0.0.1", "127.0.0.1 ; ::1", "127.0.0.1;::1", "<; 127.0.0.1 ; ::1"):
        found.note("dc_local_interfaces: Exim takes mail from the network; dma does not")
    for name in ("dc_relay_domains", "dc_relay_nets"):
        if keys.get(name):
            found.note(f"{name}={keys[name]}: dma relays for nobody else")
    if keys.get("dc_localdelivery") == "maildir_home":
        found.note("dc_localdelivery=maildir_home: dma delivers to the mailbox in /var/mail")
    return found


def hubs(text: str) -> list[tuple[str, str]]:
    """(host, port) of each host of dc_smarthost: they are separated by colons, and a colon within one is doubled."""
    found = []
    for hub in re.split(r"(?<!:):(?!:)|;", text):
        whole = hub.strip().replace("::", ":")
        if whole.startswith("["):
            host, _, port = whole[1:].partition("]")
            port = port.removeprefix(":")
        elif whole.count(":") == 1:
            host, _, port = whole.partition(":")
        else:
            host, port = whole, ""  # a name, or an IPv6 address without brackets
        if host:
            found.append((host, port))
    return found


def _relay(keys: dict[str, str], files: Files, found: Imported) -> None:
    """The first is the relay, the others follow as FALLBACK."""
    named = hubs(keys.get("dc_smarthost", ""))
    for number, (host, port) in enumerate(named):
        account = Account(host, port or "25")
        account.tls = "implicit" if port == "465" else "opportunistic"
        if not number:
            _password(account, files, found)
            found.accounts.append(account)
    if len(named) > 1:
        found.settings["FALLBACK"] = " ".join(written(*one) for one in named[1:])


def _password(account: Account, files: Files, found: Imported) -> None:
    text = files.text("passwd.client", elsewhere="/etc/exim4/passwd.client")
    entries = []
    for _, line in settings(text or ""):
        pattern, _, rest = line.partition(":")
        login, _, password = rest.partition(":")
        if login:
            entries.append((pattern.strip(), login, password))
    # Exim looks its relay up by the name that DNS gives back for it, which is seldom the one in dc_smarthost.
    names = [account.host]
    if entries and not any(_fits(pattern, account.host) for pattern, _, _ in entries):
        names += canonical(account.host)
    for pattern, login, password in entries:
        if any(_fits(pattern, name) for name in names):
            account.login, account.secret = login, Secret(password) if password else None
            return
    if text is None:
        found.note("passwd.client is not there (or cannot be read): no login is carried over")
    elif entries:
        patterns = ", ".join(pattern for pattern, _, _ in entries)
        found.note(f"passwd.client has logins for {patterns}, none for {account.host}: give the right one with --set login=NAME")


def _fits(pattern: str, host: str) -> bool:
    """Exim's nwildlsearch: a literal name, `*` and what it ends with, or a regular expression."""
    host = host.lower()
    if pattern.startswith("^"):
        try:
            return re.search(pattern, host, re.IGNORECASE) is not None
        except re.error:
            return False
    if pattern.startswith("*"):
        return host.endswith(pattern[1:].lower()) or host == pattern[1:].lower().removeprefix(".")
    return host == pattern.lower()


def canonical(host: str) -> list[str]:
    """The names that reverse DNS has for a host's addresses, [] when nobody can say."""
    try:
        addresses = {item[4][0] for item in socket.getaddrinfo(host, None)}
        return sorted({socket.gethostbyaddr(str(address))[0].rstrip(".").lower() for address in addresses})
    except OSError:
        return []


def _addresses(files: Files, found: Imported) -> None:
    """/etc/email-addresses: who sends as whom. dma has one rule for all, so they stay notes."""
    for _, line in settings(files.text("email-addresses") or ""):
        login, _, address = line.partition(":")
        login, address = login.strip(), address.strip()
        if address:
            found.note(f"email-addresses: {login} sends as {address}: set EMAIL={address} for {login}")
