"""Postfix as a relay client: main.cf, with sasl_passwd and generic (postconf(5), SASL_README, TLS_README).

What Postfix receives from the network is not for dma; what it delivers here is a note.
"""

from __future__ import annotations

import os
import re

from dma_runtime.secret import Secret
from dma_setup.imports.found import Account, Files, Imported, content, host_port, settings, written
from dma_setup.relay import IMPLICIT, OPPORTUNISTIC, STARTTLS

NAMES = ("main.cf",)
_TLS = {"none": "none", "may": OPPORTUNISTIC, "": OPPORTUNISTIC}
# Read above, or answered by what dma does anyway.
_HANDLED = (
    *("relayhost", "myorigin", "mydomain", "myhostname", "mydestination", "inet_interfaces", "inet_protocols", "mynetworks"),
    *("smtp_sasl_auth_enable", "smtp_sasl_password_maps", "smtp_sasl_security_options", "smtp_sasl_tls_security_options"),
    *("smtp_tls_security_level", "smtp_tls_wrappermode", "smtp_tls_fingerprint_cert_match", "smtp_tls_fingerprint_digest"),
    *("smtp_use_tls", "smtp_enforce_tls", "smtp_tls_CAfile", "smtp_tls_CApath", "smtp_tls_session_cache_database"),
    *("smtp_generic_maps", "sender_dependent_relayhost_maps", "smtp_sender_dependent_authentication", "smtp_fallback_relay"),
    *("fallback_relay", "message_size_limit", "maximal_queue_lifetime", "delay_warning_time", "bounce_queue_lifetime"),
    *("smtp_destination_concurrency_limit", "default_destination_concurrency_limit", "alias_maps", "alias_database"),
)
# What receives mail from the network, where things lie, who is told: nothing of it is a null client's or a relay client's.
_WITHOUT_EFFECT = re.compile(
    r"^(smtpd_|postscreen_|lmtp_|milter_|biff$|append_|compatibility_level$|mail_owner$|setgid_group$|debug|mailbox_size_limit$"
    r"|unknown_|local_recipient_maps$|mynetworks_style$|smtp_tls_(loglevel|note_starttls_offer|session_cache_timeout)"
    r"|.*_(directory|path)$|smtputf8_|mail_name$|delay_notice_recipient$|notify_classes$|recipient_delimiter$)"
)

Keys = dict[str, str]


def read(files: Files) -> Imported:
    path = files.paths.get(NAMES[0], files.first)
    keys = _keys(content(path))
    found = Imported("Postfix")
    relayhost = _value(keys, "relayhost")
    passwords = _table(files, _value(keys, "smtp_sasl_password_maps"), found) if _on(keys, "smtp_sasl_auth_enable") else {}
    if relayhost:
        found.accounts.append(_account(relayhost, keys, passwords, "", found))
        found.null_client = "mydestination" in keys and not _value(keys, "mydestination")
    else:
        found.direct = True
    for sender, hub in _table(files, _value(keys, "sender_dependent_relayhost_maps"), found).items():
        account = _account(hub, keys, passwords, sender, found)
        account.pattern = sender
        found.accounts.append(account)
    origin = _value(keys, "myorigin") or _value(keys, "mydomain")
    if origin:
        found.settings["MAILNAME"] = origin  # a path, such as /etc/mailname, is one there too
    _queue(keys, found)
    _spare(keys, found)
    _generic(_table(files, _value(keys, "smtp_generic_maps"), found), found)
    if _value(keys, "inet_interfaces") not in ("loopback-only", "localhost", "127.0.0.1"):
        found.note("inet_interfaces: Postfix takes mail from the network; dma does not")
    for key in keys:
        value = _value(keys, key)
        if value and key not in _HANDLED and not _WITHOUT_EFFECT.match(key):
            found.note(f"{key} = {value}: is not carried over")
    return found


