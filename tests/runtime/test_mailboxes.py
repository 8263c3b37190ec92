"""What the daemon asks of the mailbox process, and what a home that does not answer costs. Real users:
tests/interop/test_mailbox_process.py."""

import socket
import threading
import time

import pytest

from dma_runtime import config, frames, posting
from dma_runtime.delivery import mailboxes


class Process:
    """A mailbox process that reads the question and then does what `answer(connection)` does."""

    def __init__(self, directory, answer):
        self.asked = 0
        self.bell = socket.socket(socket.AF_UNIX)
        self.bell.bind(str(directory / mailboxes.NAME))
        self.bell.listen(10)
        self.answer = answer
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        kept = []
        while True:
            connection, _ = self.bell.accept()
            connection.recv(65536)
            self.asked += 1
            self.answer(connection)
            kept.append(connection)


@pytest.fixture
def conf(tmp_path):
    return config.parse(f"SOCKET {tmp_path}/submit.sock\n", "dma.conf")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(mailboxes, "FORWARD_WAIT", 0.3)
    mailboxes._silent.clear()


def test_a_home_that_does_not_answer_is_waited_for_once_a_minute(tmp_path, conf):
    now = [1000.0]
    process = Process(tmp_path, lambda connection: None)
    began = time.monotonic()
    with pytest.raises(OSError, match="gave no answer within"):
        mailboxes.forward_of("mallory", conf, clock=lambda: now[0])
    assert 0.2 < time.monotonic() - began < 2
    now[0] += 59
    with pytest.raises(OSError, match="did not answer a moment ago"):
        mailboxes.forward_of("mallory", conf, clock=lambda: now[0])
    assert process.asked == 1
    now[0] += 2
    process.answer = lambda connection: connection.sendall(posting.encode_forward("a@x\n"))
    assert mailboxes.forward_of("mallory", conf, clock=lambda: now[0]) == ("a@x\n", "")
    process.answer = lambda connection: connection.sendall(posting.encode_forward(None))
    assert mailboxes.forward_of("mallory", conf, clock=lambda: now[0]) == (None, "")


def test_what_went_wrong_otherwise_is_no_reason_to_wait(tmp_path, conf):
    answers = [frames.frame(frames.RESULT, b"nonsense"), b""]
    process = Process(tmp_path, lambda connection: (connection.sendall(answers.pop(0)), connection.shutdown(socket.SHUT_RDWR)))
    for _ in range(2):
        with pytest.raises(OSError, match=r"no JSON|without an answer"):
            mailboxes.forward_of("alice", conf)
    process.answer = lambda connection: connection.sendall(posting.encode_forward(None))
    assert mailboxes.forward_of("alice", conf) == (None, "")
