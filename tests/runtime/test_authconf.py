"""auth.conf: C dma's lines, references, ports."""

import pytest

from dma_runtime import authconf


def only(text):
    found = authconf.parse(text, "auth.conf")
    assert not found.problems
    (login,) = found.logins
    return login


@pytest.mark.parametrize(
    ("line", "user", "host", "port", "kind", "value"),
    [
        ("me|mail.example.com:secret", "me", "mail.example.com", 0, "literal", "secret"),
        ("me|mail.example.com|secret", "me", "mail.example.com", 0, "literal", "secret"),
        ("me|mail.example.com secret", "me", "mail.example.com", 0, "literal", "secret"),
        ("me|h\tse: c|r#et", "me", "h", 0, "literal", "se: c|r#et"),
        ("me@x|H.:p\r", "me@x", "h", 0, "literal", "p"),
        ("me|host:587:pw", "me", "host", 587, "literal", "pw"),
        ("me|host:587x:pw", "me", "host", 0, "literal", "587x:pw"),
        ("me|[2001:db8::1]:pw", "me", "2001:db8::1", 0, "literal", "pw"),
        ("me|h:keyring:", "me", "h", 0, "keyring", ""),
        ("me|h:credential:n", "me", "h", 0, "credential", "n"),
        ("me|h:file:/p q", "me", "h", 0, "file", "/p q"),
        ("me|h:command:/bin/x y", "me", "h", 0, "command", "/bin/x y"),
        ("me|h:literal:file:/x", "me", "h", 0, "literal", "file:/x"),
        ("me|h:465:keyring:", "me", "h", 465, "keyring", ""),
    ],
)
def test_line(line, user, host, port, kind, value):
    login = only(line)
    assert (login.user, login.host, login.port) == (user, host, port)
    assert (login.reference.kind, login.reference.value.reveal()) == (kind, value)


@pytest.mark.parametrize("line", ["me", "me|", "|host:pw", "me|host", "me|host:", "me|host:587:", "me|.:pw", "me|[]:pw"])
def test_bad_line_names_itself_and_hides_nothing_else(line):
    found = authconf.parse(f"# c\n\n{line}\na|b:hush\n", "auth.conf")
    assert [login.user for login in found.logins] == ["a"]
    (problem,) = found.problems
    assert problem.text.startswith("auth.conf:3: ")


def test_no_password_in_any_text():
    found = authconf.parse("me|h:hush1\nme|h2:literal:hush2\nhush3\n", "auth.conf")
    assert "hush" not in repr(found.logins) + "".join(p.text for p in found.problems)


def test_later_lines_win_and_a_port_is_closer():
    found = authconf.parse("a|h:1\nb|H.:2\nc|h:587:3\nd|other:4\n", "auth.conf")
    assert found.find("h", 25).user == "b"
    assert found.find("H", 587).user == "c"
    assert found.find("nowhere", 25) is None
