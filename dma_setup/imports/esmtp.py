"""esmtp's esmtprc (esmtprc(5)): `key = value`, identities for further senders."""

from __future__ import annotations

from dma_runtime.secret import Secret
from dma_setup.imports.found import Account, Files, Imported, ImportProblem, content, host_port, settings
from dma_setup.relay import OPPORTUNISTIC, STARTTLS

NAMES = ("esmtprc", ".esmtprc")
_HANDLED = ("hostname", "username", "password", "starttls", "identity", "default")


def read(files: Files) -> Imported:
    path = next((files.paths[name] for name in NAMES if name in files.paths), files.first)
    found = Imported("esmtp")
    blocks: list[dict[str, str]] = [{}]
    for _, line in settings(content(path)):
        key, _, value = line.partition("=") if "=" in line else line.partition(" ")
        key, value = key.strip().lower(), value.strip().strip('"')
        if key == "identity":
            blocks.append({"identity": value})
        else:
            blocks[-1][key] = value
    main = next((block for block in blocks if "default" in block), blocks[0] if blocks[0].get("hostname") else None)
    for block in [main, *(other for other in blocks if other is not main)] if main is not None else []:
        assert block is not None
        for key, value in block.items():
            if key not in _HANDLED:
                found.note(f"{key} = {value}: is not carried over")
        if not block.get("hostname"):
            continue
        account = _account(block, found)
        if block is not main:
            account.pattern = account.sender
        found.accounts.append(account)
    if not found.accounts:
        raise ImportProblem(f"{path}: there is no hostname in it")
    return found


def _account(block: dict[str, str], found: Imported) -> Account:
    host, port = host_port(block["hostname"])
    tls = {"required": STARTTLS, "enabled": OPPORTUNISTIC}.get(block.get("starttls", "disabled"), "none")
    made = Account(host, port or "25", tls, block.get("username", ""), sender=block.get("identity", ""))
    if made.login and block.get("password"):
        made.secret = Secret(block["password"])
    if made.login and tls != STARTTLS:
        found.note(f"{host} was used with a password where TLS was not required; dma requires it")
    return made
