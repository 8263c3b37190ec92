"""The system's own mail agent: it may write the mailboxes of this machine's other users, and we may not.

Rules (hard-parts.md, Submitting, the last line on user mode):
- It is `/usr/sbin/sendmail` or `/usr/lib/sendmail`, if that is a program and not this one under that name.
- It is run with a fixed environment and the message on its standard input; `HANDED` in that environment makes our own
  program refuse to hand on in turn, so that a wrapper around us cannot make a loop.
- Its exit status is the answer: 0 accepted, 75 and whatever does not come from sysexits "try again", the rest final.

`find` and `deliverable` are on the submit path of local names: built-in modules only.
"""

from __future__ import annotations

from dma_runtime import posixos as os
from dma_runtime.errors import EX_DATAERR, EX_NOHOST, EX_NOPERM, EX_NOUSER, EX_OK, EX_UNAVAILABLE
from dma_runtime.outcome import DEFERRED, DELIVERED, FAILED, Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

PLACES = ("/usr/sbin/sendmail", "/usr/lib/sendmail")
HANDED = "DMA_HANDED_ON"
WAIT = 120.0  # seconds for it to take one message
_FINAL = (EX_DATAERR, EX_NOUSER, EX_NOHOST, EX_UNAVAILABLE, EX_NOPERM)


def find(places: tuple[str, ...] = ()) -> str:
    """The path of the system's own sendmail, "" when there is none or when it is this program."""
    if os.environment().get(HANDED):
        return ""
    for place in places or PLACES:
        if os.access(place, os.X_OK) and os.isfile(place) and not _is_us(place):
            return place
    return ""


def _is_us(place: str) -> bool:
    """Whether a program is a launcher of ours: those are short scripts that name the package."""
    try:
        fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False  # set-id programs may be executable and not readable
    try:
        return b"dma_runtime" in os.read(fd, 8192)
    except OSError:
        return False
    finally:
        os.close(fd)


def deliverable(login: str) -> bool:
    """Whether mail for a local name can get there: it is our own account, or somebody else can be asked."""
    import pwd

    try:
        ours = pwd.getpwnam(login).pw_uid == os.geteuid()
    except (KeyError, ValueError, UnicodeError):
        ours = False
    return ours or bool(find())


def hand_on(program: str, sender: str, login: str, message: Iterable[bytes], *, wait: float = WAIT) -> Outcome:
    """Give a message for `login` to `program`. Blocks; raises what `message` raises. The same message may be given
    twice when we are killed before its answer is on record (at least once)."""
    import subprocess
    import tempfile

    words = [program, "-i", "-f", sender or "<>", "--", login]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", HANDED: "1"}
    with tempfile.TemporaryFile() as whole:  # so that a program that stops reading does not stop us
        for chunk in message:
            whole.write(chunk)
        whole.seek(0)
        try:
            ran = subprocess.run(
                [os.fsencode(word) if word.isascii() else word.encode("utf-8", "surrogateescape") for word in words],
                stdin=whole,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=environment,
                cwd="/",
                timeout=wait,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Outcome(DEFERRED, f"{program} did not take the message within {wait:.0f} s", status="4.4.7")
        except OSError as error:
            return Outcome(DEFERRED, f"can not run {program}: {error.strerror}", status="4.3.0")
    if ran.returncode == EX_OK:
        return Outcome(DELIVERED, f"handed to {program} for {login}", status="2.0.0")
    said = ran.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
    text = f"{program} did not take the message (exit status {ran.returncode}): {said[0] if said else 'it said nothing'}"
    if ran.returncode in _FINAL:
        return Outcome(FAILED, text, status="5.1.1" if ran.returncode == EX_NOUSER else "5.3.0")
    return Outcome(DEFERRED, text, status="4.3.0")