def _queue(keys: Keys, found: Imported) -> None:
    """Times, sizes, numbers of connections, in Postfix's units: s m h d w, and bytes."""
    size = _value(keys, "message_size_limit")
    if size.isdecimal() and int(size):
        found.settings["MAXSIZE"] = size
    elif size:
        found.note(f"message_size_limit = {size}: dma takes up to 100 MB; MAXSIZE in dma.conf says otherwise")
    for name, key in (("maximal_queue_lifetime", "EXPIRE"), ("delay_warning_time", "DELAYWARNING")):
        value = _value(keys, name)
        number = value.rstrip("smhdw")
        if number.isdecimal() and int(number):
            unit = value[len(number) :] or ("d" if name == "maximal_queue_lifetime" else "h")
            found.settings[key] = f"{int(number) * 7}d" if unit == "w" else f"{number}{unit}"
    limit = _value(keys, "smtp_destination_concurrency_limit") or _value(keys, "default_destination_concurrency_limit")
    if limit.isdecimal() and int(limit):
        found.settings["MAXCONNECTIONS"] = limit


def _spare(keys: Keys, found: Imported) -> None:
    spare = (_value(keys, "smtp_fallback_relay") or _value(keys, "fallback_relay")).replace(",", " ").split()
    if spare:
        found.settings["FALLBACK"] = " ".join(written(*host_port(one)) for one in spare)


def _keys(text: str) -> Keys:
    """main.cf(5): a line that starts with a blank goes on with the one before."""
    keys: Keys = {}
    last = ""
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0].isspace() and last:
            keys[last] += " " + line.strip()
            continue
        last, _, value = line.partition("=")
        last = last.strip()
        keys[last] = value.strip()
    return keys


def _value(keys: Keys, name: str, depth: int = 0) -> str:
    """The value with `$name` and `${name}` filled in."""
    return re.sub(r"\$\{?(\w+)\}?", lambda one: _value(keys, one[1], depth + 1) if depth < 9 else "", keys.get(name, ""))


def _on(keys: Keys, name: str) -> bool:
    return _value(keys, name) == "yes"


def _table(files: Files, named: str, found: Imported) -> dict[str, str]:
    """The source of a lookup table such as hash:/etc/postfix/sasl_passwd, which lies beside main.cf or where it says."""
    kind, _, path = named.partition(",")[0].split(" ")[0].partition(":")
    if not path:
        return {}
    if kind == "static":
        return {"*": path}
    if kind not in ("hash", "btree", "lmdb", "texthash", "cdb"):
        found.note(f"{named}: a table of type {kind} is not read")
        return {}
    text = files.text(os.path.basename(path), elsewhere=path)
    if text is None:
        found.note(f"{path}: is not there (or cannot be read); what it says is not carried over")
        return {}
    pairs = (line.split(None, 1) for _, line in settings(text))
    return {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}


def _account(named: str, keys: Keys, passwords: dict[str, str], sender: str, found: Imported) -> Account:
    host, port = host_port(named)
    made = Account(host, port or "25")
    if not port and not named.strip().startswith("["):
        found.note(f"{host}: Postfix asks for its mail exchangers, dma for a host of that name; --set host=NAME says another")
    level = _value(keys, "smtp_tls_security_level")
    if not level and _on(keys, "smtp_enforce_tls"):
        level = "encrypt"
    made.tls = IMPLICIT if _on(keys, "smtp_tls_wrappermode") else _TLS.get(level, STARTTLS)
    if level == "fingerprint":
        print_ = _value(keys, "smtp_tls_fingerprint_cert_match").replace(":", "").lower()
        if len(print_) == 64:
            made.fingerprint = print_
        else:
            found.note("smtp_tls_fingerprint_cert_match is not one SHA-256 fingerprint; the certificate is verified by name")
    said = next((passwords[key] for key in (sender, named, f"[{host}]", host, "*") if key and key in passwords), "")
    made.login, _, password = said.partition(":")
    if made.login and password:
        made.secret = Secret(password)
        if made.tls in ("none", OPPORTUNISTIC):
            found.note(f"{host} was used with a password where TLS was not required; dma requires it")
    return made


def _generic(table: dict[str, str], found: Imported) -> None:
    """Local addresses to those the world may see: one for all is MASQUERADE, several stay a note."""
    addresses = sorted(set(table.values()))
    if len(addresses) == 1:
        found.settings["MASQUERADE"] = addresses[0].removeprefix("@")
    elif addresses:
        found.note(f"generic: {', '.join(f'{key} -> {value}' for key, value in table.items())}: dma has one MASQUERADE for all")
