"""What `sendmail` asks of the machine's daemon: the header frame of the hand-over (`frames`), in both directions.

do:         submit (a message follows), list (mailq), rows (dma-queue list), run (-q), verify (-bv)
sender:     the text of -f, None without it          name:       that of -F
recipients: words of the command line, as they are   extract:    -t
queue_only: -bq                                      foreground: -D, also with run
dsn_notify, dsn_return, dsn_envelope: -N, -R, -V
dsn_recipients: `NOTIFY;ORCPT` for each recipient, where they differ (-bs), else an empty list
requiretls: REQUIRETLS of -bs; a receiver that does not know it refuses
environ:    LOGNAME, USER, EMAIL, if they are set    terminal:   standard error is one: the standing notices are wanted

Nothing in it says who the caller is: that is the kernel's to say. What is policy (sender, aliases, header, recipients,
limits) is the daemon's; the caller has made the message LF-only and cut it at a lone dot, unless -i.

A name that is missing has the value of an ordinary submission. Later versions add names; see `frames` for `needs`.
Built-in modules only.
"""

from __future__ import annotations

from dma_runtime import frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dma_runtime.frames import Json

SUBMIT, LIST, ROWS, RUN, VERIFY = "submit", "list", "rows", "run", "verify"
ENVIRON = ("LOGNAME", "USER", "EMAIL")
KNOWN: tuple[str, ...] = ("requiretls",)  # what a request may need; names come with later versions

_KINDS: dict[str, type] = {
    "do": str, "name": str, "recipients": list, "extract": bool, "queue_only": bool, "foreground": bool, "dsn_notify": str,
    "dsn_recipients": list, "dsn_return": str, "dsn_envelope": str, "environ": dict, "terminal": bool, "requiretls": bool,
}  # fmt: skip


class Request:
    """See the module's docstring."""

    __slots__ = ("sender", *_KINDS)

    def __init__(self, do: str = SUBMIT) -> None:
        self.do = do
        self.sender: str | None = None
        self.name = ""
        self.recipients: list[str] = []
        self.extract = False
        self.queue_only = False
        self.foreground = False
        self.dsn_notify = ""
        self.dsn_recipients: list[str] = []
        self.dsn_return = ""
        self.dsn_envelope = ""
        self.environ: dict[str, str] = {}
        self.terminal = False
        self.requiretls = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Request) and all(getattr(self, n) == getattr(other, n) for n in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # compared, never a key

    def __repr__(self) -> str:
        return f"Request({self.do}, {self.recipients})"


def encode(request: Request) -> bytes:
    """The header frame. Raises ValueError when it is too long."""
    plain = Request(request.do)
    fields: dict[str, Json] = {"v": frames.VERSION, "do": request.do}
    for name in Request.__slots__:
        value = getattr(request, name)
        if value != getattr(plain, name):
            fields[name] = value
    if request.requiretls:
        fields["needs"] = ["requiretls"]
    return frames.frame(frames.HEADER, frames.json_object(fields))


def decode(payload: bytes) -> Request:
    """The request in the payload of a header frame. Raises frames.BadFrame."""
    said = frames.read_object(payload, {**_KINDS, "sender": str}, KNOWN)
    request = Request()
    for name, value in said.items():
        setattr(request, name, value)
    request.environ = {name: value for name, value in request.environ.items() if name in ENVIRON}
    return request
