"""`dma.conf`: C dma's grammar and keys, read tolerantly, plus the keys this project adds (interface.md, section 7).

Rules:
- Each key is declared once, in `Config`: parser, default, one sentence. Man page and sample are made from there.
- Values are trimmed, CRLF is tolerated. `#` starts a comment at the start of a line or after a blank.
- An unknown key is a warning and mail goes on. A value that cannot be understood is a problem with file:line and
  what was expected; submission and delivery stop at it (`sound()`), listings go on.
- The last occurrence of a key wins. A missing file means the defaults. There is no include and no continuation.
- This file is on the submit path: nothing but built-in modules.

The grammar follows corecode/dma conf.c (commit 7f88bbe); docs/compatibility.md lists the deviations.
"""

from __future__ import annotations

from dma_runtime import posixos as os
from dma_runtime.errors import EX_NOINPUT, ConfigError, DmaError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

SYSTEM_CONF = "/etc/dma/dma.conf"
BOM = "\ufeff"  # what some editors begin a text file with; it belongs to no key and no name


class BadValue(Exception):
    """A value that cannot be understood; the text says what was expected."""


# ---------------------------------------------------------------- what a value may be


def flag(text: str) -> bool:
    """C dma: present without a value means yes. `yes`, `on`, `true`, `1` and their opposites are tolerated."""
    word = text.lower()
    if word in ("", "yes", "on", "true", "1"):
        return True
    if word in ("no", "off", "false", "0"):
        return False
    raise BadValue("takes no value; write the key alone to switch it on")


def words(text: str) -> str:
    if not text:
        raise BadValue("needs a value")
    return text


def path(text: str) -> str:
    if not text.startswith("/"):
        raise BadValue("needs an absolute path")
    return text


def queue_path(text: str) -> str:
    """`%m` is this machine's id: a home that several machines share has a queue for each."""
    if "%m" in path(text):
        from dma_runtime.machineid import machine_id

        return text.replace("%m", machine_id() or os.uname().nodename)
    return text


_HOST = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"


def host_name(text: str) -> str:
    """A name, in ASCII (IDNA), or the path of a file that holds it."""
    if text.startswith("/"):
        return text
    if not text.isascii():
        try:
            text = text.encode("idna").decode("ascii")
        except UnicodeError:
            raise BadValue("needs a host name or an absolute path") from None
    if not text.strip(".") or any(c not in _HOST for c in text):
        raise BadValue("needs a host name or an absolute path")
    return text


def names(text: str) -> tuple[str, ...]:
    found = tuple(text.replace(",", " ").split())
    if not found:
        raise BadValue("needs one or more names")
    return found


_SERVICES = {"smtp": 25, "smtps": 465, "submissions": 465, "submission": 587}


def port(text: str) -> int:
    number = _SERVICES.get(text.lower(), 0) or (int(text) if text.isascii() and text.isdigit() else 0)
    if not 0 < number < 65536:
        raise BadValue("needs a port number from 1 to 65535, or smtp, submission, submissions")
    return number


class Host:
    """A relay: `name` (host name or address without brackets) and `port`, 0 when the text gave none."""

    __slots__ = ("name", "port")

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port

    def __repr__(self) -> str:
        shown = f"[{self.name}]" if ":" in self.name else self.name
        return f"{shown}:{self.port}" if self.port else shown

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Host) and (other.name, other.port) == (self.name, self.port)

    def __hash__(self) -> int:
        return hash((self.name, self.port))


def host(text: str) -> Host:
    """`name`, `name:port`, `[literal]`, `[literal]:port`, or a bare IPv6 address."""
    name, number = text, ""
    if text.startswith("["):
        name, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise BadValue("needs a host name, [address] or host:port")
        number = rest[1:] if rest else ""
        if name.lower().startswith("ipv6:"):
            name = name[5:]
        if rest and not number:
            raise BadValue("needs a port after the colon")
    elif text.count(":") == 1:
        name, _, number = text.partition(":")
        if not number:
            raise BadValue("needs a port after the colon")
    if not name or any(c.isspace() or not c.isprintable() or c in "@/|[]<>()," for c in name):
        raise BadValue("needs a host name, [address] or host:port")
    return Host(name, port(number) if number else 0)


