"""What ends an owner, and who starts it again."""

import errno

import pytest

from dma_runtime.cmd import daemon
from dma_runtime.config import parse
from dma_runtime.delivery.runs import Goal
from dma_runtime.errors import CannotSpool
from dma_runtime.system.maillog import MailLog


class Log(MailLog):
    def __init__(self):
        super().__init__(device="/nonexistent")
        self.lines = []

    def write(self, priority, text, id=""):
        self.lines.append(text)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Own a spool whose owner ends as `ends` says, one after the other; (status, log lines, seconds slept)."""
    config = parse(f"SPOOLDIR {tmp_path}/spool\n", "x")

    def own(*ends, **goal):
        waiting, slept, log = list(ends), [], Log()

        def hold(*_arguments, **_more):
            end = waiting.pop(0)
            if isinstance(end, Exception):
                raise end
            return end

        monkeypatch.setattr(daemon, "hold", hold)
        monkeypatch.setattr(daemon.time, "sleep", slept.append)
        try:
            status = daemon.own(config, log, Goal(**goal))
        except Exception as error:
            status = error
        assert waiting == []
        return status, log.lines, slept

    return own


FAULTS = [ZeroDivisionError("a bug"), OSError(errno.EIO, "Input/output error", "/spool/queue"), OSError(errno.EMFILE, "Too many")]


@pytest.mark.parametrize("fault", FAULTS)
def test_one_that_nobody_supervises_tries_again(own, fault):
    status, lines, slept = own(fault, fault, object())
    assert (status, slept) == (0, [daemon.AGAIN] * 2)
    assert len(lines) == 2
    assert str(fault.args[-1]) in lines[0]


@pytest.mark.parametrize("fault", FAULTS)
def test_one_that_is_supervised_ends_and_says_why(own, fault):
    status, lines, slept = own(fault, resident=True)
    assert (status, slept, len(lines)) == (fault, [], 1)


@pytest.mark.parametrize("fault", [CannotSpool("no", 73), PermissionError(13, "no", "x"), FileNotFoundError(2, "gone", "x")])
def test_what_will_not_pass_by_itself_ends_it(own, fault):
    status, _, slept = own(fault)
    assert (status, slept) == (fault, [])


def test_a_spool_that_it_may_not_write_is_73_as_for_the_other_programs(tmp_path, monkeypatch, capsys):
    conf = tmp_path / "dma.conf"
    conf.write_text(f"SPOOLDIR {tmp_path}/spool\n")
    conf.chmod(0o600)

    def hold(*_arguments, **_more):
        raise PermissionError(errno.EACCES, "Permission denied", f"{tmp_path}/spool/lock")

    monkeypatch.setattr(daemon, "hold", hold)
    monkeypatch.setattr(daemon, "stand_by", lambda: None)
    monkeypatch.setattr(daemon.rlimits, "widen", lambda **_: daemon.LEAST)  # not of the tests' own process
    assert daemon.main(["-C", str(conf)]) == 73
    assert capsys.readouterr().err == f"dmad: {tmp_path}/spool/lock: Permission denied\n"
