"""Names: the caller's, the host's, the mail's."""

import os
import pwd

import pytest

from dma_runtime import config
from dma_runtime.system import identity


def mail_name(conf):
    return identity.mail_name(config.parse(conf, "f"))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mail.example.test\n", "mail.example.test"),
        ("  a.test  \nb\n", "a.test"),
        ("a.test # c\n", "a.test"),
        ("a_b-c.d", "a_b-c.d"),
    ],
)
def test_mailname_from_a_file_is_cut_at_the_first_odd_character(tmp_path, text, name):
    (tmp_path / "mailname").write_text(text)
    assert mail_name(f"MAILNAME {tmp_path}/mailname") == name
    assert mail_name(f"MAILNAMEFILE {tmp_path}/mailname") == name


@pytest.mark.parametrize("text", ["", "\n", "#x\n", "..."])
def test_without_a_name_it_is_the_hosts(tmp_path, text):
    (tmp_path / "mailname").write_text(text)
    assert mail_name(f"MAILNAME {tmp_path}/mailname") == identity.host_name()
    assert mail_name(f"MAILNAME {tmp_path}/absent") == identity.host_name()
    assert mail_name(f"MAILNAME {tmp_path}") == identity.host_name()


def test_a_fifo_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert mail_name(f"MAILNAME {tmp_path}/fifo") == identity.host_name()


def test_a_literal_name():
    assert mail_name("MAILNAME here.test") == "here.test"
    assert mail_name("MAILNAME bad\r\nname") == "bad"


def test_the_login_is_believed_only_with_the_right_uid():
    me = pwd.getpwuid(os.getuid()).pw_name
    other = next(entry.pw_name for entry in pwd.getpwall() if entry.pw_uid != os.getuid())
    assert identity.login_name(os.getuid(), {"LOGNAME": other, "USER": other}) == me
    assert identity.login_name(os.getuid(), {"LOGNAME": me}) == me
    assert identity.login_name(os.getuid(), {"LOGNAME": "no\0such"}) == me
    assert identity.login_name(4_000_000_000, {}) == "uid=4000000000"


def test_accounts_ignore_case_and_survive_odd_names():
    assert identity.account("ROOT") == "root"
    assert identity.account("no-such-user") == ""
    assert identity.account("a\0b") == ""
    assert identity.account("\udcff") == ""
