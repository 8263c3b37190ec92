"""dma.conf: C dma's grammar read tolerantly."""

import os
import pathlib

import pytest

from dma_runtime import config, machineid
from dma_runtime.config import Host
from dma_runtime.errors import EX_CONFIG, EX_NOINPUT, ConfigError, DmaError


def parse(text):
    return config.parse(text, "dma.conf")


def sound(text):
    return parse(text).sound()


def problem(text):
    found = parse(text)
    assert len(found.problems) == 1, found.problems
    return found.problems[0]


def test_a_queue_for_each_machine(monkeypatch, tmp_path):
    monkeypatch.setattr(machineid, "FILES", (str(tmp_path / "id"),))
    (tmp_path / "id").write_text("0123abcd\n")
    assert sound("SPOOLDIR /home/alice/spool-%m").SPOOLDIR == "/home/alice/spool-0123abcd"
    (tmp_path / "id").unlink()
    assert os.uname().nodename in sound("SPOOLDIR /home/alice/spool-%m").SPOOLDIR


def test_defaults():
    found = sound("")
    assert (found.SMARTHOST, found.PORT, found.SPOOLDIR, found.RETRY) == (None, 25, "/var/spool/dma", (300, 10800))
    assert not found.STARTTLS


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("SMARTHOST mail.example.com", "SMARTHOST", Host("mail.example.com", 0)),
        ("SMARTHOST mail.example.com:587", "SMARTHOST", Host("mail.example.com", 587)),
        ("SMARTHOST [192.0.2.1]", "SMARTHOST", Host("192.0.2.1", 0)),
        ("SMARTHOST [2001:db8::1]:465", "SMARTHOST", Host("2001:db8::1", 465)),
        ("SMARTHOST [IPv6:2001:db8::1]", "SMARTHOST", Host("2001:db8::1", 0)),
        ("SMARTHOST 2001:db8::1", "SMARTHOST", Host("2001:db8::1", 0)),
        ("SMARTHOST /run/lmtp.sock\nLMTP", "SMARTHOST", Host("/run/lmtp.sock", 0)),
        ("PORT 587", "PORT", 587),
        ("PORT submission", "PORT", 587),
        ("PORT smtps", "PORT", 465),
        ("STARTTLS", "STARTTLS", True),
        ("STARTTLS   ", "STARTTLS", True),
        ("STARTTLS # why", "STARTTLS", True),
        ("STARTTLS yes", "STARTTLS", True),
        ("STARTTLS no", "STARTTLS", False),
        ("  SPOOLDIR /x", "SPOOLDIR", "/x"),
        ("SPOOLDIR   /x  ", "SPOOLDIR", "/x"),
        ("SPOOLDIR\t/x\r", "SPOOLDIR", "/x"),
        ("SPOOLDIR /a#b", "SPOOLDIR", "/a#b"),
        ("SPOOLDIR /a #b", "SPOOLDIR", "/a"),
        ("MASQUERADE me@host", "MASQUERADE", ("me", "host")),
        ("MASQUERADE me@", "MASQUERADE", ("me", "")),
        ("MASQUERADE host", "MASQUERADE", ("", "host")),
        ("MASQUERADE a@b@host", "MASQUERADE", ("a@b", "host")),
        ("FINGERPRINT " + "AB:" * 31 + "AB", "FINGERPRINT", "ab" * 32),
        ("RETRY 1m 2h", "RETRY", (60, 7200)),
        ("EXPIRE 3d", "EXPIRE", 259200),
        ("MAXSIZE 10M", "MAXSIZE", 10 << 20),
        ("MAILNAME box.example", "MAILNAME", "box.example"),
        ("MAILNAME my_box", "MAILNAME", "my_box"),
        ("MAILNAME /etc/mailname", "MAILNAME", "/etc/mailname"),
        ("MAILNAME bücher.example", "MAILNAME", "xn--bcher-kva.example"),
        ("MAXSIZE 0", "MAXSIZE", 1 << 62),
        ("MINFREE 5%", "MINFREE", (0, 5)),
        ("RATE 30/m 500/d", "RATE", ((30, 60), (500, 86400))),
        ("FALLBACK a b:587", "FALLBACK", (Host("a", 0), Host("b", 587))),
    ],
)
def test_value(line, key, value):
    assert getattr(sound(line), key) == value


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("PORT x", "PORT needs a port number"),
        ("PORT 0", "PORT needs a port number"),
        ("PORT 70000", "PORT needs a port number"),
        ("SMARTHOST", "SMARTHOST needs a host name"),
        ("SMARTHOST a b", "SMARTHOST needs a host name"),
        ("SMARTHOST host:", "needs a port"),
        ("STARTTLS maybe", "STARTTLS takes no value"),
        ("FINGERPRINT", "64 hexadecimal digits"),
        ("FINGERPRINT abc", "64 hexadecimal digits"),
        ("SPOOLDIR spool", "absolute path"),
        ("RETRY 5m", "two durations"),
        ("RETRY 3h 5m", "two durations"),
        ("EXPIRE soon", "duration"),
        ("TIMEOUT 0s", "duration above zero"),
        ("CONNECTTIMEOUT 0", "duration above zero"),
        ("MAXCONNECTIONS 0", "above zero"),
        ("MASQUERADE a b@c", "without blanks"),
        ("MAILNAME my host", "a host name or an absolute path"),
        ("MAILNAME me@x.test", "a host name or an absolute path"),
        ("MAILNAME .", "a host name or an absolute path"),
    ],
)
def test_bad_value_names_file_line_and_what_was_expected(line, words):
    error = problem("\n\n" + line)
    assert error.status == EX_CONFIG
    assert error.text.startswith("dma.conf:3: ")
    assert words in error.text


