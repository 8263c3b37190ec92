"""A program in a terminal of 80 columns that a test can type into and read: pexpect for the line, pyte for the screen."""

import time

import pexpect
import pyte

LINES = 300  # long enough that nothing scrolls away


class VirtualTerminal:
    def __init__(self, words, environment, folder=None, columns=80):
        self._screen = pyte.Screen(columns, LINES)
        self._stream = pyte.Stream(self._screen)
        environment = {"TERM": "xterm-256color", "LANG": "C.UTF-8", **environment}
        self._child = pexpect.spawn(
            words[0],
            words[1:],
            env=environment,
            cwd=folder,
            dimensions=(LINES, columns),
            encoding="utf-8",
            codec_errors="replace",
        )
        self.raw = ""  # everything that was written, escape sequences included

    @property
    def text(self):
        """What the screen shows."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip() + "\n"

    def wait(self, text, seconds=30):
        """Until the screen shows `text` somewhere behind what was waited for before."""
        deadline = time.monotonic() + seconds
        start = getattr(self, "_seen", 0)
        while text not in self.text[start:]:
            assert time.monotonic() < deadline, f"{text!r} did not appear:\n{self.text}"
            if not self._read():
                assert text in self.text[start:], f"{text!r} did not appear before the end:\n{self.text}"
        self._seen = self.text.index(text, start) + len(text)
        return self

    def until(self, true, seconds=30):
        """Until the screen is as it should be: `true(text)`."""
        deadline = time.monotonic() + seconds
        while not true(self.text):
            assert time.monotonic() < deadline, f"it did not become so:\n{self.text}"
            assert self._read() or true(self.text), f"it ended before it became so:\n{self.text}"
        return self

    def _read(self):
        try:
            data = self._child.read_nonblocking(65536, 0.05)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += data
        self._stream.feed(data)
        return True

    def type(self, text, enter=True):
        self._child.send(text + ("\r" if enter else ""))
        return self

    def interrupt(self):
        self._child.send("\x03")
        return self

    def end(self, seconds=30):
        """Read to the end; the exit status."""
        deadline = time.monotonic() + seconds
        while self._read():
            assert time.monotonic() < deadline, f"it did not end:\n{self.text}"
        self._child.close()
        return self._child.exitstatus