def hosts(text: str) -> tuple[Host, ...]:
    found = tuple(host(word) for word in text.replace(",", " ").split())
    if not found:
        raise BadValue("needs one or more host[:port]")
    return found


def smarthost(text: str) -> Host:
    """A relay, or with LMTP the path of its socket."""
    return Host(text, 0) if text.startswith("/") else host(text)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def duration(text: str) -> int:
    """Seconds: `90s`, `5m`, `3h`, `5d`; a bare number is seconds."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    if not (number.isascii() and number.isdigit()):
        raise BadValue("needs a duration such as 90s, 5m, 3h or 5d")
    return int(number) * _UNITS[unit]


def wait(text: str) -> int:
    """A duration that something can happen in."""
    seconds = duration(text)
    if not seconds:
        raise BadValue("needs a duration above zero")
    return seconds


def durations(text: str) -> tuple[int, int]:
    parts = text.split()
    if len(parts) != 2:
        raise BadValue("needs two durations, the first and the longest, such as 5m 3h")
    first, longest = duration(parts[0]), duration(parts[1])
    if not 0 < first <= longest:
        raise BadValue("needs two durations, the first above zero and not above the second")
    return first, longest


NO_LIMIT = 1 << 62  # bytes
_SIZES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def size(text: str) -> int:
    """Bytes: `100M`, `64K`; a bare number is bytes."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].upper() in _SIZES else (text, "")
    if not (number.isascii() and number.isdigit()):
        raise BadValue("needs a size such as 100M")
    return int(number) * _SIZES.get(unit, 1)


def largest(text: str) -> int:
    """A size; 0 is no limit, as in Postfix and Exim."""
    return size(text) or NO_LIMIT


def free_space(text: str) -> tuple[int, int]:
    """(bytes, percent): one of them is zero."""
    if text.endswith("%"):
        number = text[:-1]
        if not (number.isascii() and number.isdigit() and int(number) < 100):
            raise BadValue("needs a size such as 100M or a percentage below 100")
        return 0, int(number)
    return size(text), 0


def count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise BadValue("needs a number above zero")
    return int(text)


def rate(text: str) -> tuple[tuple[int, int], ...]:
    """Pairs (messages, seconds) from `30/m 500/d`."""
    found = []
    for word in text.split():
        number, _, unit = word.partition("/")
        if not (number.isascii() and number.isdigit() and int(number) > 0 and unit in _UNITS):
            raise BadValue("needs messages per time such as 30/m, or several: 30/m 500/d")
        found.append((int(number), _UNITS[unit]))
    return tuple(found)


def marks(text: str) -> tuple[str, ...]:
    """Words separated by `|`, in lower case."""
    found = tuple(" ".join(part.split()).lower() for part in text.split("|"))
    if not all(found):
        raise BadValue("needs words of the relay's answers, several with | between them")
    return found


def fingerprint(text: str) -> str:
    """SHA-256 of the relay's certificate: 64 hexadecimal digits, openssl's colons allowed."""
    digits = text.replace(":", "").lower()
    if len(digits) != 64 or any(c not in "0123456789abcdef" for c in digits):
        raise BadValue("needs the 64 hexadecimal digits of a SHA-256 fingerprint")
    return digits


def masquerade(text: str) -> tuple[str, str]:
    """(user, host), either may be empty. Split at the last `@`; without one it is the host (C dma conf.c:203)."""
    user, _, name = text.rpartition("@")
    if not user and not name:
        raise BadValue("needs user@host, user@ or host")
    if any(c.isspace() or not c.isprintable() or c in "<>" for c in text):
        raise BadValue("needs an address without blanks or angle brackets")
    return user, name


def delivery(text: str) -> str:
    if text.upper() not in ("LOCALANDREMOTE", "LOCALONLY", "REMOTEONLY"):
        raise BadValue("needs LOCALANDREMOTE, LOCALONLY or REMOTEONLY")
    return text.upper()


