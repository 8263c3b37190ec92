"""The command line of sendmail(8), as C dma, sendmail, Postfix, Exim and msmtp understand it.

Each letter is declared once, with what follows it. Options may stand behind operands, as glibc's getopt (and so C dma)
has it; `--` ends them. What another mail agent knows and this one has no use for is accepted with its own arity and
ignored. Raises UsageError (64). Written by hand: argparse would double the time a submission takes.
"""

from __future__ import annotations

from dma_runtime.errors import UsageError
from dma_runtime.shown import shown

SUBMIT, SHOW_QUEUE, RUN_QUEUE, VERIFY, ALIASES, SMTP, HELP, VERSION, NOTHING = (
    "submit", "show queue", "run queue", "verify", "aliases", "smtp", "help", "version", "nothing",
)  # fmt: skip

# What follows a letter: nothing; a value, attached or as the next word; a value only when attached.
ALONE = "DGIUcimnstTvxlw"
VALUE = "ABCFLMNORVXabefhoprzS"
ATTACHED = "EQdqj"

# Words that would otherwise be read as several letters (Exim).
_WHOLE = ("-tls-on-connect", "-dropcr")
# Exim's -o options with a value as the next word; sendmail has some of these letters without one (-os), so the next word is
# taken only where it can be a value and no recipient.
_O_WITH_VALUE = ("X", "Ma", "Maa", "Mai", "Mas", "Mi", "Mm", "Mr", "Ms", "Mt")
_O_WITH_NUMBER = ("B", "r", "s")
_O_WITH_PATH = ("A", "P")
# Exim's -M family works on messages in the queue.
_EXIM_QUEUE = ("a", "ar", "c", "es", "f", "g", "G", "mad", "md", "rm", "set", "t", "vb", "vc", "vh", "vl")
_MODES = {
    "m": SUBMIT, "a": SUBMIT, "p": SHOW_QUEUE, "P": SHOW_QUEUE, "i": ALIASES, "v": VERIFY, "s": SMTP, "S": SMTP, "V": VERSION,
    "h": NOTHING, "H": NOTHING,  # sendmail's status of hosts, of which we keep no database; Postfix ignores them too
}  # fmt: skip


class Options:
    """What the command line asks for. `mode` is one of the constants above; the rest holds for SUBMIT."""

    __slots__ = (
        "config", "dsn_envelope", "dsn_notify", "dsn_recipients", "dsn_return", "extract", "foreground", "full_name",
        "ignore_dots", "mode", "operands", "queue_only", "requiretls", "sender", "tag", "verbose",
    )  # fmt: skip

    def __init__(self) -> None:
        self.mode = SUBMIT
        self.operands: list[str] = []
        self.config: str | None = None  # -C
        self.sender: str | None = None  # -f, -r
        self.full_name = ""  # -F
        self.tag = ""  # -L
        self.extract = False  # -t
        self.ignore_dots = False  # -i
        self.foreground = False  # -D
        self.queue_only = False  # -bq
        self.verbose = False  # -v
        self.dsn_notify = ""  # -N
        self.dsn_return = ""  # -R
        self.dsn_envelope = ""  # -V
        self.requiretls = False  # -bs: REQUIRETLS
        self.dsn_recipients: list[str] = []  # -bs: one `NOTIFY;ORCPT` for each operand, or none at all


def parse(words: list[str]) -> Options:
    """Read the words behind the program's name. Raises UsageError."""
    options = Options()
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word == "--":
            options.operands += words[at:]
            break
        if word == "-" or not word.startswith("-"):
            options.operands.append(word)
        elif word.startswith("--"):
            at = _long(options, word, words, at)
        elif word not in _WHOLE:
            at = _letters(options, word, words, at)
    if options.operands and options.mode in (SHOW_QUEUE, RUN_QUEUE):
        raise UsageError("sending mail and queue operations are mutually exclusive")
    return options


def _letters(options: Options, word: str, words: list[str], at: int) -> int:
    """One word of letters, such as `-ti` or `-fme@x`; returns where the next word is."""
    for n in range(1, len(word)):
        letter, rest = word[n], word[n + 1 :]
        if letter in ALONE:
            _apply(options, letter, "")
        elif letter in ATTACHED:
            if not rest and at < len(words) and _takes_next(letter, words[at]):
                rest = words[at]
                at += 1
            _apply(options, letter, rest)
            return at
        elif letter in VALUE:
            if not rest:
                if at >= len(words):
                    raise UsageError(f"invalid argument: `-{letter}' needs a value")
                rest = words[at]
                at += 1
            if letter == "o" and at < len(words) and _o_takes(rest, words[at]):
                at += 1
            _apply(options, letter, rest)
            return at
        elif not letter.isdigit():  # a stray number, as in -i5, has no meaning anywhere
            raise UsageError(f"invalid argument: `-{shown(letter, 20)}'")
    return at


