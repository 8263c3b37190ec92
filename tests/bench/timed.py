"""Programs by the clock: `python -IS timed.py`, with what to run as JSON on standard input and what was seen on standard output.

A process of its own, and a small one, because what a program has at its peak begins with what its parent has (`ru_maxrss` is
kept across exec); and for the ways of going elsewhere first, so that no `chroot` program is measured along.
"""

import gc
import json
import os
import resource  # noqa: F401 os.wait4 needs it, and below a chroot it could not be found
import sys
import time


def timed(words, count, stdin, environment, at_once):
    """(seconds of each run, the largest peak in bytes, seconds of CPU of all, exits other than 0)."""
    null = os.open("/dev/null", os.O_WRONLY)
    seconds, rss, cpu, failed, begun, running = [], 0, 0.0, 0, 0, {}
    gc.disable()
    while len(seconds) < count:
        while len(running) < at_once and begun < count:
            begun += 1
            actions = [(os.POSIX_SPAWN_OPEN, 0, stdin, os.O_RDONLY, 0)]
            actions += [(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
            at = time.perf_counter()
            running[os.posix_spawn(words[0], words, environment, file_actions=actions)] = at
        pid, status, used = os.wait4(-1, 0)
        now = time.perf_counter()
        if pid in running:
            seconds.append(now - running.pop(pid))
            rss = max(rss, used.ru_maxrss * 1024)
            cpu += used.ru_utime + used.ru_stime
            failed += status != 0
    return seconds, rss, cpu, failed


def main():
    given = json.load(sys.stdin)
    root, uid = given.pop("root"), given.pop("uid")
    if root:
        os.chroot(root)
        os.chdir("/")
    if uid is not None:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    json.dump(timed(**given), sys.stdout)


if __name__ == "__main__":
    main()