# ---------------------------------------------------------------- the declaration of a key


class Key:
    """One key of dma.conf: `parse(text) -> value` (raises BadValue), `default`, and one sentence for people.

    `later` is what is said when a key is set whose effect this version does not have yet.
    """

    __slots__ = ("default", "later", "name", "origin", "parse", "says")

    def __init__(
        self, parse: Callable[[str], object], default: object, says: str, origin: str = "dma", later: bool = False
    ) -> None:
        self.parse = parse
        self.default = default
        self.says = says
        self.origin = origin
        self.later = later
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, config: Config | None, owner: type) -> object:
        return self if config is None else config.values.get(self.name, self.default)


def key(parse: Callable[[str], T], default: T, says: str, origin: str = "dma", later: bool = False) -> T:
    """Declare a key. At run time this is a `Key`; read through a `Config` it is the key's value, as typed here."""
    return Key(parse, default, says, origin, later)  # type: ignore[return-value]  # a descriptor, see above


def optional(parse: Callable[[str], T], says: str, origin: str = "dma", later: bool = False) -> T | None:
    """A key whose default is that it is not set."""
    return Key(parse, None, says, origin, later)  # type: ignore[return-value]  # a descriptor, see above


_NO_NAMES: tuple[str, ...] = ()
_NO_RATES: tuple[tuple[int, int], ...] = ()
_NO_HOSTS: tuple[Host, ...] = ()

NEW = "new"  # this project's keys
FORK = "fork"  # keys of forks and of old Debian versions: understood, so that an old file keeps working


