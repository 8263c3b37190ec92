"""Being process 1 of a container: signals passed on, orphans buried, the daemon's end is the container's end.

Process 1 gets the orphans of its container and no default action of any signal. So it stays what it is, a few pages of
memory, and the daemon is its child.
"""

from __future__ import annotations

import os
import signal

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def stand_by() -> None:
    """Return at once, except in process 1: there return in a child, and never in process 1 itself."""
    if os.getpid() != 1:
        return
    waited_for = {*_PASSED_ON, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, waited_for)
        return
    while True:
        number = signal.sigwait(waited_for)
        if number != signal.SIGCHLD:
            os.kill(child, number)
            continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                os._exit(0)
            if pid == child:
                os._exit(os.waitstatus_to_exitcode(status) % 256)
            if pid == 0:
                break
