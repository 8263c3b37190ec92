"""Faults at system calls of a real program: strace's injection (package strace).

    for call in strace.calls(argv, ...)        what it did, in order
    strace.run(argv, inject="fsync:signal=KILL:when=2", ...)

A call is counted by its name, as strace does: `nth` is which of that name it is, from 1, in its thread.
"""

import re
import shutil
import subprocess

import pytest

PROGRAM = shutil.which("strace")
# Calls that touch nothing anybody else sees, and whose number differs from run to run.
PRIVATE = {"brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "futex", "getrandom", "gettid", "sched_yield"}
LINE = re.compile(r"^(\d+)\s+(\w+)\((.*)$")


class Call:
    def __init__(self, name, nth, text):
        self.name = name
        self.nth = nth
        self.text = text

    def __repr__(self):
        return f"{self.name}#{self.nth}({self.text[:80]}"


def needed():
    """Skip, loudly, where strace or the right to trace is missing."""
    if PROGRAM is None:
        pytest.skip("needs strace: apt install strace")
    if subprocess.run([PROGRAM, "-o", "/dev/null", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to trace processes (ptrace)")


def run(argv, *, trace, inject=(), calls=None, **keywords):
    """The CompletedProcess. `trace`: file for the calls; `calls`: only these names, which is quicker; `inject`: one or more
    injections."""
    words = [PROGRAM, "-f", "-qq", "-s", "200", "-o", str(trace)]
    injections = [inject] if isinstance(inject, str) else list(inject)
    names = calls or [injection.split(":")[0] for injection in injections]
    if names and names != ["all"]:
        # With --seccomp-bpf strace 6.1 injects errors but no signals.
        quick = [] if any(":signal=" in injection for injection in injections) else ["--seccomp-bpf"]
        words += [*quick, "-e", "trace=" + ",".join(sorted(set(names)))]
    for injection in injections:
        words += ["-e", "inject=" + injection]
    return subprocess.run([*words, *map(str, argv)], capture_output=True, **keywords)


def read(trace):
    """The calls of a trace, in the order they began, private ones left out; nth counts per thread."""
    found, counts = [], {}
    for line in trace.read_text(errors="replace").splitlines():
        match = LINE.match(line)
        if match is None:
            continue
        thread, name, text = match.groups()
        key = (thread, name)
        counts[key] = counts.get(key, 0) + 1
        if name not in PRIVATE:
            found.append(Call(name, counts[key], text))
    return found


def since(calls, text, names=()):
    """The calls from the first that mentions `text` on; with `names` only those, each (name, nth) once.

    Threads count for themselves, so an injection hits whoever comes first: what an earlier call would take is left out.
    """
    first = next(index for index, call in enumerate(calls) if text in call.text)
    if not names:
        return calls[first:]
    seen = {(call.name, call.nth) for call in calls[:first]}
    found = []
    for call in calls[first:]:
        if call.name in names and (call.name, call.nth) not in seen:
            seen.add((call.name, call.nth))
            found.append(call)
    return found
