"""dma-queue(8): the operator's view of the queue.

Exit status: 0 done; 1 a verb did not apply, or `list --check` found trouble; 64 usage; 75 and others as sysexits.
A configuration with a bad value stops only what delivers (`retry`, `run`): the problem is said on standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from dma_runtime import __version__, request
from dma_runtime.cmd.caller import check_trust
from dma_runtime.cmd.usage import Parser
from dma_runtime.config import Config, find
from dma_runtime.delivery import listing
from dma_runtime.errors import EX_TEMPFAIL, BrokenMessage, CannotSpool, DmaError, status_of
from dma_runtime.history import fold
from dma_runtime.policy import telling
from dma_runtime.policy.relaymap import RelayMap
from dma_runtime.shown import shown
from dma_runtime.system import clock, localsocket, notice, privilege, relayfile, relays, space, streams, takeover
from dma_runtime.system.daemonline import converse
from dma_runtime.system.ledger import Ledger
from dma_runtime.system.maillog import MailLog
from dma_runtime.system.ownership import NO_ANSWER, ask
from dma_runtime.system.spool import Spool

ASK = 30.0  # seconds for an owner to answer a question that needs no network
OLD = 86400  # seconds; a message older than this is trouble


def main(argv: list[str] | None = None) -> int:
    streams.prepare()
    streams.carry_on("stderr")
    options = parser().parse_args(argv)
    options.said = []
    try:
        return _run_verb(options)
    except DmaError as error:
        if error.text not in options.said:
            print(f"dma-queue: {shown(error.text)}", file=sys.stderr)
        return error.status


def _run_verb(options: argparse.Namespace) -> int:
    """Raises DmaError."""
    config = Config()
    try:
        config = find(options.conf, dict(os.environ), os.getuid(), os.geteuid())
        options.said = [*config.warnings, *(problem.text for problem in config.problems)]
        for problem in options.said:
            print(f"dma-queue: {problem}", file=sys.stderr)
        check_trust(config, os.getuid())
        if config.by_socket and os.getuid() == 0:
            privilege.become(privilege.account())  # nobody opens a spool with more rights than its owner has
        notice.say(config.SPOOLDIR, "dma-queue", clock.now().wall)
        status = options.run(Spool(config.SPOOLDIR), config, options)
        assert isinstance(status, int)
        streams.settle()
        return status
    except BrokenPipeError:
        streams.silence()  # the reader has seen enough
        return 0
    except OSError as error:
        streams.settle()  # was it only that nobody could be told?
        raise spool_trouble(error, config) from None


def spool_trouble(error: OSError, config: Config) -> DmaError:
    return DmaError(f"{error.filename or config.SPOOLDIR}: {error.strerror or error}", status_of(error))


def parser() -> argparse.ArgumentParser:
    """The command line; the man page is made from it."""
    parser = Parser(prog="dma-queue", description="Look at the mail queue and change it.")
    parser.add_argument("-C", metavar="FILE", dest="conf", help="configuration file")
    parser.add_argument("--version", action="version", version=f"dma {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    options = Parser(add_help=False)
    options.add_argument("--json", action="store_true", help="print JSON")

    verb = verbs.add_parser("list", parents=[options], help="what is queued, for whom, why it waits and until when")
    verb.add_argument("--check", action="store_true", help="for monitoring: exit 1 when somebody has to do something")
    verb.set_defaults(run=_list)
    verb = verbs.add_parser("show", parents=[options], help="one message: envelope, attempts, header")
    verb.add_argument("id")
    verb.set_defaults(run=_show)
    verb = verbs.add_parser("retry", parents=[options], help="attempt a message, or all, now")
    verb.add_argument("id", nargs="?")
    verb.set_defaults(run=_retry)
    for name, text in (
        ("hold", "keep a message until it is released"),
        ("release", "let a held message go"),
        ("remove", "delete a message; nobody is told"),
    ):
        verb = verbs.add_parser(name, parents=[options], help=text)
        verb.add_argument("id", nargs="+")
        verb.set_defaults(run=_change, verb=name)
    verb = verbs.add_parser("run", parents=[options], help="attempt what is queued and wait for the outcome")
    verb.add_argument("--due", action="store_true", help="only what is due by its own schedule (for timers)")
    verb.set_defaults(run=_run)
    verb = verbs.add_parser("adopt", parents=[options], help="accept a spool that came from another machine or program")
    verb.set_defaults(run=_adopt)
    return parser


# ---------------------------------------------------------------- looking


def rows(spool: Spool, config: Config, trouble: list[str] | None = None) -> list[listing.Row]:
    """The queue, oldest first: asked of the owner when there is one, else read from the files. In system mode users who may
    not look there are shown their own messages by the daemon. What is wrong with the owner is added to `trouble`. Raises
    OSError, DmaError."""
    if config.by_socket and not os.access(spool.path, os.X_OK) and os.path.exists(config.SOCKET):
        return _rows_of_ours(config)
    try:
        answer = ask(spool, {"do": "list"}, timeout=ASK)
    except TimeoutError:
        print(f"dma-queue: {NO_ANSWER}; this is what the files say", file=sys.stderr)
        answer = None
        if trouble is not None:
            trouble.append(NO_ANSWER)
    items = answer.get("items") if answer is not None else None
    if not isinstance(items, list):
        items = _read_rows(spool, config)
    return sorted(items, key=lambda row: str(row["id"]))


def _rows_of_ours(config: Config) -> list[listing.Row]:
    """What the machine's daemon shows this user."""
    said = bytearray()
    header = request.encode(request.Request(request.ROWS))
    answer = converse(config.SOCKET, header, output=said.extend, line=lambda line: print(line, file=sys.stderr))
    if answer.status != 0:
        raise DmaError(answer.text, answer.status)
    found = json.loads(bytes(said))
    return found if isinstance(found, list) else []


