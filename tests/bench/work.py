"""The measurements. Each section yields rows; what is compared is measured by turns, so that a busy machine hits all."""

import os
import pathlib
import statistics
import threading
import time

from tests.bench import place, setup
from tests.bench.debian import Dma, Nullmailer, Postfix, PostfixReuse
from tests.bench.ours import Ours
from tests.bench.raw import Raw

KB, MB = 1 << 10, 1 << 20


class Row:
    """One line of the table. `goal`: what the issue asks for, as text; `ratio`: what it is compared by, as text."""

    def __init__(self, work, who, value, unit, *, low=None, high=None, note="", ratio="", goal="", good=None):
        self.work, self.who, self.value, self.unit = work, who, value, unit
        self.low, self.high, self.note, self.ratio, self.goal, self.good = low, high, note, ratio, goal, good


class Run:
    """What is measured where: `runs` of each, `wanted` peers ("" for all), `until` (monotonic) no further run is begun."""

    def __init__(self, where, runs, wanted, budget, say):
        self.where, self.runs, self.wanted, self.say = where, runs, wanted, say
        self.until = time.monotonic() + budget
        self._told = set()

    def present(self, peers):
        """Those that are wanted and there; what is skipped is said, once."""
        found = []
        for peer in peers:
            if self.wanted and peer.name.split()[0].rstrip(",") not in self.wanted:
                continue
            reason = peer.missing()
            if reason and peer.name not in self._told:
                self.say(f"SKIPPED {peer.name}: {reason}")
                self._told.add(peer.name)
            if not reason:
                found.append(peer)
        return found

    def rounds(self):
        for number in range(self.runs):
            if number and time.monotonic() > self.until:
                self.say(f"no time for more than {number} runs")
                return
            yield number


def middle(values):
    return statistics.median(values) if values else None


def times_faster(ours, others, best_of="peer"):
    """(text, ratio) of how much faster ours is than the best of others, by medians."""
    known = {name: middle(values) for name, values in others.items() if values}
    if not known or not ours:
        return "no peer", None
    name = min(known, key=known.get)
    ratio = known[name] / middle(ours)
    return f"{ratio:.2f} x faster than {name}", ratio


# ---------------------------------------------------------------- submit


def submit(run):
    """2 KB, one after another, spooled only."""
    raw, ours = Raw(run.where), Ours(run.where)
    peers = run.present([ours, raw, Dma(run.where), Nullmailer(run.where), Postfix(run.where)])
    seconds = {peer.name: [] for peer in peers}
    for _ in run.rounds():
        for peer in peers:
            peer.setup(place.free_port())
            if peer is not raw:
                peer.submit(3, 2 * KB)  # what is made with the first
            found = peer.submit(60, 2 * KB)
            peer.stop()
            assert not found.failed, f"{peer.name}: {found.failed} submissions failed"
            seconds[peer.name].append(middle(found.seconds))
    for peer in peers:
        ratio, good = "", None
        if peer is ours and seconds.get(raw.name):
            by = middle(seconds[ours.name]) / middle(seconds[raw.name])
            ratio, good = f"{by:.2f} x bare Python", by <= 1.3
        yield spread("submit 2 KB, -bq", peer.name, seconds[peer.name], 1000, "ms", ratio=ratio, good=good,
                     goal="<= 1.3 x bare Python" if peer is ours else "")  # fmt: skip


def spread(work, who, values, scale, unit, **more):
    if not values:
        return Row(work, who, None, unit, **more)
    values = [value * scale for value in values]
    return Row(work, who, middle(values), unit, low=min(values), high=max(values), **more)


# ---------------------------------------------------------------- drain


def one_drain(peer, sink, count, size, limit=120):
    """(seconds from the flush command until all is there and the queue empty, or None; what the sink counted)."""
    peer.setup(sink.port)
    peer.fill(count, size)
    peer.ready()
    os.sync()
    time.sleep(0.2)
    assert peer.left() == count, f"{peer.name}: {peer.left()} of {count} were queued when the clock started"
    sink.stats.clear()
    began = time.monotonic()
    peer.drain()
    # The queue is looked at only when all has arrived: looking costs time on both sides.
    arrived = place.wait_until(lambda: sink.stats["messages"] >= count, limit)
    emptied = arrived is not None and place.wait_until(lambda: peer.left() == 0, 30)
    took = time.monotonic() - began
    seen = sink.stats.read()
    peer.stop()
    return (took if emptied is not None and arrived is not None else None), seen