def _takes_next(letter: str, word: str) -> bool:
    """C dma lets -q and -d take the next word; sendmail and Postfix do not. For -d only what can be a debug level."""
    if letter == "q":
        return not word.startswith("-")
    return letter == "d" and word[:1].isdigit() and all(c in "0123456789.,-" for c in word)


def _o_takes(option: str, word: str) -> bool:
    if option in _O_WITH_NUMBER:
        return word[:1].isdigit() and "@" not in word
    return option in _O_WITH_VALUE or (option in _O_WITH_PATH and word.startswith("/"))


def _apply(options: Options, letter: str, value: str) -> None:
    match letter:
        case "b":
            _mode(options, value)
        case "q":
            _set_mode(options, RUN_QUEUE)
            options.foreground = options.foreground or value == "f"  # sendmail's -qf
        case "I":
            _set_mode(options, ALIASES)
        case "C":
            options.config = value
        case "D":
            options.foreground = True
        case "f" | "r":
            options.sender = value
        case "F":
            options.full_name = value
        case "L":
            options.tag = value
        case "t":
            options.extract = True
        case "i":
            options.ignore_dots = True
        case "v":
            # As sendmail and Exim have it: the first attempt is waited for, and what the relay says is shown.
            options.verbose = options.foreground = True
        case "o":
            options.ignore_dots = options.ignore_dots or (value.startswith("i") and _yes(value[1:]))
        case "O":
            name, _, said = value.partition("=")
            options.ignore_dots = options.ignore_dots or (name.strip().lower() == "ignoredots" and _yes(said.strip()))
        case "N":
            options.dsn_notify = _notify(value)
        case "R":
            options.dsn_return = value.lower() if value.lower() in ("full", "hdrs") else ""
        case "V":
            options.dsn_envelope = _envelope_id(value)
        case "M":
            if value in _EXIM_QUEUE:
                raise UsageError("-M works on Exim's queue; see dma-queue for this one")


def _yes(said: str) -> bool:
    """As sendmail reads the value of a switch: nothing is yes."""
    return not said or said[0] in "tTyY"


def _mode(options: Options, value: str) -> None:
    if value.startswith("q"):
        options.queue_only = True
    elif value.startswith(("d", "D", "l")):
        raise UsageError("-bd: there is no SMTP listener; the daemon of this mail agent is dmad")
    elif mode := _MODES.get(value[:1]):
        _set_mode(options, mode)
    else:
        raise UsageError(f"invalid argument: `-b{shown(value, 20)}' is not supported")


def _set_mode(options: Options, mode: str) -> None:
    if {mode, options.mode} == {SHOW_QUEUE, RUN_QUEUE}:
        raise UsageError("conflicting queue operations")
    options.mode = mode


def _notify(value: str) -> str:
    """RFC 3461 4.1: `never`, or a list of success, failure, delay."""
    words = [word.strip() for word in value.lower().split(",")]
    if words == ["never"] or (words and all(word in ("success", "failure", "delay") for word in words)):
        return ",".join(words)
    raise UsageError(f"invalid argument: `-N {shown(value, 40)}', expected never or a list of success, failure, delay")


def _envelope_id(value: str) -> str:
    """RFC 3461 4.4: at most 100 printable characters, as xtext (`+` and two hexadecimal digits are a character)."""
    first, *others = value.split("+")
    if all(len(part) > 1 and set(part[:2]) <= set("0123456789ABCDEF") for part in others):
        value = first + "".join(chr(int(part[:2], 16)) + part[2:] for part in others)
    if len(value) > 100 or not (value.isascii() and value.isprintable()):
        raise UsageError(f"invalid argument: `-V {shown(value, 40)}', expected at most 100 printable characters")
    return value


# msmtp's long options: those with a meaning here; those without one that take a value, as `=VALUE` or as the next word; those
# that take none, or one behind `=` only. What chooses another relay, or sends nothing, is not passed over.
_LONG = {"read-recipients": "t", "from": "f", "file": "C", "dsn-notify": "N", "dsn-return": "R", "version": "", "help": ""}
_LONG_VALUE = ("account", "aliases", "domain", "logfile", "logfile-time-format", "maildomain", "timeout")
_LONG_IGNORED = (
    "add-missing-date-header", "add-missing-from-header", "allow-from-override", "auto-from", "debug", "keepbcc",
    "read-envelope-from", "remove-bcc-headers", "set-date-header", "set-from-header", "set-msgid-header", "syslog",
    "undisclosed-recipients",
)  # fmt: skip


def _long(options: Options, word: str, words: list[str], at: int) -> int:
    name, equals, value = word[2:].partition("=")
    if name in ("version", "help"):
        _set_mode(options, VERSION if name == "version" else HELP)
    elif name in _LONG or name in _LONG_VALUE:
        if not equals and (name in _LONG_VALUE or _LONG[name] in VALUE):
            if at >= len(words):
                raise UsageError(f"invalid argument: `--{name}' needs a value")
            value = words[at]
            at += 1
        _apply(options, _LONG.get(name, ""), value)
    elif name not in _LONG_IGNORED:
        raise UsageError(f"invalid argument: `{shown(word, 60)}'")
    return at
