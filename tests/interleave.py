"""Every interleaving of a few processes: real code in threads of which one runs at a time, chosen by an explorer.

A process is a function; it gives up its turn at each `gate` that the code it calls meets, which is where it touches what
the processes share. `explore` plays every order of turns and prunes what was seen: a state is what is shared together with
where in the code each process is and the values its functions hold there, which decide what it does next.
"""

import sys
import threading


class Abandoned(BaseException):
    """This order was seen before; the process ends here."""


def _closed():
    """A plain lock, taken: release() lets one acquire() through. Far quicker than a semaphore."""
    lock = threading.Lock()
    lock.acquire()
    return lock


def plain(value):
    """A value as part of a state: objects count by their `as_seen()`, if they have one."""
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    if isinstance(value, (tuple, list, set, frozenset, dict)) or type(value).__name__ == "dict_keys":
        return tuple(sorted((plain(item) for item in value), key=repr))
    state = getattr(value, "as_seen", None)
    return (type(value).__name__, state() if callable(state) else None)


class Process:
    def __init__(self, run, name, function):
        self.run = run
        self.name = name
        self.function = function
        self.enabled = lambda: True  # what it waits for
        self.ended = False
        self.failure = None
        self.turn = _closed()
        self.thread = None

    def _live(self):
        self.turn.acquire()
        try:
            if not self.run.over:
                self.function()
        except Abandoned:
            pass
        except BaseException as failure:
            self.failure = failure
        self.ended = True
        self.run.parked.release()

    def place(self):
        """Where it stands: each function on its stack with the values it holds."""
        if self.thread is None:
            return "not begun"
        frame, found = sys._current_frames()[self.thread.ident], []
        while frame.f_code is not Process._live.__code__:
            if frame.f_code.co_filename != __file__:
                held = tuple((name, plain(value)) for name, value in sorted(frame.f_locals.items()))
                found.append((frame.f_code.co_filename, frame.f_code.co_name, frame.f_lasti, held))
            frame = frame.f_back
        return tuple(found)

    def go(self):
        """One turn: up to the next gate, or the end."""
        if self.thread is None:
            self.thread = threading.Thread(target=self._live, daemon=True)
            self.thread.start()
        self.turn.release()
        self.run.parked.acquire()


class Run:
    """One order of turns. `world` is what the processes share; world.describe() must be hashable."""

    def __init__(self, setup):
        self.parked = _closed()
        self.processes = []
        self.current = None
        self.over = False
        self.world = setup(self)

    def spawn(self, name, function):
        self.processes.append(Process(self, name, function))

    def gate(self, enabled=lambda: True):
        """Give up the turn; returns when it is given back, `enabled()` then holds."""
        if self.over:
            raise Abandoned  # clean-up on the way out
        process = self.current
        process.enabled = enabled
        self.parked.release()
        process.turn.acquire()
        if self.over:
            raise Abandoned
        process.enabled = lambda: True

    def choices(self):
        return [i for i, process in enumerate(self.processes) if not process.ended and process.enabled()]

    def step(self, index):
        self.current = self.processes[index]
        self.current.go()
        if self.current.failure is not None:
            raise self.current.failure

    def state(self):
        return (self.world.describe(), tuple((p.name, p.place()) for p in self.processes if not p.ended))

    def abandon(self):
        self.over = True
        for process in self.processes:
            if process.thread is not None and not process.ended:
                process.go()


def explore(setup, final):
    """Play every order; `final(run)` is called where no process can go on. Returns the number of states."""
    seen, waiting = set(), [[]]
    while waiting:
        order = waiting.pop()
        run = Run(setup)
        try:
            for index in order:
                run.step(index)
            while choices := run.choices():
                state = run.state()
                if state in seen:
                    break
                seen.add(state)
                waiting += [[*order, index] for index in choices[1:]]
                order = [*order, choices[0]]
                run.step(choices[0])
            else:
                final(run)
        except BaseException as failure:
            names = [run.processes[index].name for index in order]
            failure.add_note(f"order of turns: {' '.join(names)}")
            raise
        finally:
            run.abandon()
    return len(seen)
