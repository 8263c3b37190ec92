"""The name we greet relays with: always a valid one (RFC 5321 4.1.1.1, 4.1.3).

A relay may answer 501 or 504 to a bare or malformed name (`my_box`), so the first of our names that is a fully qualified
one is used, and without any an address literal.
"""

LITERAL = "[127.0.0.1]"


def is_qualified(name: str) -> bool:
    """Whether `name` is a fully qualified host name: two or more labels of letters, digits and inner hyphens."""
    labels = name.split(".")
    return (
        len(labels) > 1
        and len(name) <= 253
        and all(
            0 < len(label) <= 63
            and label.isascii()
            and label.replace("-", "").isalnum()
            and not label.startswith("-")
            and not label.endswith("-")
            for label in labels
        )
        and not labels[-1].isdigit()
    )


def greeting(*names: str) -> str:
    """The first of `names` that is fully qualified, else an address literal."""
    for name in names:
        if is_qualified(name.rstrip(".")):
            return name.rstrip(".")
    return LITERAL
