"""Bodies in another Content-Transfer-Encoding (RFC 2045 6.7, 6.8), in constant memory, LF line ends in and out.

What comes in is the stored form of text whose real line ends are CRLF. quoted-printable keeps lines as lines; base64
encodes them as CRLF, which is what a relay that takes the bytes as they are would have been given.

A soft break never puts a `-` at the start of a line: it could make a delimiter of an enclosing multipart.

Each function takes an iterator of chunks and gives one. Decoding gives back every byte, NUL and bare CR included.
"""

from __future__ import annotations

import binascii
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LINE = 76  # characters, RFC 2045 6.7 (5) and 6.8
_LONGEST = 990  # of a line that is left as it is: 998 (RFC 5321 4.5.3.1.6) and room for a soft break
_PIECE = 1 << 16  # bytes of a line without an end that are encoded at once
_ROW = 57  # bytes that make one line of base64
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_NOT_BASE64 = bytes(c for c in range(256) if c not in _ALPHABET)
_UNFIT = re.compile(rb"[^\t -<>-~]|[ \t]\Z")  # for quoted-printable
_DIGITS = b"0123456789ABCDEFabcdef"
_HEX = [b"=%02X" % c for c in range(256)]


def quoted_printable(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Encode. Blanks at a line's end, NUL, CR and bytes above 127 are written as =XX; long lines get soft breaks."""
    rest = b""
    broken = False  # a soft break stands before `rest`
    for chunk in chunks:
        data = rest + chunk
        cut = data.rfind(b"\n") + 1
        rest = data[cut:]
        if cut:
            yield _quoted(data[:cut], broken)
            broken = False
        if len(rest) > _PIECE:
            yield _quoted(rest, broken) + b"=\n"
            rest, broken = b"", True
    if rest:
        yield _quoted(rest, broken)


def _quoted(data: bytes, broken: bool) -> bytes:
    if b"\r" not in data and not broken:
        encoded = binascii.b2a_qp(data, quotetabs=False, istext=True)
        if b"=\n-" not in encoded:
            return encoded
    out: list[bytes] = []  # b2a_qp leaves a bare CR as it is, and does not look at what follows a soft break
    for line in _lines(data):
        _quote(line.removesuffix(b"\n"), out, broken)
        broken = False
        if line.endswith(b"\n"):
            out.append(b"\n")
    return b"".join(out)


def _lines(data: bytes) -> list[bytes]:
    """Split behind LF only; bytes.splitlines would split at a bare CR too."""
    parts = data.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _quote(text: bytes, out: list[bytes], broken: bool) -> None:
    """Append one line, without its end; `broken`: it goes on behind a soft break."""
    line = _UNFIT.sub(lambda found: _HEX[found[0][0]], text)
    lead, at = b"", 0  # the piece that is being made: `lead`, and what stands from `at` on
    if broken and line.startswith(b"-"):
        lead, at = _HEX[0x2D], 1
    while len(lead) + len(line) - at > _LINE - 1:
        end = at + _LINE - 1 - len(lead)
        if line[end - 1] == 0x3D:
            end -= 1
        elif line[end - 2] == 0x3D:
            end -= 2
        out.append(lead + line[at:end] + b"=\n")
        lead, at = (_HEX[0x2D], end + 1) if line[end] == 0x2D else (b"", end)
    out.append(lead + line[at:])


def base64(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Encode, line ends as CRLF; ends without a line end, as what it replaces does."""
    rest = b""
    first = True
    for chunk in chunks:
        data = rest + chunk.replace(b"\n", b"\r\n")
        whole = len(data) - len(data) % _ROW
        rest = data[whole:]
        rows = [binascii.b2a_base64(data[at : at + _ROW], newline=False) for at in range(0, whole, _ROW)]
        if rows:
            yield (b"" if first else b"\n") + b"\n".join(rows)
            first = False
    if rest:
        yield (b"" if first else b"\n") + binascii.b2a_base64(rest, newline=False)


def rewrapped_base64(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """base64 again in lines of 76; what is not of its alphabet is ignored by every decoder (RFC 2045 6.8)."""
    rest = b""
    first = True
    for chunk in chunks:
        data = rest + chunk.translate(None, _NOT_BASE64)
        whole = len(data) - len(data) % _LINE
        rest = data[whole:]
        rows = [data[at : at + _LINE] for at in range(0, whole, _LINE)]
        if rows:
            yield (b"" if first else b"\n") + b"\n".join(rows)
            first = False
    if rest:
        yield (b"" if first else b"\n") + rest


def requoted(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """quoted-printable again: soft breaks in long lines, never within =XX; bytes that cannot travel as =XX."""
    column = 0
    held = b""
    for chunk in chunks:
        data = held + chunk
        cut = data.rfind(b"=", max(0, len(data) - 2))  # `=X` may go on in the next chunk
        held, data = (data[cut:], data[:cut]) if cut >= 0 else (b"", data)
        out: list[bytes] = []
        column = _requote(data, column, out)
        yield b"".join(out)
    out = []
    _requote(held, column, out)
    yield b"".join(out)


def _requote(data: bytes, column: int, out: list[bytes]) -> int:
    for line in _lines(data):
        text, ended = (line[:-1], True) if line.endswith(b"\n") else (line, False)
        if text.isascii() and b"\0" not in text and b"\r" not in text and column + len(text) <= _LONGEST:
            out.append(line)
            column = 0 if ended else column + len(text)
            continue
        at = 0
        while at < len(text):
            width = 3 if text[at] == 0x3D and len(text) - at >= 3 and not text[at + 1 : at + 3].translate(None, _DIGITS) else 1
            piece = text[at : at + width]
            # A `=` that starts nothing is shown as such (RFC 2045 6.7, end).
            if width == 1 and (piece[0] >= 0x80 or piece[0] in b"\0\r" or (piece == b"=" and at < len(text) - 1)):
                piece = _HEX[piece[0]]
            # `=` at the end is a soft break of its own already.
            if column + len(piece) > _LINE - 1 and text[at:] != b"=":
                out.append(b"=\n")
                column = 0
                piece = _HEX[0x2D] if piece == b"-" else piece
            out.append(piece)
            column += len(piece)
            at += width
        if ended:
            out.append(b"\n")
            column = 0
    return column
