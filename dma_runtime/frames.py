"""Frames: how the programs of one machine hand each other messages over a local socket.

    kind (1 byte)  length (4 bytes, big-endian)  payload

    H  the request, one JSON object (ASCII); first, and once
    D  a piece of the message, LF line ends
    C  the commit: how many bytes of message there were, in decimal digits
    A  "accepted": from here on the mail is safe; the payload is its id
    O  bytes for standard output      L  a line for standard error
    R  a result, one JSON object
    S  the end: `STATUS TEXT`, an exit status of sysexits(3) and a line for people, which may be empty

Rules:
- **Without the commit frame, and with a count that is not what came, nothing is accepted.**
- Lengths are checked before anything is kept: each kind has its limit. A frame that is too long, or of an unknown kind in
  upper case, is `BadFrame` and the end of the conversation. An unknown kind in lower case is passed over: a later version
  may send what an earlier one need not understand.
- A request says `"v"`, the version its sender speaks, for people. Unknown names in it are passed over; what must not be
  passed over is also named in `"needs"`, and a receiver that does not know it refuses.
- Strings are text as the command line gives it: what is not UTF-8 is kept as surrogate escapes. Any other lone surrogate,
  and a value of the wrong kind, is `BadFrame`.

Pure: bytes in, values out. The sending half is on the submit path: built-in modules only; json is imported by `read_object`.
"""

from __future__ import annotations

from dma_runtime.envelope import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]

VERSION = 1
CHUNK = 1 << 16  # bytes of message a frame is sent with

HEADER, DATA, COMMIT = b"H", b"D", b"C"
ACCEPTED, OUTPUT, LINE, RESULT, STATUS = b"A", b"O", b"L", b"R", b"S"

_HEAD = 5  # bytes before the payload
_LIMITS = {
    HEADER: 1 << 20, DATA: 1 << 18, COMMIT: 20,
    ACCEPTED: 256, OUTPUT: 1 << 18, LINE: 1 << 13, RESULT: 1 << 16, STATUS: 1 << 13,
}  # fmt: skip
_PASSED_OVER = 1 << 16  # bytes a frame of an unknown kind may have


class BadFrame(Exception):
    """The other side does not keep to the protocol; the text says how."""


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    """One frame. Raises ValueError when the payload is longer than its kind may be."""
    if len(payload) > _LIMITS[kind]:
        raise ValueError(f"a frame {kind.decode()} of {len(payload)} bytes")
    return kind + len(payload).to_bytes(4, "big") + payload


def status(number: int, said: str = "") -> bytes:
    """The frame that ends a conversation."""
    return frame(STATUS, f"{number} {said}".encode("utf-8", "backslashreplace")[:4096])


def read_status(payload: bytes) -> tuple[int, str]:
    """(exit status, text) of a status frame. Raises BadFrame."""
    number, _, said = payload.partition(b" ")
    if not (number.isdigit() and len(number) <= 3 and int(number) < 256):
        raise BadFrame("a status that is none")
    return int(number), said.decode("utf-8", "replace")


class Parser:
    """Frames out of bytes, however they are cut."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The frames complete so far, as (kind, payload). Raises BadFrame. At most one incomplete frame is kept."""
        self._data += data
        while (found := self._next()) is not None:
            if found[0] in _LIMITS:
                yield found

    def _next(self) -> tuple[bytes, bytes] | None:
        if not self._data:
            return None
        kind = bytes(self._data[:1])
        limit = _LIMITS.get(kind, _PASSED_OVER if kind.islower() else -1)
        if limit < 0:
            raise BadFrame("not a frame of this protocol")
        if len(self._data) < _HEAD:
            return None
        length = int.from_bytes(self._data[1:_HEAD], "big")
        if length > limit:
            raise BadFrame(f"a frame {kind.decode()} of {length} bytes, where {limit} are allowed")
        if len(self._data) < _HEAD + length:
            return None
        payload = bytes(self._data[_HEAD : _HEAD + length])
        del self._data[: _HEAD + length]
        return kind, payload

    @property
    def waiting(self) -> int:
        """Bytes kept of a frame that is not complete."""
        return len(self._data)


class Body:
    """The message behind the request. `whole` once the commit frame has come; `size` in bytes."""

    __slots__ = ("size", "whole")

    def __init__(self) -> None:
        self.size = 0
        self.whole = False

    def take(self, kind: bytes, payload: bytes) -> bytes:
        """The bytes of message in this frame. Raises BadFrame for anything but DATA and one true COMMIT at the end."""
        if self.whole:
            raise BadFrame("something behind the commit")
        if kind == DATA:
            self.size += len(payload)
            return payload
        if kind != COMMIT:
            raise BadFrame(f"a frame {kind.decode()} inside a message")
        if not payload.isdigit() or int(payload) != self.size:
            raise BadFrame(f"the message was cut short: {self.size} bytes came of {payload.decode('ascii', 'replace')}")
        self.whole = True
        return b""


# ---------------------------------------------------------------- JSON objects


def json_object(fields: dict[str, Json]) -> bytes:
    """One JSON object in ASCII."""
    return _json(fields).encode("ascii")


def _json(value: Json) -> str:
    if isinstance(value, str):
        return text(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ",".join(_json(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{text(name)}:{_json(item)}" for name, item in value.items()) + "}"
    return repr(value)


def read_object(payload: bytes, kinds: dict[str, type], known: tuple[str, ...] = ()) -> dict[str, Json]:
    """The JSON object in `payload`, with those names of `kinds` that it has; each value is of its kind there, `list` being
    a list of strings, `dict` one of strings to strings. `float` takes a whole number too.

    Raises BadFrame, also when the object needs what is not `known`.
    """
    import json

    try:
        said = json.loads(payload)
    except (ValueError, RecursionError):
        raise BadFrame("a request that is no JSON") from None
    if not isinstance(said, dict):
        raise BadFrame("a request that is no JSON object")
    version = said.get("v")
    if type(version) is not int or version < 1:
        raise BadFrame("a request without a version")
    needs = said.get("needs", [])
    if not isinstance(needs, list):
        raise BadFrame("needs of the wrong kind")
    for need in needs:
        if need not in known:
            raise BadFrame(f"this version ({VERSION}) does not know {str(need)[:60]!r}, which version {version} asks for")
    return {name: _checked(name, kind, said[name]) for name, kind in kinds.items() if name in said}


def _checked(name: str, kind: type, value: object) -> Json:
    if kind is str and isinstance(value, str):
        return _clean(name, value)
    if kind is list and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [_clean(name, item) for item in value]
    if kind is dict and isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
        return {_clean(name, key): _clean(name, item) for key, item in value.items()}
    if kind is bool and isinstance(value, bool):
        return value
    if kind in (int, float) and not isinstance(value, bool):
        if isinstance(value, int) and abs(value) < 1 << 53:
            return kind(value)
        if kind is float and isinstance(value, float) and abs(value) < 1 << 53:  # and no NaN
            return value
    raise BadFrame(f"{name} of the wrong kind")


def _clean(name: str, value: str) -> str:
    if value.isascii():
        return value
    try:
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise BadFrame(f"{name} holds what is no text") from None
