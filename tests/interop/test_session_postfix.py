"""delivery.session against a real Postfix, ahead of its replies, CHUNKING on and off; SCRAM against a real Cyrus SASL."""

import asyncio

import postfix
import pytest

from dma_runtime.delivery import signon
from dma_runtime.delivery.session import Job, Refused, Session, Target, Timeouts
from dma_runtime.outcome import DEFERRED, DELIVERED, FAILED, RECIPIENT, SENDER
from dma_runtime.policy.tls import NAME, REQUIRED, TlsPolicy
from dma_runtime.secret import Secret
from dma_runtime.system import tlswrap

LOGIN = "alice@example.test"


class WithScram(postfix.Postfix):
    """Offers SCRAM and nothing else."""

    mechanisms = "SCRAM-SHA-256 SCRAM-SHA-1"

    def _users(self, owner):
        super()._users(owner)
        conf = self.config / "sasl" / "smtpd.conf"
        conf.write_text(conf.read_text().replace("PLAIN LOGIN CRAM-MD5", self.mechanisms))


def started(kind=postfix.Postfix, **settings):
    if reason := postfix.missing():
        pytest.skip(reason)
    server = kind(users={LOGIN: "app password"}, settings=settings)
    server.refuse("nobody@", postfix.GMAIL["no such user"])
    server.refuse("full@", postfix.GMAIL["over quota"])
    server.refuse("stranger@", "553 5.1.2 The address specified is not a valid RFC 5321 address.", stage="sender")
    return server


@pytest.fixture(scope="module", params=["", "chunking", "chunking,pipelining"], ids=["bdat", "data", "serial"])
def server(request):
    with started(smtpd_discard_ehlo_keywords=request.param) as found:
        yield found


@pytest.fixture(autouse=True)
def contexts(monkeypatch):
    monkeypatch.setattr(signon, "CONTEXTS", tlswrap.TlsContexts())


def send(server, jobs, monkeypatch, tmp_path, password="app password", trace=None):
    server.write_authority(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    async def scenario():
        policy = TlsPolicy(REQUIRED, "test", verify=NAME)
        target = Target("127.0.0.1", server.port, policy, (LOGIN, Secret(password)))
        session = await Session.open(target, helo="box.example.org", limits=Timeouts(), trace=trace)
        waiting, outcomes = list(jobs), {}
        await session.run(lambda: waiting.pop(0) if waiting else None, lambda job, o: outcomes.update({job.key: o}))
        await session.quit()
        return outcomes

    return asyncio.run(asyncio.wait_for(scenario(), 60))


def job(key, recipients=("bob@far.test",), sender=LOGIN, size=2000):
    body = f"Subject: message {key}\r\nX-Key: {key}\r\n\r\n".encode() + (b"x" * 76 + b"\r\n") * (size // 78)

    def chunks(capabilities):
        for at in range(0, len(body), 65536):
            yield body[at : at + 65536]

    return Job(f"m{key}", sender, list(recipients), len(body), chunks, key=key)


def test_a_stream_of_messages_with_refusals_in_it(server, monkeypatch, tmp_path):
    server.clear()
    jobs = []
    for key in range(60):
        if key % 10 == 3:
            jobs.append(job(key, ["nobody@far.test"]))
        elif key % 10 == 5:
            jobs.append(job(key, ["bob@far.test", "nobody@far.test", "full@far.test"]))
        elif key % 10 == 7:
            jobs.append(job(key, sender="stranger@example.test"))
        elif key == 21:
            jobs.append(job(key, size=3_000_000))
        else:
            jobs.append(job(key))
    outcomes = send(server, jobs, monkeypatch, tmp_path)
    assert sorted(outcomes) == list(range(60))
    good = []
    for key in range(60):
        kinds = [(outcome.kind, outcome.scope) for outcome in outcomes[key]]
        if key % 10 == 3:
            assert kinds == [(FAILED, RECIPIENT)]
        elif key % 10 == 5:
            assert kinds == [(DELIVERED, RECIPIENT), (FAILED, RECIPIENT), (DEFERRED, RECIPIENT)]
            good.append(key)
        elif key % 10 == 7:
            assert kinds == [(DEFERRED, SENDER)]
        else:
            assert kinds == [(DELIVERED, RECIPIENT)]
            good.append(key)
    arrived = sorted(int(message["X-Key"]) for message in server.wait(len(good)))
    assert arrived == good
    large = [message for message in server.messages() if message["X-Key"] == "21"]
    assert len(large[0].get_content()) > 2_900_000
    assert server.lines().count("disconnect from") >= 1


def test_the_stream_went_as_this_relay_wants_it(server, monkeypatch, tmp_path):
    """BDAT where it is offered, DATA where not, one connection for all."""
    seen = []
    send(server, [job(key) for key in range(20)], monkeypatch, tmp_path, trace=seen.append)
    assert seen.count("C: EHLO box.example.org") == 2
    chunking = "S: 250-CHUNKING" in seen or "S: 250 CHUNKING" in seen
    assert (seen.count("C: BDAT LAST"), seen.count("C: DATA")) == ((20, 0) if chunking else (0, 20))
    assert any("S: 250-PIPELINING" in line for line in seen) == (seen.count("C: RSET") > 0)


@pytest.fixture(scope="module")
def scram():
    with started(WithScram) as found:
        yield found


def test_scram_against_cyrus_sasl(scram, monkeypatch, tmp_path):
    seen = []
    outcomes = send(scram, [job(1)], monkeypatch, tmp_path, trace=seen.append)
    assert outcomes[1][0].kind == DELIVERED
    assert "C: AUTH SCRAM-SHA-256 ***" in seen
    assert scram.logins()[-1][0] == "SCRAM-SHA-256"


def test_scram_with_a_wrong_password(scram, monkeypatch, tmp_path):
    with pytest.raises(Refused) as refused:
        send(scram, [job(1)], monkeypatch, tmp_path, password="wrong")
    outcome = refused.value.outcome
    assert (outcome.stage, outcome.code, outcome.tell) == ("AUTH", 535, True)