def drain(run):
    """Queued messages to one smarthost, STARTTLS and AUTH."""
    where = run.where
    one = ["MAXMESSAGES 1000"]
    cases = [
        ("1,000 x 2 KB", "tls", 1000, 2 * KB, 2.0,
         [Ours(where), Ours(where, one, "ours, 4 connections in all")], [Dma(where), Postfix(where), PostfixReuse(where)]),
        ("1,000 x 2 KB, 20 ms, no CHUNKING", "nochunk20", 1000, 2 * KB, 2.0,
         [Ours(where, ["MAXCONNECTIONS 20"])], [Dma(where), Postfix(where), PostfixReuse(where)]),
        ("1,000 x 2 KB, 20 ms, CHUNKING", "chunk20", 1000, 2 * KB, 5.0,
         [Ours(where), Ours(where, one, "ours, 4 connections in all")], []),
        ("200 x 100 KB", "tls", 200, 100 * KB, 1.5, [Ours(where)], [Dma(where), Postfix(where), PostfixReuse(where)]),
    ]  # fmt: skip
    found = {}
    for _ in run.rounds():
        for work, sink, count, size, _, ours, others in cases:
            for peer in run.present([*ours, *others, Raw(where)]):
                took, seen = one_drain(peer, where.sink(sink), count, size)
                found.setdefault((work, peer.name), []).append((took, seen))
                run.say(f"{work}: {peer.name} {took and round(took, 3)} s, {seen['connections']} connections")
    slow = {name: takes(rows) for (work, name), rows in found.items() if work == cases[1][0]}
    for work, _, _, _, wanted, ours, others in cases:
        names = [peer.name for peer in others]
        rivals = {name: takes(found[work, name]) for name in names if (work, name) in found}
        if not others:
            # No peer speaks CHUNKING, so what they took at this distance without it stands for them here.
            rivals = {name: times for name, times in slow.items() if not name.startswith(("ours", "bare"))}
        for peer in [*ours, *others, Raw(where)]:
            rows = found.get((work, peer.name))
            if not rows:
                continue
            mine = peer.name.startswith("ours")
            ratio, by = times_faster(takes(rows), rivals) if mine else ("", None)
            lost = sum(took is None for took, _ in rows)
            note = f"{rows[0][1]['connections']} connections, {max(seen['most_open'] for _, seen in rows)} at once"
            note += f", {lost} runs not finished" if lost else ""
            yield spread(work, peer.name, takes(rows), 1, "s", note=note, ratio=ratio, good=by and by >= wanted and not lost,
                         goal=f">= {wanted:g} x the best peer" if mine else "")  # fmt: skip


def takes(rows):
    return [took for took, _ in rows if took is not None]


def limit(run):
    """The same at 20 ms to a relay that answers 421 above 50 connections."""
    for peer in run.present([Ours(run.where), Dma(run.where), Postfix(run.where)]):
        sink = run.where.sink("limit20")
        took, seen = one_drain(peer, sink, 1000, 2 * KB, limit=60)
        mine = isinstance(peer, Ours)
        arrived = seen["messages"]
        note = f"{arrived} of 1000 in {'60 s' if took is None else f'{took:.1f} s'}, {seen['most_open']} connections at once"
        good = (arrived == 1000 and seen["most_open"] <= 50) if mine else None
        yield Row("relay takes 50 connections", peer.name, arrived, "messages", note=note,
                  goal="all, none refused" if mine else "", good=good)  # fmt: skip


# ---------------------------------------------------------------- the queue when nothing moves


def defer(run, count=10000):
    """All attempted, nobody listens."""
    ours = Ours(run.where)
    work = f"{count:,} deferred, relay refuses"
    seconds, memory = [], 0
    for _ in run.rounds() if run.present([ours]) else []:
        ours.setup(place.free_port())
        ours.fill(count, 2 * KB)
        os.sync()
        found = ours.attempt_all()
        assert ours.left() == count
        assert not found.failed
        seconds += found.seconds
        memory = max(memory, found.rss)
        ours.stop()
    if seconds:
        took = middle(seconds)
        yield spread(work, ours.name, seconds, 1, "s", goal="< 1 s", good=took < 1)
        yield Row(work + ", memory", ours.name, memory / MB, "MB", note="one process", goal="< 80 MB", good=memory < 80 * MB)
    for peer in run.present([Postfix(run.where)]):
        took, number, total = _postfix_defers(peer, count)
        yield Row(work, peer.name, took, "s", note=f"{number} processes, {total / MB:.0f} MB in all")


