"""What a session is asked to send, and the pieces it sends it in.

A `Job` is one message to some recipients, as the queue sees it. Where a relay takes fewer recipients at once it
becomes several `Part`s, one transaction each; `Work` holds what is known of all of its recipients meanwhile.
"""

from __future__ import annotations

from dma_runtime.policy import verdict
from dma_runtime.smtp import command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dma_runtime.outcome import Outcome
    from dma_runtime.smtp.capabilities import Capabilities
    from dma_runtime.smtp.transaction import Transaction


class Job:
    """One message to some recipients.

    `chunks(capabilities)` gives the body for this relay: CRLF line ends, the last line ended; dot-stuffed unless
    `capabilities.chunking`; pieces of about 64 KB. It is called once a transaction, so it may be called again when
    the job is split. `size` is the body's size in bytes as it will go out, an estimate is good enough (RFC 1870 3); 0
    is unknown. `eightbit`: it has bytes above 127; `binary`: it goes as BINARYMIME where that is taken. `most`: recipients
    in one transaction, 0 for any number. `key` is the caller's. `wishes`: the parameters
    of MAIL, and of each RCPT, for a relay that speaks DSN (`smtp.notification`), each with a blank before it.
    """

    __slots__ = (
        "binary", "chunks", "eightbit", "id", "key", "most", "needs_smtputf8", "recipients", "requiretls", "sender",
        "size", "wishes",
    )  # fmt: skip

    def __init__(
        self,
        id: str,
        sender: str,
        recipients: list[str],
        size: int,
        chunks: Callable[[Capabilities], Iterator[bytes]],
        *,
        needs_smtputf8: bool = False,
        eightbit: bool = False,
        binary: bool = False,
        requiretls: bool = False,
        most: int = 0,
        key: object = None,
        wishes: tuple[bytes, list[bytes]] | None = None,
    ) -> None:
        self.id = id
        self.sender = sender
        self.recipients = recipients
        self.size = size
        self.chunks = chunks
        self.needs_smtputf8 = needs_smtputf8
        self.eightbit = eightbit
        self.binary = binary
        self.requiretls = requiretls
        self.most = most
        self.key = key
        self.wishes = wishes


class Work:
    """A pulled job and what is known of its recipients."""

    __slots__ = ("job", "outcomes", "parts")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.outcomes: list[Outcome | None] = [None] * len(job.recipients)
        self.parts = 0  # transactions still to come


class Part:
    """The share of a job that one transaction carries: `indices` into its recipients."""

    __slots__ = ("body", "error", "indices", "pending", "size", "transaction", "work")

    def __init__(self, work: Work, indices: list[int]) -> None:
        self.work = work
        self.indices = indices
        self.error = ""  # why the body could not be read
        self.transaction: Transaction | None = None
        self.body: Iterator[bytes] | None = None
        self.pending: bytes | None = None  # the next piece of a body in BDAT parts, read ahead to know the last
        self.size = 0  # bytes of the body written
        work.parts += 1


def impossible(job: Job, capabilities: Capabilities, peer: str, verified: bool) -> Outcome | None:
    """What the relay said beforehand it does not take."""
    if capabilities.size and job.size > capabilities.size:  # RFC 1870 6: not even tried
        text = f"the message is {job.size} bytes long, the relay takes {capabilities.size}"
        return verdict.impossible(text, "5.3.4", relay=peer)
    if job.needs_smtputf8 and not capabilities.smtputf8:  # RFC 6531 3.2
        return verdict.impossible("the relay does not take addresses beyond ASCII (SMTPUTF8)", "5.6.7", relay=peer)
    if job.requiretls and job.sender and not (verified and capabilities.requiretls):  # RFC 8689 4.2.1; 5: but a report goes
        text = "REQUIRETLS support required" if verified else "REQUIRETLS needs a relay whose certificate is verified"
        return verdict.impossible(text, "5.7.30", relay=peer)
    if not speakable(job.sender):
        return verdict.impossible("the sender's address cannot be said in SMTP", "5.1.7", relay=peer)
    return None


def parameters(job: Job, capabilities: Capabilities, verified: bool) -> bytes:
    """The parameters of MAIL, each with a blank before it. `verified`: see `divide`."""
    found = b""
    if capabilities.size is not None and job.size:
        found += b" SIZE=%d" % job.size  # RFC 1870 5
    if job.binary and capabilities.binarymime:
        found += b" BODY=BINARYMIME"  # RFC 3030 3
    elif job.eightbit and capabilities.eightbitmime:
        found += b" BODY=8BITMIME"  # RFC 6152 3
    if job.needs_smtputf8:
        found += b" SMTPUTF8"  # RFC 6531 3.4
    if job.requiretls and verified and capabilities.requiretls:
        found += b" REQUIRETLS"  # RFC 8689 2
    if job.wishes is not None and capabilities.dsn:
        found += job.wishes[0]
    return found


def recipient_parameters(job: Job, index: int, capabilities: Capabilities) -> bytes:
    """The same for the RCPT of one recipient."""
    return job.wishes[1][index] if job.wishes is not None and capabilities.dsn else b""


def speakable(address: str) -> bool:
    """The address can be part of a command."""
    try:
        command.rcpt(address)
    except command.Unspeakable:
        return False
    return True


def divide(
    job: Job, capabilities: Capabilities, domains: set[str], peer: str, verified: bool
) -> tuple[Work, list[Part], bool]:
    """(the work, its parts for this relay, True if all recipients are in them or answered).

    Recipients that this relay cannot take have their outcome already; with no part left, all have. `domains` are those of
    the session so far, and grows. `verified`: the channel is TLS to a relay whose certificate was verified.
    """
    work, fitting, fits = Work(job), [], True
    whole = impossible(job, capabilities, peer, verified)
    for index, address in enumerate(job.recipients):
        if whole is not None:
            work.outcomes[index] = whole
        elif not speakable(address):
            work.outcomes[index] = verdict.unspeakable(relay=peer)
        elif not _domain_fits(address, domains, capabilities.rcptdomainmax):
            work.outcomes[index] = verdict.untried("the relay takes no further domain in this session", relay=peer)
            fits = False
        else:
            fitting.append(index)
    most = min(limit for limit in (capabilities.rcptmax, job.most, len(fitting) or 1) if limit)  # RFC 9422 4.2
    return work, [Part(work, fitting[at : at + most]) for at in range(0, len(fitting), most)], fits


def _domain_fits(address: str, domains: set[str], most: int) -> bool:
    domain = address.rpartition("@")[2].lower()
    if most and domain not in domains and len(domains) >= most:  # RFC 9422 4.3: domains in a session
        return False
    domains.add(domain)
    return True
