"""A sign-in that cannot go on."""


class Stuck(Exception):
    """The server asks for what the mechanism does not have, or gives what it must not; the text says what."""