def _relay_map(config: Config) -> RelayMap | None:
    """RELAYMAP, to know which relay a message waits for. One that cannot be read is the owner's to complain about."""
    try:
        return relayfile.load(config.RELAYMAP)
    except OSError:
        return None


def _read_rows(spool: Spool, config: Config) -> list[listing.Row]:
    moment, relay_map, ledger = clock.now(), _relay_map(config), Ledger(spool)
    down = relays.read(spool.path, moment.wall)
    found: list[listing.Row] = []
    try:
        ids = spool.ids()
    except FileNotFoundError:
        return []  # nothing was ever queued
    for id in ids:
        try:
            stored = spool.open(id)  # and not only read: what is not whole is shown so
            stored.close()
            envelope = stored.envelope
            state = fold(envelope, ledger.events(id), moment)
            found.append(listing.row(envelope, state, config, down, moment.wall, relay_map))
        except BrokenMessage as problem:
            found.append(listing.broken_row(id, str(problem)))
        except FileNotFoundError:
            continue  # delivered since
        except OSError as problem:  # of this message: the others are shown all the same
            found.append(listing.broken_row(id, f"can not be read: {problem.strerror or problem}"))
    return found


def _list(spool: Spool, config: Config, options: argparse.Namespace) -> int:
    silent: list[str] = []
    found = rows(spool, config, silent)
    said = silent + [telling.log_line(standing) for standing in notice.current(config.SPOOLDIR)]  # on standard error, too
    trouble = [
        f"{row['id']} is older than a day" for row in found if isinstance(row["age"], int) and row["age"] > OLD
    ]
    trouble += [f"{row['id']} has failed for good" for row in found if row["state"] == "failed"]
    if left := takeover.said(config.SPOOLDIR):
        trouble.append(left)
        if not options.check:
            print(f"dma-queue: {left}", file=sys.stderr)
    said += [f"no mail is taken: {problem.text}" for problem in config.problems]
    if options.check and config.by_socket and (why := localsocket.silent(config.SOCKET, ASK)):
        trouble.append(f"no mail is taken: no mail service listens at {config.SOCKET}: {why}")
    try:
        space.check(config, spool.path)
    except CannotSpool as full:
        trouble.append(f"no mail is taken: {full.text}")
    if options.json:
        print(json.dumps(found, indent=1))
        if options.check:
            sys.stderr.writelines(f"dma-queue: {cause}\n" for cause in trouble)
    elif options.check:
        print("\n".join(said + trouble) or f"ok, {len(found)} queued")
    elif not found:
        print("Mail queue is empty")
    else:
        for row in found:
            _print_row(row)
    return 1 if options.check and (said or trouble) else 0


def _print_row(row: listing.Row) -> None:
    print(f"{row['id']}  {_age(row['age'])}  {row['size']} bytes  from <{shown(str(row['sender']))}>  {row['state']}")
    if "problem" in row:
        print(f"    damaged: {shown(str(row['problem']))}")
    recipients = row["recipients"]
    assert isinstance(recipients, list)
    for recipient in recipients:
        if recipient["state"] == "delivered":
            continue
        when = f", next attempt {recipient['next_attempt']}" if recipient["next_attempt"] else ""
        attempts = f"{recipient['attempts']} attempt{'s' if recipient['attempts'] != 1 else ''}"
        print(f"    to <{shown(recipient['address'])}>  {recipient['state']}, {attempts}{when}")
        if recipient["last_error"]:
            print(f"        {shown(recipient['last_error'])}")