class Config:
    """What dma.conf says. `values` holds only what was set; `problems` what could not be understood."""

    SMARTHOST = optional(smarthost, "Relay that takes all outgoing mail: host, host:port or [address].")
    PORT = key(port, 25, "Port of the smarthost.")
    ALIASES = key(path, "/etc/aliases", "File with the aliases.")
    SPOOLDIR = key(queue_path, "/var/spool/dma", "Directory of the queue; %m in it is this machine's id.")
    AUTHPATH = optional(path, "File with logins and passwords (auth.conf).")
    SECURETRANSFER = key(flag, False, "Use TLS towards the relay.")
    STARTTLS = key(flag, False, "With SECURETRANSFER: start in plain text and switch by STARTTLS.")
    OPPORTUNISTIC_TLS = key(flag, False, "With STARTTLS: go on in plain text when the relay has no TLS (no login then).")
    CERTFILE = optional(path, "Client certificate chain and key, one PEM file.")
    VERIFYCERT = key(flag, False, "Verify the relay's certificate even when no credential is sent.")
    FINGERPRINT = optional(fingerprint, "SHA-256 fingerprint the relay's certificate must have; replaces verification.")
    DEFER = key(flag, False, "Only queue; mail leaves when the queue is run with -q.")
    INSECURE = key(flag, False, "Allow logging in over an unencrypted connection.")
    FULLBOUNCE = key(flag, False, "Return the whole message in a report, not only its header.")
    NULLCLIENT = key(flag, False, "Send everything to the smarthost, nothing is delivered locally.")
    MAILNAME = optional(host_name, "Host name used in addresses and greetings, or the path of a file that holds it.")
    MASQUERADE = optional(masquerade, "Sender address to use: user@host, user@ or host.")

    RETRY = key(durations, (300, 10800), "First and longest time between two attempts.", NEW)
    EXPIRE = key(duration, 432000, "Age at which an undeliverable message is returned.", NEW)
    DELAYWARNING = optional(duration, "Age at which the sender gets one report of the delay.", NEW)
    CONNECTTIMEOUT = key(wait, 30, "Longest wait for a connection.", NEW)
    TIMEOUT = optional(wait, "Upper bound for every wait on a relay; default: RFC 5321's per command.", NEW)
    MAXCONNECTIONS = key(count, 4, "Most connections to one relay.", NEW)
    MAXMESSAGES = key(count, 100, "Most messages over one connection.", NEW)
    MAXRECIPIENTS = key(count, 100, "Most recipients in one transaction.", NEW)
    RATE = key(rate, _NO_RATES, "Pace towards the relay: messages per second, minute, hour or day, such as 30/m 500/d.", NEW)
    QUOTA = key(marks, _NO_NAMES, "Words in a relay's answers that mean: enough for now; several with | between.", NEW)
    MAXSIZE = key(largest, 100 << 20, "Largest message accepted; 0 is no limit.", NEW)
    MINFREE = key(free_space, (0, 0), "Free space below which no message is accepted: a size or a percentage.", NEW)
    FALLBACK = key(hosts, _NO_HOSTS, "Relays tried when the smarthost is down: host[:port] list.", NEW)
    RELAYMAP = optional(path, "File that maps sender patterns to relays and logins.", NEW)
    LMTP = key(flag, False, "The smarthost speaks LMTP; it may be the path of a socket.", NEW)
    LOCALONLY = key(flag, False, "Nothing leaves this machine; remote recipients are refused at once.", NEW)
    REWRITEFROM = key(flag, False, "The header From becomes the masqueraded address for every message.", NEW)
    UNVERIFIEDCERT = key(flag, False, "Credentials may go to a relay whose certificate cannot be verified.", NEW)
    KEYRING = optional(words, "Where `keyring:` looks: secret-service, kwallet, pass, systemd-creds or a backend.", NEW)
    SOCKET = key(path, "/run/dma/submit.sock", "The submission socket.", NEW)
    TRUSTED = key(names, _NO_NAMES, "Logins that may set any sender with -f unremarked, beside root and dma.", NEW)
    HIDEUSER = key(flag, False, "No login and uid in the Received header.", NEW)
    PIPES = key(flag, False, "Allow |command and /file in aliases and .forward.", NEW)
    REQUIRETLS = key(
        flag, False, "Ask for TLS on every hop (RFC 8689) for every message without the field `TLS-Required: No'.", NEW
    )

    REPLACEFROM = optional(masquerade, "Fork key: sender of every message; MASQUERADE and REWRITEFROM in one.", FORK)
    DELIVERY = optional(delivery, "Fork key: LOCALANDREMOTE, LOCALONLY or REMOTEONLY.", FORK)
    DEBUGLOG = optional(path, "Fork key: file to which the dialogue with relays is written, logins redacted.", FORK)
    VIRTPATH = optional(path, "Old Debian key: virtual user table.", FORK, later=True)
    DBOUNCEPROG = optional(words, "Old Debian key: program for double bounces.", FORK, later=True)
    MAILNAMEFILE = optional(path, "Old Debian key: file that holds the mail name.", FORK)

    def __init__(self, source: str = "") -> None:
        self.source = source  # the file, "" for the defaults
        self.wanted = source  # the file that was looked for, whether it is there or not
        self.seen: tuple[int, ...] | None = ()  # inode, mtime and size of the file before it was read, None: not there
        self.values: dict[str, object] = {}
        self.lines: dict[str, int] = {}  # where each key was set
        self.problems: list[ConfigError] = []
        self.warnings: list[str] = []  # each names file, line and key
        self.user_mode = False
        self.system = False  # it is the machine's own configuration, or the defaults in its place

    def sound(self) -> Config:
        """Return the configuration itself. Raises the first ConfigError met while reading it."""
        if self.problems:
            raise self.problems[0]
        return self

    def without_problems(self) -> Config:
        """The same, as if the lines with a bad value were not there: for what delivers nothing."""
        import copy

        found = copy.copy(self)
        found.problems = []
        return found

    @property
    def by_socket(self) -> bool:
        """System mode: mail is handed to a daemon over SOCKET, and nobody else opens SPOOLDIR. It is so with the machine's
        own configuration, and with a file named by -C or DMA_CONF that sets SOCKET (hard-parts.md, Submitting)."""
        return not self.user_mode and (self.system or "SOCKET" in self.values)

    @property
    def nothing_leaves(self) -> bool:
        return self.LOCALONLY or self.DELIVERY == "LOCALONLY"


KEYS: dict[str, Key] = {name: item for name, item in vars(Config).items() if isinstance(item, Key)}


