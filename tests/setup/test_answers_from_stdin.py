"""`--answers -`: the format is told by how the answers begin."""

import pytest
from setup_home import Home


@pytest.mark.parametrize(
    "text",
    [
        "host: relay.example.org\nlogin: ''\nsender: ''\nroot_mail: a@example.org\n",
        '{"host": "relay.example.org", "login": "", "sender": "", "root_mail": "a@example.org"}',
        'host = "relay.example.org"\nlogin = ""\nsender = ""\nroot_mail = "a@example.org"\n',
        '# answers\n\n"host"="relay.example.org"\nlogin=""\nsender=""\nroot_mail="a@example.org"\n',
    ],
    ids=["yaml", "json", "toml", "toml with a comment"],
)
def test_each_format(text, tmp_path):
    done = Home(tmp_path / "home").run("smarthost", "--user", "--answers", "-", "--check", given=text)
    assert (done.returncode, done.stderr) == (3, "")
    assert "send everything via relay.example.org" in done.stdout


def test_what_is_none_of_them_is_one_line(tmp_path):
    done = Home(tmp_path / "home").run("smarthost", "--user", "--answers", "-", "--check", given="host relay.example.org\n")
    assert done.returncode == 2
    assert done.stderr == "dma-setup: standard input:1: must hold answers, one `key: value` a line\n"