def _age(seconds: object) -> str:
    number = seconds if isinstance(seconds, int) else 0
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if number >= size:
            return f"{number // size}{unit}"
    return f"{number}s"


def _show(spool: Spool, config: Config, options: argparse.Namespace) -> int:
    try:
        stored = spool.open(options.id)
    except FileNotFoundError:
        raise DmaError(f"{options.id}: no such message", 1) from None
    except BrokenMessage as problem:
        raise DmaError(f"{options.id}: damaged: {problem}", 1) from None
    try:
        ledger, header = Ledger(spool), stored.pread(stored.envelope.header_end, 0)
        events = ledger.events(options.id)
        moment = clock.now()
        down, state = relays.read(spool.path, moment.wall), fold(stored.envelope, events, moment)
        row = listing.row(stored.envelope, state, config, down, moment.wall, _relay_map(config))
    finally:
        stored.close()
    if options.json:
        print(json.dumps({**row, "events": events, "header": header.decode("utf-8", "backslashreplace")}, indent=1))
        return 0
    _print_row(row)
    for event in events:
        at = event.get("at")
        when = listing.rfc3339(at) if isinstance(at, (int, float)) else "?"
        what = " ".join(str(event[key]) for key in ("do", "kind", "code", "stage", "relay", "text") if event.get(key))
        print(f"  {when}  {shown(what)}")
    print()
    for line in header.decode("utf-8", "backslashreplace").splitlines():
        print(f"  {shown(line, 998)}")
    return 0


# ---------------------------------------------------------------- changing


def _retry(spool: Spool, config: Config, options: argparse.Namespace) -> int:
    if options.id is None:
        return _run(spool, config, options)
    from dma_runtime.cmd.daemon import change, foreground, leave_owner

    here = {str(row["id"]): row["state"] for row in rows(spool, config)}
    if here.get(options.id) != "queued":
        # Unknown, held, damaged, or failed and kept: the last is opened again.
        answer = change(config.sound(), MailLog(), "retry", options.id)
        if answer.get("error", "being delivered") != "being delivered":
            raise DmaError(f"{options.id}: {answer['error']}", 1)
    if foreground(config.sound(), [options.id], MailLog(stderr=sys.stderr.isatty())):
        leave_owner(config, MailLog())
    left = [row for row in rows(spool, config) if row["id"] == options.id]
    if options.json:
        print(json.dumps(left, indent=1))
    return 0


def _change(_spool: Spool, config: Config, options: argparse.Namespace) -> int:
    from dma_runtime.cmd.daemon import change  # asyncio and what comes with it, only where something is changed

    config = config.without_problems()  # a message can be held while a mistake in dma.conf is looked for
    answers = [{"id": id, **change(config, MailLog(), options.verb, id)} for id in options.id]
    if options.json:
        print(json.dumps(answers, indent=1))
    for answer in answers:
        if "error" in answer and not options.json:
            print(shown(f"dma-queue: {answer['id']}: {answer['error']}"), file=sys.stderr)
    return 1 if any("error" in answer for answer in answers) else 0


def _run(spool: Spool, config: Config, options: argparse.Namespace) -> int:
    from dma_runtime.cmd.daemon import leave_owner, run_queue

    due = getattr(options, "due", False)
    if run_queue(config.sound(), MailLog(stderr=not due and sys.stderr.isatty()), due_only=due):
        leave_owner(config, MailLog())
    left = rows(spool, config)
    if options.json:
        print(json.dumps(left, indent=1))
    return 0


def _adopt(_spool: Spool, config: Config, options: argparse.Namespace) -> int:
    from dma_runtime.cmd.daemon import change

    answer = change(config.without_problems(), MailLog(), "adopt")
    if "error" in answer:
        raise DmaError(str(answer["error"]), EX_TEMPFAIL)
    taken, busy, problems = answer.get("taken"), answer.get("busy"), answer.get("problems")
    if options.json:
        print(json.dumps(answer))
    elif taken:
        print(f"took over {taken} messages that C dma left")
    if busy:
        print(f"dma-queue: {busy} messages are still held by processes of C dma; end them and say it again", file=sys.stderr)
    for problem in problems if isinstance(problems, list) else []:
        print(f"dma-queue: {problem}", file=sys.stderr)
    return 1 if busy or problems else 0


if __name__ == "__main__":
    sys.exit(main())