def test_a_bad_value_does_not_hide_the_rest():
    found = parse("PORT x\nSMARTHOST a\n")
    assert Host("a", 0) == found.SMARTHOST
    with pytest.raises(ConfigError):
        found.sound()


def test_unknown_key_is_a_warning():
    found = sound("SMARTHOT a\nSECURE\nport 25\n")
    assert [w.split(" ignored")[0] for w in found.warnings] == [
        "dma.conf:1: unknown key SMARTHOT",
        "dma.conf:2: unknown key SECURE",
        "dma.conf:3: unknown key port",
    ]
    assert "SECURETRANSFER" in found.warnings[1]
    assert "PORT" in found.warnings[2]


def test_last_one_wins():
    assert sound("PORT 1\nPORT 2").PORT == 2


def test_nullclient_requires_smarthost():
    assert "NULLCLIENT requires SMARTHOST" in problem("NULLCLIENT").text
    sound("NULLCLIENT\nSMARTHOST a")


def test_key_without_effect_says_so():
    (warning,) = sound("VIRTPATH /x").warnings
    assert "no effect in this version" in warning


def test_rewritefrom_without_an_address_to_write():
    (warning,) = sound("PORT 25\nREWRITEFROM").warnings
    assert warning.startswith("dma.conf:2: REWRITEFROM without MASQUERADE")
    assert not sound("REWRITEFROM\nMASQUERADE a@b").warnings
    assert not sound("REPLACEFROM a@b").warnings
    assert not sound("REWRITEFROM no").warnings


def test_every_key_has_a_sentence():
    for name, key in config.KEYS.items():
        assert key.says.endswith("."), name
        assert name == key.name == name.upper()


def test_missing_file_means_defaults(tmp_path):
    assert config.load(str(tmp_path / "none")).sound().PORT == 25


def test_unreadable_file_is_66(tmp_path):
    with pytest.raises(DmaError, match="can not open config") as caught:
        config.load(str(tmp_path))
    assert caught.value.status == EX_NOINPUT


def test_any_bytes_can_be_read(tmp_path):
    path = tmp_path / "c"
    path.write_bytes(bytes(range(256)) * 3 + b"\nPORT 99\n")
    assert config.load(str(path)).PORT == 99


class TestWhichFile:
    @pytest.fixture
    def home(self, tmp_path):
        (tmp_path / ".config/dma").mkdir(parents=True)
        return tmp_path

    def write(self, path, text):
        path.write_text(text)
        return str(path)

    def test_option_wins(self, home):
        named = self.write(home / "a", "PORT 1\n")
        other = self.write(home / "b", "PORT 2\n")
        assert config.find(named, {"DMA_CONF": other}, 1, 1).PORT == 1

    def test_environment(self, home):
        assert config.find(None, {"DMA_CONF": self.write(home / "b", "PORT 2\n")}, 1, 1).PORT == 2

    def test_foreign_option_is_ignored_with_a_warning(self, home):
        other = self.write(home / "b", "PORT 2\n")
        found = config.find(self.write(home / "sendmail.cf", "O DeliveryMode=b\n"), {"DMA_CONF": other}, 1, 1)
        assert found.PORT == 2
        assert "no known key" in found.warnings[0]

    @pytest.mark.parametrize(("name", "why"), [("sendmail.cf", "No such file"), ("postfix", "a directory")])
    def test_what_other_mail_agents_have_there_is_ignored_too(self, home, name, why):
        (home / "postfix").mkdir()
        found = config.find(str(home / name), {"DMA_CONF": self.write(home / "b", "PORT 2\n")}, 1, 1)
        assert found.PORT == 2
        assert found.warnings[0].startswith(f"{home / name}: {why}")

    def test_any_other_name_that_is_not_there_means_the_defaults(self, home):
        found = config.find(str(home / "none.conf"), {"DMA_CONF": self.write(home / "b", "PORT 2\n")}, 1, 1)
        assert (found.PORT, found.wanted) == (25, str(home / "none.conf"))

    def test_user_mode(self, home):
        self.write(home / ".config/dma/dma.conf", "PORT 3\n")
        found = config.find(None, {"HOME": str(home)}, 1, 1)
        assert (found.PORT, found.user_mode) == (3, True)
        assert f"{home}/.local/state/dma/spool" == found.SPOOLDIR
        assert f"{home}/.config/dma/auth.conf" == found.AUTHPATH

    def test_user_mode_xdg(self, home):
        (home / "c/dma").mkdir(parents=True)
        self.write(home / "c/dma/dma.conf", "SPOOLDIR /s\n")
        found = config.find(None, {"HOME": "/x", "XDG_CONFIG_HOME": f"{home}/c", "XDG_STATE_HOME": "/y"}, 1, 1)
        assert ("/s", f"{home}/c/dma/auth.conf") == (found.SPOOLDIR, found.AUTHPATH)

    def test_root_never_reads_user_mode(self, home):
        self.write(home / ".config/dma/dma.conf", "PORT 3\n")
        assert not config.find(None, {"HOME": str(home)}, 0, 0).user_mode

    def test_nothing_of_the_caller_when_ids_differ(self, home):
        named = self.write(home / "a", "PORT 1\n")
        found = config.find(named, {"DMA_CONF": named, "HOME": str(home)}, 1, 2)
        assert found.PORT != 1


def test_the_readmes_of_c_dma_parse(tmp_path):
    """Uncommenting any line of C dma's own sample never stops mail (known-failures.md, Configuration)."""
    sample = pathlib.Path(__file__).with_name("dma.conf.sample").read_text()
    lines = [line.lstrip("#") for line in sample.splitlines() if line[:1] == "#" and line[1:2].isupper()]
    assert len(lines) > 10
    for line in lines:
        found = parse("SMARTHOST mail.example.com\n" + line)
        assert not found.problems, line
