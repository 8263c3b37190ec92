"""Text from outside made fit to be shown: in the log, in listings, in reports, on a terminal.

A relay's reply or a header is not ours; it may hold line ends, escape sequences or megabytes. Wherever it is shown
it is one line, cut to 512 bytes, its control characters escaped (hard-parts.md, Meaning of failures).
"""

LIMIT = 512  # bytes


def shown(text: str, limit: int = LIMIT) -> str:
    """One printable line of at most `limit` UTF-8 bytes; line ends become ` / `, other controls `\\xNN`."""
    flat = text.strip("\r\n").replace("\r\n", " / ").replace("\n", " / ")
    if not flat.isprintable():
        flat = "".join(c if c.isprintable() else escape(c) for c in flat)
    data = flat.encode("utf-8", "backslashreplace")
    if len(data) > limit:
        flat = data[: limit - 3].decode("utf-8", "ignore") + "..."
    return flat


def escape(character: str) -> str:
    """`\\xNN`, `\\uNNNN` …; the bytes behind a surrogate escape are shown as those bytes."""
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
