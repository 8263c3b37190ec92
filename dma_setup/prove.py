"""A real message through the installed `sendmail` link, followed to the relay's last word.

The link is started with -D, which returns after the first attempt and repeats the log on standard error; our own
Message-ID finds the lines. When another process owns the queue, its result is looked up in the queue listing instead.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from dataclasses import dataclass

from dma_runtime.system.identity import host_name
from dma_setup.place import Place
from dma_setup.report import Report
from dma_setup.system import System

SECONDS = 150  # connecting, TLS, AUTH and the final dot of a slow relay

_LINE = re.compile(r"^[^\[]*\[(?P<id>[0-9a-z]+)\]: (?P<text>.*)$")
_DELIVERED = re.compile(
    r"^<(?P<to>[^>]*)> delivery successful: (?P<relay>.*?): (?P<reply>.*); message-id=.*?, delay=(?P<delay>[0-9.]+)s"
)
_DEFERRED = re.compile(r"^<(?P<to>[^>]*)> (?:remote|local) delivery deferred: (?P<why>.*?)(?:; next attempt|; message-id=)")
_FAILED = re.compile(r"^<(?P<to>[^>]*)> (?:remote delivery to|local delivery failed:) (?P<why>.*?); message-id=")


@dataclass
class Proof:
    """What became of the message: `id` "" when it was not accepted; `reply` when it was taken, else `why` not."""

    id: str = ""
    to: str = ""
    reply: str = ""
    relay: str = ""
    delay: str = ""
    why: str = ""
    waits: bool = False  # it is in the queue and will be tried again


def run(place: Place, report: Report, recipient: str, provider: str) -> Proof:
    """Send, follow, and say so. `provider` is what people call the relay, "" when it has no name."""
    sent = send(place, recipient)
    report.document["proof"] = vars(sent)
    if not sent.id:
        report.fail(f"`sendmail {recipient}` was not accepted: {sent.why}")
        return sent
    report.ok(f"`sendmail {recipient}` accepted as {sent.id}")
    if sent.to and sent.to != recipient:
        report.ok(f"alias: {recipient} -> {sent.to}")
    if not sent.reply:
        report.fail(sent.why)
        if sent.waits:
            report.advice(["See it with: dma-queue list", "Try again with: sendmail -q"])
        return sent
    who = provider or "The relay"
    if sent.relay == "local":
        report.ok("it lies in your mailbox on this machine")
    else:
        report.ok(f"{who} took it after {sent.delay} s: {sent.reply}")
        report.advice([f'Look for "{subject()}" in your inbox. Not there in a minute? Check Spam.'])
    return sent


def subject() -> str:
    return f"dma works on {host_name().partition('.')[0]}"


def send(place: Place, recipient: str) -> Proof:
    message_id = f"<dma-setup.{secrets.token_hex(8)}@{host_name()}>"
    text = (
        f"To: {recipient}\nSubject: {subject()}\nMessage-ID: {message_id}\n\n"
        f"This message was sent by dma-setup at {time.strftime('%Y-%m-%d %H:%M:%S %z')}\n"
        "to prove that mail leaves this machine and arrives. Nothing is to be done.\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "DMA_CONF"} | place.environment
    started = time.time()
    done = System().run([place.links["sendmail"], "-i", "-D", recipient], text, SECONDS, environment)
    errors = [line for line in done.errors.splitlines() if line.strip()]
    if done.status != 0:
        return Proof(why=errors[-1] if errors else f"exit status {done.status}")
    return read_log(done.errors, message_id) or read_journal(message_id, started) or look_up(place, environment, message_id)


def read_log(log: str, message_id: str) -> Proof | None:
    """The outcome in the lines of a foreground run; None when it is not there."""
    for line in log.splitlines():
        found = _LINE.match(line)
        if found is not None and message_id in line and (proof := _outcome(found["id"], found["text"])):
            return proof
    return None


def _outcome(id: str, text: str) -> Proof | None:
    if delivered := _DELIVERED.match(text):
        return Proof(id, delivered["to"], delivered["reply"], delivered["relay"], delivered["delay"])
    if deferred := _DEFERRED.match(text):
        return Proof(id, deferred["to"], why=f"not delivered yet: {deferred['why']}", waits=True)
    if failed := _FAILED.match(text):
        return Proof(id, failed["to"], why=f"refused: {failed['why']}")
    return None


def read_journal(message_id: str, since: float) -> Proof | None:
    """The outcome in the machine's journal, where the daemon writes it; None when it is not there."""
    words = ["journalctl", "--quiet", "--no-pager", "--output=cat", "--identifier=dma", f"--since=@{int(since)}"]
    journal = System().run(words).output
    id = _queued_as(journal, message_id)
    for text in journal.splitlines():
        if id and message_id in text and (proof := _outcome(id, text)):
            return proof
    return None


def _queued_as(journal: str, message_id: str) -> str:
    """The daemon says `new mail … message-id=<…>`, then `mail to=<…> queued as ID`."""
    _, ours, after = journal.partition(f"message-id={message_id}")
    found = re.search(r" queued as ([0-9a-z]+)", after) if ours else None
    return found[1] if found else ""


def look_up(place: Place, environment: dict[str, str], message_id: str) -> Proof:
    """What the queue knows of the message: gone from it is delivered, by whoever owned the queue."""
    listing = System().run([f"{place.library}/dma-queue", "list", "--json"], "", 20, environment)
    try:
        items = json.loads(listing.output)
    except ValueError:
        items = []
    for item in items:
        if message_id in json.dumps(item):
            recipient = item["recipients"][0]
            why = recipient.get("last_error") or "it waits for its turn"
            return Proof(item["id"], recipient["address"], why=f"not delivered yet: {why}", waits=True)
    return Proof("another owner's run", reply="see the mail log")
