"""Which keyring is meant, and under which name a password lies in it.

`dma.conf` names the keyring (`KEYRING`), at set-up time and for good: nothing is detected when mail is sent, because
merely installing another backend would change the answer. Setup writes, and the reader child (`cmd.secret`) reads, the
entry `service = dma:HOST`, `user = login` through the backend class named here.

The classes are those of the keyring library (https://keyring.readthedocs.io), or ours with its interface.
"""

CLASSES = {
    "secret-service": "keyring.backends.SecretService.Keyring",
    "kwallet": "dma_runtime.system.keyring_kwallet.Keyring",
    "pass": "dma_runtime.system.keyring_pass.Keyring",
    "systemd-creds": "dma_runtime.keyring_backend.Keyring",
}

# KWallet and portals show this name when they ask whether a program may read: the same for writer and reader.
APPLICATION = "dma"


def backend(name: str) -> str:
    """The dotted class that `name`, the value of KEYRING, stands for. Raises ValueError when it is neither.

    Short names ignore case; anything with a dot is taken for a class as the keyring library names it.
    """
    known = CLASSES.get(name.lower())
    if known is not None:
        return known
    parts = name.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ValueError(f"{', '.join(CLASSES)} or a backend class such as keyrings.alt.file.PlaintextKeyring")
    return name


def service(host: str) -> str:
    """The service under which the password for `host` is kept. Host names ignore case and a final dot."""
    return "dma:" + host.lower().rstrip(".")


_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.@+-")


def credential(host: str, login: str) -> str:
    """The name of the systemd credential of (host, login): `dma.HOST.LOGIN`, every byte outside [A-Za-z0-9.@+-] as `_XX`.

    systemd refuses a colon, a slash and more in such names.
    """
    return "dma." + escaped(f"{host.lower().rstrip('.')}.{login}")


def escaped(text: str) -> str:
    """`text` with every byte outside [A-Za-z0-9.@+-] as `_XX`, as in the names of credentials."""
    raw = text.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte in _PLAIN else f"_{byte:02X}" for byte in raw)
