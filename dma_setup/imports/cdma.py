"""C dma's dma.conf and auth.conf. The grammar is ours too; what it stands for is asked of our own parser.

Its spool is taken over by the first owner of ours (user mode) or by the setting up (system mode).
"""

from __future__ import annotations

from dma_runtime import authconf, config
from dma_runtime.secret import Secret
from dma_setup.imports.found import Account, Files, Imported, content
from dma_setup.relay import IMPLICIT, NONE, OPPORTUNISTIC, STARTTLS

NAMES = ("dma.conf",)
# Answered by the recipe's own keys, or without meaning elsewhere.
_RECIPES = (
    *("SMARTHOST", "PORT", "SECURETRANSFER", "STARTTLS", "OPPORTUNISTIC_TLS", "FINGERPRINT", "AUTHPATH", "SPOOLDIR"),
    *("MASQUERADE", "NULLCLIENT", "ALIASES", "INSECURE", "LOCALONLY", "KEYRING", "UNVERIFIEDCERT", "DELIVERY"),
)


def read(files: Files) -> Imported:
    path = files.paths.get(NAMES[0], files.first)
    text = content(path)
    conf = config.parse(text, path)
    found = Imported("dma")
    for problem in conf.problems:
        found.note(f"{problem.text}: is not carried over")
    for warning in conf.warnings:
        found.note(warning)
    auth = files.text("auth.conf", elsewhere=conf.AUTHPATH or "")
    if conf.SMARTHOST is not None:
        port = str(conf.SMARTHOST.port or conf.PORT)
        account = Account(conf.SMARTHOST.name, port, _tls(conf), fingerprint=conf.FINGERPRINT or "")
        login = authconf.parse(auth or "", "auth.conf").find(account.host, int(port))
        if login is not None:
            account.login = login.user
            if login.reference.kind == authconf.LITERAL:
                account.secret = Secret(login.reference.value.reveal())
            elif login.reference.kind == authconf.COMMAND:
                account.command = login.reference.value.reveal()
        if conf.INSECURE or (account.login and account.tls in (NONE, OPPORTUNISTIC)):
            found.note("the password was sent where TLS was not required; dma requires it")
        found.accounts.append(account)
    elif conf.LOCALONLY:
        found.local_only = True
    else:
        found.direct = True
    found.null_client = conf.NULLCLIENT and conf.SMARTHOST is not None
    if conf.MASQUERADE is not None:
        found.settings["MASQUERADE"] = "@".join(part for part in conf.MASQUERADE if part)
    values = {name: value for line in text.splitlines() for name, value in [config.split_line(line)] if name in conf.values}
    found.settings.update({name: value or "True" for name, value in values.items() if name not in _RECIPES})
    return found


def _tls(conf: config.Config) -> str:
    if not conf.SECURETRANSFER:
        return OPPORTUNISTIC if conf.OPPORTUNISTIC_TLS and conf.STARTTLS else NONE
    if not conf.STARTTLS:
        return IMPLICIT
    return OPPORTUNISTIC if conf.OPPORTUNISTIC_TLS else STARTTLS