# ---------------------------------------------------------------- reading


def split_line(line: str) -> tuple[str, str]:
    """(key, value) of one line, ("", "") when it holds neither.

    `#` starts a comment at the start of a line or after a blank; elsewhere it belongs to the value.
    """
    start = 0
    while True:
        at = line.find("#", start)
        if at < 0:
            break
        if at == 0 or line[at - 1].isspace():
            line = line[:at]
            break
        start = at + 1
    parts = line.split(None, 1)
    return (parts[0], parts[1].strip()) if len(parts) == 2 else (parts[0], "") if parts else ("", "")


def parse(text: str, source: str) -> Config:
    """Read the text of a dma.conf. Never raises: see `Config.problems` and `Config.warnings`."""
    config = Config(source)
    for number, line in enumerate(text.removeprefix(BOM).split("\n"), 1):
        name, value = split_line(line)
        if not name:
            continue
        declared = KEYS.get(name)
        if declared is None:
            hint = _similar(name)
            config.warnings.append(f"{source}:{number}: unknown key {_shown(name)} ignored{hint}")
            continue
        try:
            parsed = declared.parse(value)
        except BadValue as bad:
            what = f"{name} {bad}" + (f", not `{_shown(value)}'" if value else "")
            config.problems.append(ConfigError(source, number, what))
            continue
        if config.values.get(name, parsed) != parsed:
            before = config.lines[name]
            config.warnings.append(f"{source}:{number}: {name} counts as it stands here; line {before} says something else")
        config.values[name] = parsed
        config.lines[name] = number
        if declared.later:
            config.warnings.append(f"{source}:{number}: {name} is understood but has no effect in this version yet")
    _check_together(config)
    return config


def _check_together(config: Config) -> None:
    """What only several keys together can get wrong."""
    if config.NULLCLIENT and config.SMARTHOST is None:
        config.problems.append(
            ConfigError(config.source, config.lines.get("NULLCLIENT", 0), "NULLCLIENT requires SMARTHOST")
        )
    if config.REPLACEFROM is not None:
        config.values.setdefault("MASQUERADE", config.REPLACEFROM)
        config.values["REWRITEFROM"] = True
    if config.SMARTHOST is not None and config.SMARTHOST.port and "PORT" in config.values:
        if config.SMARTHOST.port != config.PORT:
            config.warnings.append(
                f"{config.source}:{config.lines['PORT']}: PORT {config.PORT} is overruled by SMARTHOST {config.SMARTHOST}"
            )
    if config.SMARTHOST is not None and config.SMARTHOST.name.startswith("/") and not config.LMTP:
        line = config.lines["SMARTHOST"]
        config.problems.append(ConfigError(config.source, line, "SMARTHOST is the path of a socket, which needs LMTP"))
    if config.REQUIRETLS and config.SMARTHOST is None:
        what = "REQUIRETLS without SMARTHOST: mail for other machines is returned, no exchanger found by DNS can be trusted"
        config.warnings.append(f"{config.source}:{config.lines['REQUIRETLS']}: {what}")
    if config.REWRITEFROM and config.MASQUERADE is None:
        what = "REWRITEFROM without MASQUERADE has no address to write"
        config.warnings.append(f"{config.source}:{config.lines['REWRITEFROM']}: {what}")
    if config.LMTP and config.SMARTHOST is None:
        config.warnings.append(f"{config.source}:{config.lines['LMTP']}: LMTP without SMARTHOST is not used")
    if config.STARTTLS and not config.SECURETRANSFER:
        config.warnings.append(
            f"{config.source}:{config.lines['STARTTLS']}: STARTTLS without SECURETRANSFER is not used; add SECURETRANSFER"
        )


def _similar(name: str) -> str:
    """A hint for a key in the wrong case or of the sample file's old spelling."""
    if name.upper() in KEYS:
        return f"; keys are case-sensitive, did you mean {name.upper()}?"
    if name == "SECURE":
        return "; did you mean SECURETRANSFER?"
    return ""


def _shown(text: str) -> str:
    """Text from a file made fit for a one-line message."""
    return "".join(c if c.isprintable() else "?" for c in text[:60])