def _postfix_defers(peer, count):
    """(seconds, processes, bytes): from the flush until everything has gone through the active queue and back."""
    peer.setup(place.free_port())
    peer.fill(count, 2 * KB)
    peer.ready()
    began = time.monotonic()
    peer.drain()
    place.wait_until(lambda: peer.in_queues("active") > 0, 5)
    place.wait_until(lambda: peer.in_queues("active", "incoming") == 0, 120, 0.05)
    took = time.monotonic() - began
    number, total, _ = place.memory(peer.pids())
    peer.stop()
    peer.clear()
    return took, number, total


def listing(run, count=50000):
    """mailq."""
    ours = Ours(run.where)
    for owned in (True, False):
        if not run.present([ours]):
            break
        ours.setup(place.free_port())
        ours.fill(count, 2 * KB)
        if owned:
            ours.owner()
        found = ours.listing(max(5, run.runs))
        ours.stop()
        assert not found.failed
        yield spread(f"list {count:,}, {'owner running' if owned else 'from the files'}", ours.name, found.seconds, 1, "s",
                     goal="<= 0.4 s" if owned else "", good=middle(found.seconds) <= 0.4 if owned else None)  # fmt: skip
    for peer in run.present([Nullmailer(run.where), Dma(run.where)]):
        peer.setup(place.free_port())
        peer.fill(count, 2 * KB)
        found = peer.listing(3)
        peer.clear()
        yield spread(f"list {count:,}", peer.name, found.seconds, 1, "s")


def memory(run):
    """One message of 50 MB, from `sendmail` to the sink: the most any process of ours took."""
    ours = Ours(run.where)
    if not run.present([ours]):
        return
    biggest = {}
    for size in (2 * KB, 50 * MB):
        sink = run.where.sink("tls")
        ours.setup(sink.port)
        sink.stats.clear()
        seen, go = [0], [True]

        def sample(seen=seen, go=go):
            while go[0]:
                seen[0] = max([seen[0], *map(place.peak, ours.pids())])
                time.sleep(0.01)

        thread = threading.Thread(target=sample)
        thread.start()
        found = ours.submit(1, size, queue_only=False)
        arrived = place.wait_until(lambda sink=sink: sink.stats["messages"] == 1 and ours.left() == 0, 60)
        go[0] = False
        thread.join()
        ours.stop()
        assert arrived is not None
        biggest[size] = max(seen[0], found.rss)
        goal, good = ("<= 45 MB", biggest[size] <= 45 * MB) if size > MB else ("", None)
        yield Row(f"one message of {size // MB} MB" if size > MB else "one message of 2 KB", ours.name, biggest[size] / MB,
                  "MB, largest process", goal=goal, good=good, note=f"sendmail {found.rss / MB:.0f} MB")  # fmt: skip


def growth(run, counts=(100, 1000, 10000, 50000)):
    """What one message costs, by how many are queued."""
    ours = Ours(run.where, ["MAXMESSAGES 1000"])
    if not run.present([ours]):
        return
    each = {}
    for _ in run.rounds():
        for count in counts:
            took, _ = one_drain(ours, run.where.sink("tls"), count, 2 * KB)
            each.setdefault(count, []).append(took)
    base = min(each[counts[0]])
    for count in counts:
        # What is there before the first message moves (a program's start, signing on) is in the smallest queue too.
        rate = [(took - base) / (count - counts[0]) for took in each[count]] if count > counts[0] else []
        if rate:
            yield spread(f"drain {count:,}: each message", ours.name, rate, 1000, "ms")
    for depth in (100, 10000, 50000):
        ours.setup(place.free_port())
        ours.fill(depth, 2 * KB)
        found = ours.submit(30, 2 * KB)
        yield spread(f"submit at {depth:,} queued", ours.name, found.seconds, 1000, "ms")
    ours.setup(place.free_port())
    pathlib.Path(ours.spool).mkdir(exist_ok=True)


# ---------------------------------------------------------------- setup


def provisioning(run):
    """dma-setup itself, and what people type."""
    return setup.measure(run, Row, middle)


SECTIONS = {
    "submit": submit,
    "drain": drain,
    "limit": limit,
    "defer": defer,
    "listing": listing,
    "memory": memory,
    "growth": growth,
    "setup": provisioning,
}