LARGEST = 16 << 20  # bytes of a file that people write


def contents(path: str) -> str:
    """The text of a file that people write: dma.conf and those it names. Raises OSError, also when it is no regular file (a
    FIFO would make us wait, a device never end) but /dev/null, or not of a size that makes sense."""
    import errno

    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        found = os.fstat(fd)
        if found.st_mode & 0o170000 == 0o040000:  # S_ISDIR, without the stat module
            raise OSError(errno.EISDIR, "Is a directory")
        if found.st_mode & 0o170000 != 0o100000 and path != "/dev/null":
            raise OSError(errno.EINVAL, "Not a regular file")
        data = b""
        while chunk := os.read(fd, 65536):
            data += chunk
            if len(data) > LARGEST:
                raise OSError(errno.EFBIG, "File too large")
        return data.decode("utf-8", "surrogateescape")
    finally:
        os.close(fd)


def load(source: str) -> Config:
    """Read `source`. A missing file means the defaults. Raises DmaError (66) when it exists but cannot be read."""
    try:
        found = os.stat(source)
        config = parse(contents(source), source)
        config.seen = found.st_ino, found.st_mtime_ns, found.st_size
        return config
    except FileNotFoundError:
        config = Config()
        config.wanted = source
        config.seen = None
        return config
    except OSError as error:
        raise DmaError(f"can not open config `{source}': {error.strerror}", EX_NOINPUT) from None


# ---------------------------------------------------------------- which file (interface.md, section 2)


def home_directory(uid: int, environ: dict[str, str]) -> str:
    """The caller's home: $HOME, else the passwd entry; "" when there is neither."""
    home = environ.get("HOME", "")
    if home.startswith("/"):
        return home
    import pwd

    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return ""


def user_directories(uid: int, environ: dict[str, str]) -> tuple[str, str]:
    """(configuration, state) directories of user mode; "" when the caller has no home."""
    home = home_directory(uid, environ)
    config = environ.get("XDG_CONFIG_HOME", "") or (home and home + "/.config")
    state = environ.get("XDG_STATE_HOME", "") or (home and home + "/.local/state")
    return (config + "/dma" if config else ""), (state + "/dma" if state else "")


def _foreign(option: str) -> str:
    """Why what -C names is another mail agent's, "" when it may be ours: callers written for sendmail pass its sendmail.cf or
    submit.cf, there or not, and those written for Postfix the directory of its files."""
    try:
        if os.stat(option).st_mode & 0o170000 == 0o040000:  # S_ISDIR, without the stat module
            return "a directory, ignored"
    except OSError as error:
        if option.endswith(".cf"):
            return f"{error.strerror}, ignored"
    return ""


def find(option: str | None, environ: dict[str, str], uid: int, euid: int) -> Config:
    """The configuration that applies: -C, DMA_CONF, user mode, system mode; the first that exists wins.

    A file of -C that is another mail agent's is passed over with a warning. When real and effective ids differ, nothing the
    caller controls is looked at (hard-parts.md, Submitting). Raises DmaError (66) for a file that exists and cannot be read.
    """
    trusted = uid == euid
    if option is not None and trusted:
        foreign = _foreign(option)
        if not foreign:
            config = load(option)
            config.system = option == SYSTEM_CONF
            if config.values or config.problems or not config.source:
                return config
            foreign = "no known key in it, file ignored"
        config = find(None, environ, uid, euid)
        config.warnings.append(f"{option}: {foreign}")
        return config
    named = environ.get("DMA_CONF", "") if trusted else ""
    if named:
        config = load(named)
        config.system = named == SYSTEM_CONF
        return config
    if trusted and uid != 0:
        directory, state = user_directories(uid, environ)
        if directory and os.exists(directory + "/dma.conf"):
            config = load(directory + "/dma.conf")
            config.user_mode = True
            config.values.setdefault("SPOOLDIR", state + "/spool")
            config.values.setdefault("AUTHPATH", directory + "/auth.conf")
            return config
    config = load(SYSTEM_CONF)
    config.system = True
    return config
