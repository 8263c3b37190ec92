"""delivery.session over real sockets: every dialogue, the faults of relays, TLS as it goes wrong, bodies that are large."""

import asyncio
import base64
import datetime
import hashlib
import resource
import socket
import ssl
import tracemalloc

import dialogue
import fault_server
import pytest
import wire_check

from dma_runtime.delivery import signon
from dma_runtime.delivery.habits import PROVED, Habits
from dma_runtime.delivery.session import Job, Refused, Session, Target, Timeouts
from dma_runtime.outcome import DEFERRED, DELIVERED, FAILED, MACHINE, MESSAGE, RELAY
from dma_runtime.policy import verdict
from dma_runtime.policy.tls import ANY, FINGERPRINT, NAME, NONE, OPPORTUNISTIC, REQUIRED, TlsPolicy
from dma_runtime.secret import Secret
from dma_runtime.system import net, tlswrap

ALL = dialogue.load()
PLAIN = TlsPolicy(NONE, "test", clear_login=True)
LOGIN = ("user", Secret("secret"))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return fault_server.Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def trust(certificates, monkeypatch):
    """The tests' authority is the only one trusted; contexts and sessions are made anew."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.file))
    monkeypatch.setattr(signon, "CONTEXTS", tlswrap.TlsContexts())


def job(number=1, recipients=("b@y.example",), body=b"Subject: x\r\n\r\nhello\r\n", sender="a@x.example"):
    return Job(f"m{number}", sender, list(recipients), len(body), lambda capabilities: iter([body]), key=number)


def quick(**more):
    """Timeouts that a test can wait for; everything not named is long."""
    limits = Timeouts(connect=2)
    for name, seconds in more.items():
        setattr(limits, name, seconds)
    return limits


async def send(server, jobs, target=None, limits=None, host="127.0.0.1", policy=PLAIN, login=None, trace=None):
    """All jobs over one session. (outcomes by key, the session); raises Refused."""
    target = target or Target(host, server.port, policy, login)
    session = await Session.open(target, helo="box.example.org", limits=limits or quick(), trace=trace)
    waiting, outcomes = list(jobs), {}

    def done(which, result):
        assert which.key not in outcomes
        outcomes[which.key] = result

    await session.run(lambda: waiting.pop(0) if waiting else None, done)
    await session.quit()
    return outcomes, session


def run(scenario, seconds=20):
    async def bounded():
        return await asyncio.wait_for(scenario, seconds)

    return asyncio.run(bounded())


# ---------------------------------------------------------------- the dialogues over a socket


@pytest.mark.parametrize("wanted", ALL, ids=lambda one: one.name)
def test_dialogue(wanted, certificates):
    async def scenario():
        result = dialogue.Result()
        async with fault_server.FaultServer([wanted.steps], certificates.server()) as server:
            target = wanted.target("127.0.0.1", server.port)
            try:
                session = await Session.open(target, helo=dialogue.HELO, limits=wanted.timeouts(quit=0.1))
            except Refused as refused:
                result.refused = refused.outcome
                return result, []
            await dialogue.run(session, wanted, result)
            await asyncio.sleep(0)
        return result, server.failures

    result, failures = run(scenario())
    dialogue.check(wanted, result)
    assert not [failure for failure in failures if "expected" in failure or "nothing was" in failure]


# ---------------------------------------------------------------- TLS

STARTTLS = ("PIPELINING", "STARTTLS", "AUTH PLAIN")


def tls_policy(verify=NAME, level=REQUIRED, implicit=False, fingerprint=""):
    return TlsPolicy(level, "test", verify=verify, implicit=implicit, fingerprint=fingerprint)


def test_starttls_with_a_verified_certificate_signs_in_and_sends(certificates):
    async def scenario():
        async with fault_server.FaultServer([[("serve", {"offers": STARTTLS})]], certificates.server()) as server:
            outcomes, session = await send(server, [job(1), job(2)], policy=tls_policy(), login=LOGIN)
            return outcomes, session, server

    outcomes, session, server = run(scenario())
    assert [o.kind for o in (*outcomes[1], *outcomes[2])] == [DELIVERED] * 2
    assert session.tls.startswith("TLSv1.3")
    assert session.authenticated
    assert len(server.bodies) == 2


def test_implicit_tls(certificates):
    async def scenario():
        script = [("raw tls", b""), ("serve", {"offers": ("AUTH PLAIN",)})]
        async with fault_server.FaultServer([script], certificates.server()) as server:
            return await send(server, [job()], policy=tls_policy(implicit=True), login=LOGIN)

    outcomes, _ = run(scenario())
    assert outcomes[1][0].kind == DELIVERED


def refused(scenario):
    async def caught():
        with pytest.raises(Refused) as error:
            await scenario
        return error.value.outcome

    return run(caught())


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("case", ["wrong name", "expired", "unknown authority"])
def test_a_certificate_that_cannot_be_verified_gets_no_login(certificates, tmp_path, case, implicit):
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    if case == "wrong name":
        context, words = certificates.server("elsewhere.example"), "IP address mismatch"
    elif case == "expired":
        context, words = certificates.server("127.0.0.1", not_after=yesterday), "certificate has expired"
    else:
        context, words = fault_server.Certificates(tmp_path).server(), "unable to get local issuer certificate"
    servers = []

    async def scenario():
        script = [*([("raw tls", b"")] if implicit else []), ("serve", {"offers": STARTTLS})]
        async with fault_server.FaultServer([script], context) as server:
            servers.append(server)
            await send(server, [job()], policy=tls_policy(implicit=implicit), login=LOGIN)

    outcome = refused(scenario())
    assert words in outcome.text
    assert (outcome.kind, outcome.scope, outcome.tell) == (DEFERRED, RELAY, True)
    assert "FINGERPRINT" in outcome.hint
    said = b"".join(text for who, text in servers[0].transcript[0] if who == b"C")
    assert b"AUTH" not in said
    assert b"MAIL" not in said


def test_an_unverifiable_certificate_does_when_nothing_is_verified(certificates):
    async def scenario():
        context = certificates.server("elsewhere.example")
        async with fault_server.FaultServer([[("serve", {"offers": STARTTLS})]], context) as server:
            return await send(server, [job()], policy=tls_policy(ANY), login=LOGIN)

    outcomes, _ = run(scenario())
    assert outcomes[1][0].kind == DELIVERED


@pytest.mark.parametrize("right", [True, False])
def test_a_pinned_fingerprint(certificates, right):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued = fault_server.trustme.CA().issue_cert("elsewhere.example")
    issued.configure_cert(context)
    der = ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())
    pin = hashlib.sha256(der).hexdigest() if right else "00" * 32

    async def scenario():
        policy = tls_policy(FINGERPRINT, fingerprint=pin)
        async with fault_server.FaultServer([[("serve", {"offers": STARTTLS})]], context) as server:
            await send(server, [job()], policy=policy, login=LOGIN)
            return await send(server, [job()], policy=policy, login=LOGIN)

    if right:
        outcomes, session = run(scenario())
        assert outcomes[1][0].kind == DELIVERED
        assert session.resumed  # and the pin was compared all the same
    else:
        outcome = refused(scenario())
        assert "FINGERPRINT" in outcome.text
        assert outcome.tell
        assert "correct FINGERPRINT" in outcome.hint
        assert "UNVERIFIEDCERT" not in outcome.hint  # it may be an attack


def test_a_session_is_resumed(certificates):
    async def scenario():
        context = certificates.server()
        async with fault_server.FaultServer([[("serve", {"offers": STARTTLS})]], context) as server:
            resumed = []
            for number in (1, 2):
                _, session = await send(server, [job(number)], policy=tls_policy(), login=LOGIN)
                resumed.append(session.resumed)
            return resumed

    assert run(scenario()) == [False, True]


def test_tls_1_1_is_refused_and_1_2_alone_is_enough(certificates):
    async def scenario(version):
        context = certificates.server()
        context.set_ciphers("ALL:@SECLEVEL=0")  # or OpenSSL would not do 1.1 whatever we say
        context.minimum_version = context.maximum_version = version
        async with fault_server.FaultServer([[("serve", {"offers": STARTTLS})]], context) as server:
            return await send(server, [job()], policy=tls_policy(), login=LOGIN)

    outcomes, session = run(scenario(ssl.TLSVersion.TLSv1_2))
    assert outcomes[1][0].kind == DELIVERED
    assert session.tls.startswith("TLSv1.2")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        outcome = refused(scenario(ssl.TLSVersion.TLSv1_1))
    assert outcome.scope == RELAY


def test_tls_at_once_on_a_starttls_port_names_the_remedy(certificates):
    async def scenario():
        async with fault_server.FaultServer([[("serve", {})]]) as server:
            await send(server, [job()], policy=tls_policy(implicit=True), login=LOGIN)

    outcome = refused(scenario())
    assert "STARTTLS" in outcome.hint
    assert outcome.tell


def test_no_tls_on_a_tls_port_names_the_remedy(certificates, monkeypatch):
    async def scenario():
        async with fault_server.FaultServer([[("raw tls", b""), ("serve", {})]], certificates.server()) as server:
            monkeypatch.setattr(signon.tls, "IMPLICIT_PORT", server.port)
            await send(server, [job()], policy=tls_policy(), limits=quick(silent=0.1, greeting=100))

    outcome = refused(scenario())
    assert "Port 465" in outcome.hint
    assert "silent for 0.1 seconds" in outcome.text
    assert outcome.stage == "connect"


def test_a_server_that_closes_in_the_tls_handshake(certificates):
    async def scenario():
        script = [("S", b"220 x\r\n"), ("C", b"EHLO box.example.org\r\n"), ("S", b"250-x\r\n250 STARTTLS\r\n")]
        script += [("C", b"STARTTLS\r\n"), ("S", b"220 go\r\n"), ("accept", 10), ("close", b"")]
        async with fault_server.FaultServer([script]) as server:
            await send(server, [job()], policy=tls_policy())

    outcome = refused(scenario())
    assert (outcome.stage, outcome.scope) == ("STARTTLS", RELAY)


def test_a_tls_handshake_that_hangs(certificates):
    async def scenario():
        script = [("S", b"220 x\r\n"), ("C", b"EHLO box.example.org\r\n"), ("S", b"250-x\r\n250 STARTTLS\r\n")]
        script += [("C", b"STARTTLS\r\n"), ("S", b"220 go\r\n"), ("hang", "")]
        async with fault_server.FaultServer([script]) as server:
            await send(server, [job()], policy=tls_policy(), limits=quick(tls=0.1))

    assert "within 0.1 seconds" in refused(scenario()).text


def test_opportunistic_tls_that_breaks_gives_way_to_plain_text_without_login(certificates):
    broken = [("S", b"220 x\r\n"), ("C", b"EHLO box.example.org\r\n"), ("S", b"250-x\r\n250 STARTTLS\r\n")]
    broken += [("C", b"STARTTLS\r\n"), ("S", b"220 go\r\n"), ("S", b"not TLS at all\r\n"), ("close", b"")]

    async def scenario():
        script = [("serve", {"offers": ("AUTH PLAIN",)})]
        tls_junk = [step for step in broken if step[1] != b"not TLS at all\r\n"]
        async with fault_server.FaultServer([tls_junk, script]) as server:
            outcomes, _ = await send(server, [job()], policy=tls_policy(ANY, OPPORTUNISTIC), login=LOGIN)
            return outcomes, server

    outcomes, server = run(scenario())
    assert outcomes[1][0].kind == DELIVERED
    assert not [text for _, text in server.transcript[1] if text.startswith(b"AUTH")]


def test_smuggled_bytes_end_opportunistic_tls_too(certificates):
    smuggled = [("S", b"220 x\r\n"), ("C", b"EHLO box.example.org\r\n"), ("S", b"250-x\r\n250 STARTTLS\r\n")]
    smuggled += [("C", b"STARTTLS\r\n"), ("S", b"220 go\r\n250 injected\r\n"), ("hang", "")]

    async def scenario():
        async with fault_server.FaultServer([smuggled]) as server:
            await send(server, [job()], policy=tls_policy(ANY, OPPORTUNISTIC))

    outcome = refused(scenario())
    assert "injects" in outcome.text
    assert outcome.tell


def test_a_client_certificate_that_does_not_exist_is_said(certificates):
    policy = TlsPolicy(REQUIRED, "test", certfile="/nonexistent/client.pem")

    async def scenario():
        async with fault_server.FaultServer([[("serve", {"offers": STARTTLS})]], certificates.server()) as server:
            await send(server, [job()], policy=policy)

    outcome = refused(scenario())
    assert "/nonexistent/client.pem" in outcome.text
    assert outcome.tell


# ---------------------------------------------------------------- connecting


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_a_refused_connection_is_an_answer(monkeypatch):
    async def scenario():
        await Session.open(Target("127.0.0.1", free_port(), PLAIN), helo="x.example", limits=quick())

    outcome = refused(scenario())
    assert (outcome.kind, outcome.scope, outcome.answered, outcome.tell) == (DEFERRED, RELAY, True, False)
    assert "refused" in outcome.text


def open_with(monkeypatch, error):
    def lookup(*arguments, **keywords):
        raise error

    monkeypatch.setattr(net.socket, "getaddrinfo", lookup)
    return refused(Session.open(Target("mail.relay.example", 25, PLAIN), helo="x.example", limits=quick()))


def test_a_name_that_does_not_exist_is_told_and_bounces_nothing(monkeypatch):
    outcome = open_with(monkeypatch, socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    assert (outcome.kind, outcome.scope, outcome.tell, outcome.answered) == (DEFERRED, RELAY, True, True)


def test_no_resolver_is_a_state_of_the_machine(monkeypatch):
    outcome = open_with(monkeypatch, socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"))
    assert (outcome.kind, outcome.scope, outcome.answered) == (DEFERRED, MACHINE, False)


def test_a_resolver_that_hangs_is_given_up(monkeypatch):
    import threading

    released = threading.Event()

    def lookup(*arguments, flags=0, **keywords):
        if flags:
            raise socket.gaierror(socket.EAI_NONAME, "not numeric")
        released.wait(20)
        return []

    monkeypatch.setattr(net.socket, "getaddrinfo", lookup)
    limits = quick(resolve=0.1)
    try:
        outcome = refused(Session.open(Target("mail.relay.example", 25, PLAIN), helo="x.example", limits=limits))
    finally:
        released.set()
    assert "within 0.1 seconds" in outcome.text
    assert outcome.scope == MACHINE


def addresses(monkeypatch, *ports):
    """`relay.example` has an address for each port."""

    async def lookup(host, port, within):
        return [(socket.AF_INET, ("127.0.0.1", one)) for one in ports]

    monkeypatch.setattr(net, "resolve", lookup)


def test_the_next_address_is_tried_when_one_refuses(monkeypatch):
    async def scenario():
        async with fault_server.FaultServer([[("serve", {})]]) as server:
            addresses(monkeypatch, free_port(), server.port)
            return await send(server, [job()], host="relay.example")

    outcomes, session = run(scenario())
    assert outcomes[1][0].kind == DELIVERED
    assert session.peer == "relay.example [127.0.0.1]"


def test_the_next_address_is_tried_beside_one_that_is_silent(monkeypatch):
    monkeypatch.setattr(net, "STAGGER", 0.02)
    real = net._connect_one
    dead = 9

    async def one(address):
        if address[1][1] == dead:
            await asyncio.sleep(3600)
        return await real(address)

    monkeypatch.setattr(net, "_connect_one", one)

    async def scenario():
        async with fault_server.FaultServer([[("serve", {})]]) as server:
            addresses(monkeypatch, dead, server.port)
            return await send(server, [job()], host="relay.example")

    assert run(scenario(), 3)[0][1][0].kind == DELIVERED


def test_the_next_address_is_tried_when_one_greets_with_421(monkeypatch):
    async def scenario():
        busy = [("S", b"421 4.3.2 busy\r\n")]
        async with fault_server.FaultServer([busy, [("serve", {})]]) as server:
            other = await asyncio.start_server(server._connected, "127.0.0.1", 0)
            addresses(monkeypatch, server.port, other.sockets[0].getsockname()[1])
            try:
                return await send(server, [job()], host="relay.example")
            finally:
                other.close()

    assert run(scenario())[0][1][0].kind == DELIVERED


def test_connecting_has_a_deadline(monkeypatch):
    async def one(address):
        await asyncio.sleep(3600)

    monkeypatch.setattr(net, "_connect_one", one)
    limits = Timeouts(connect=0.1)
    outcome = refused(Session.open(Target("127.0.0.1", 25, PLAIN), helo="x.example", limits=limits))
    assert "no answer within 0.1 seconds" in outcome.text
    assert not outcome.answered


# ---------------------------------------------------------------- silence

VERBS = {"greeting": "connect", "EHLO": "EHLO", "STARTTLS": "STARTTLS", "AUTH": "AUTH"}


@pytest.mark.parametrize("verb", VERBS)
def test_silence_before_mail_refuses_the_session(certificates, verb):
    behaviour = {"offers": STARTTLS, "faults": {(verb, 0): "hang"}}

    async def scenario():
        async with fault_server.FaultServer([[("serve", behaviour)]], certificates.server()) as server:
            limits = quick(**{verb.lower(): 0.1})
            await send(server, [job()], policy=tls_policy(), login=LOGIN, limits=limits)

    outcome = refused(scenario())
    assert "silent for 0.1 seconds" in outcome.text
    assert (outcome.stage, outcome.scope, outcome.tell) == (VERBS[verb], RELAY, False)


STAGES = [("MAIL", "MAIL FROM"), ("RCPT", "RCPT TO"), ("DATA", "DATA"), ("final", "final DATA")]


@pytest.mark.parametrize(("verb", "stage"), STAGES)
def test_silence_in_a_message(verb, stage):
    async def scenario():
        async with fault_server.FaultServer([[("serve", {"faults": {(verb, 0): "hang"}})]]) as server:
            return await send(server, [job(1), job(2)], limits=quick(**{verb.lower(): 0.1}))

    outcomes, session = run(scenario(), 5)
    assert (outcomes[1][0].kind, outcomes[1][0].stage) == (DEFERRED, stage)
    assert "silent for 0.1 seconds" in outcomes[1][0].text
    assert outcomes[1][0].scope == (MESSAGE if verb == "final" else RELAY)
    assert ("may have been delivered" in outcomes[1][0].text) == (verb == "final")
    assert not session.usable


def test_a_relay_that_takes_no_more_of_the_body():
    hello = [("S", b"220 x\r\n"), ("C", b"EHLO box.example.org\r\n"), ("S", b"250 x\r\n")]
    script = [*hello, ("C", b"MAIL FROM:<a@x.example>\r\n"), ("S", b"250 ok\r\n"), ("C", b"RCPT TO:<b@y.example>\r\n")]
    script += [("S", b"250 ok\r\n"), ("C", b"DATA\r\n"), ("S", b"354 go\r\n"), ("hang", "")]

    async def scenario():
        async with fault_server.FaultServer([script], receive_buffer=4096) as server:
            lines = [b"x" * 70 + b"\r\n"] * 1000000
            endless = Job("m", "a@x.example", ["b@y.example"], 0, lambda capabilities: iter(lines), key=1)
            return await send(server, [endless], limits=quick(block=0.2))

    outcomes, _ = run(scenario())
    assert "took no more of the message for 0.2 seconds" in outcomes[1][0].text
    assert outcomes[1][0].stage == "DATA"


# ---------------------------------------------------------------- every fault at every verb

PROGRESS = ("MAIL", "RCPT", "DATA", "final", "BDAT", "RSET")
FAULTS = ("451 4.3.0 not now", "554 5.7.1 no", "421 4.3.2 closing", "garbage", "half", "close", "reset", "huge", "delay")


@pytest.mark.parametrize("chunking", [False, True], ids=["data", "bdat"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault[:4].strip())
@pytest.mark.parametrize("verb", PROGRESS)
def test_any_fault_at_any_verb_loses_nothing(verb, fault, chunking):
    """Six messages, a fault in the third: each has one outcome; delivered ones are there, others not, unless in doubt."""
    offers = ("PIPELINING", "CHUNKING") if chunking else ("PIPELINING",)
    nth = 1 if verb == "RSET" else 2
    behaviour = {"offers": offers, "faults": {(verb, nth): fault}}

    async def scenario():
        jobs = [job(n, (f"r{n}@y.example",), f"Subject: {n}\r\n\r\nbody {n}\r\n".encode()) for n in range(6)]
        async with fault_server.FaultServer([[("serve", behaviour)]]) as server:
            outcomes, session = await send(server, jobs, limits=quick(final=2))
            await asyncio.sleep(0.01)
            return outcomes, session, server

    outcomes, session, server = run(scenario())
    counted = {rcpt[0]: body for _, rcpt, body in server.envelopes}
    assert len(counted) == len(server.envelopes), "a message arrived twice"
    assert sorted(outcomes) == list(range(6)) or not session.usable
    for number, (outcome,) in outcomes.items():
        arrived = counted.get(f"r{number}@y.example")
        if outcome.kind == DELIVERED:
            assert arrived == f"Subject: {number}\r\n\r\nbody {number}\r\n".encode()
        elif arrived is not None:
            assert (outcome.stage, outcome.kind) == ("final DATA", DEFERRED)
            assert "may have been delivered" in outcome.text
        elif outcome.kind == FAILED:
            assert fault.startswith("554")
    if fault == "delay" or (chunking and verb == "DATA"):
        assert all(outcome.kind == DELIVERED for (outcome,) in outcomes.values())
        assert len(outcomes) == 6
    writes = [text for who, text in server.transcript[0] if who == b"C"]
    assert not [text for text in writes if not text.endswith(b"\r\n")]


# ---------------------------------------------------------------- several messages, large bodies


def test_several_messages_on_one_connection_and_a_second_run():
    async def scenario():
        async with fault_server.FaultServer([[("serve", {})]]) as server:
            session = await Session.open(Target("127.0.0.1", server.port, PLAIN), helo="x.example", limits=quick())
            outcomes = {}
            for turn in range(3):
                waiting = [job(turn * 10 + n) for n in range(5)]
                await session.run(
                    lambda waiting=waiting: waiting.pop(0) if waiting else None, lambda j, o: outcomes.update({j.key: o})
                )
                assert session.usable
            await session.quit()
            return outcomes, session, server

    outcomes, session, server = run(scenario())
    assert len(outcomes) == 15
    assert all(o[0].kind == DELIVERED for o in outcomes.values())
    assert (server.connections, session.messages, len(server.bodies)) == (1, 15, 15)


def test_an_idle_session_that_the_relay_closes_is_not_usable():
    async def scenario():
        script = [("S", b"220 x\r\n"), ("C", b"EHLO x.example\r\n"), ("S", b"250 x\r\n"), ("wait", "0.02")]
        script += [("S", b"421 4.4.2 idle too long\r\n"), ("close", b"")]
        async with fault_server.FaultServer([script]) as server:
            session = await Session.open(Target("127.0.0.1", server.port, PLAIN), helo="x.example", limits=quick())
            pulled = []
            await asyncio.sleep(0.1)
            assert not session.usable
            await session.run(lambda: pulled.append(1), lambda j, o: None)
            await session.quit()
            return pulled

    assert run(scenario()) == []


def test_dropping_a_session_hands_its_jobs_back():
    async def scenario():
        async with fault_server.FaultServer([[("serve", {"faults": {("final", 1): "hang"}})]]) as server:
            session = await Session.open(Target("127.0.0.1", server.port, PLAIN), helo="x.example", limits=quick())
            waiting, outcomes = [job(n) for n in range(3)], {}
            task = asyncio.ensure_future(
                session.run(lambda: waiting.pop(0) if waiting else None, lambda j, o: outcomes.update({j.key: o}))
            )
            while len(server.bodies) < 2:
                await asyncio.sleep(0.01)
            session.abort()
            await task
            return outcomes

    outcomes = run(scenario())
    assert outcomes[0][0].kind == DELIVERED
    assert "may have been delivered" in outcomes[1][0].text
    assert not verdict.was_tried(outcomes[2][0])


def test_a_cancelled_run_hands_its_jobs_back():
    async def scenario():
        async with fault_server.FaultServer([[("serve", {"faults": {("MAIL", 0): "hang"}})]]) as server:
            session = await Session.open(Target("127.0.0.1", server.port, PLAIN), helo="x.example", limits=quick())
            waiting, outcomes = [job(1)], {}
            task = asyncio.ensure_future(
                session.run(lambda: waiting.pop(0) if waiting else None, lambda j, o: outcomes.update({j.key: o}))
            )
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return outcomes, session

    outcomes, session = run(scenario())
    assert outcomes[1][0].kind == DEFERRED
    assert not session.usable


def test_an_exception_of_the_caller_comes_out_of_run():
    async def scenario():
        async with fault_server.FaultServer([[("serve", {})]]) as server:
            session = await Session.open(Target("127.0.0.1", server.port, PLAIN), helo="x.example", limits=quick())
            waiting = [job(1)]

            def done(which, outcomes):
                raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await session.run(lambda: waiting.pop(0) if waiting else None, done)
            return session.usable

    assert run(scenario()) is False


@pytest.mark.parametrize("chunking", [False, True], ids=["data", "bdat"])
def test_five_megabytes_over_tls_with_tiny_socket_buffers_arrive_identical(certificates, chunking, monkeypatch):
    lines = [b"%07d " % n + b"abcdefghij" * 6 for n in range(75000)]
    body = b"\r\n".join(lines) + b"\r\n"
    assert len(body) > 5_000_000
    real = net._connect_one

    async def small(address):
        sock = await real(address)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return sock

    monkeypatch.setattr(net, "_connect_one", small)

    def chunks(capabilities):
        for at in range(0, len(body), 60001):
            yield body[at : at + 60001]

    async def scenario():
        offers = ("STARTTLS", "AUTH PLAIN", "PIPELINING", *(("CHUNKING",) if chunking else ()))
        async with fault_server.FaultServer([[("serve", {"offers": offers})]], certificates.server(), 4096) as server:
            large = Job("m", "a@x.example", ["b@y.example"], len(body), chunks, key=1)
            outcomes, _ = await send(server, [large, job(2)], policy=tls_policy(), login=LOGIN)
            return outcomes, server

    outcomes, server = run(scenario(), 60)
    assert [outcomes[n][0].kind for n in (1, 2)] == [DELIVERED] * 2
    assert server.bodies[0] == body


@pytest.mark.parametrize("chunking", [False, True], ids=["data", "bdat"])
def test_fifty_megabytes_take_constant_memory(certificates, chunking):
    """The server is a thread that throws the bytes away; what is measured is what the session allocates."""
    piece = (b"x" * 76 + b"\r\n") * 840
    count = 50_000_000 // len(piece) + 1
    server = Sink(certificates.server(), ("PIPELINING", "STARTTLS", *(("CHUNKING",) if chunking else ())))

    def chunks(capabilities):
        for _ in range(count):
            yield bytes(piece)

    async def scenario():
        large = Job("m", "a@x.example", ["b@y.example"], 0, chunks, key=1)
        session = await Session.open(Target("127.0.0.1", server.port, tls_policy()), helo="x.example", limits=quick())
        waiting, outcomes = [large], []
        tracemalloc.start()
        try:
            await session.run(lambda: waiting.pop() if waiting else None, lambda j, o: outcomes.extend(o))
            return outcomes, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            await session.quit()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes, peak = run(scenario(), 60)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert outcomes[0].kind == DELIVERED
    assert server.bytes >= 50_000_000
    assert peak < 2_000_000, f"{peak} bytes at once"
    assert grown < 30_000, f"{grown} kB more"


class Sink:
    """A thread that takes one connection and throws messages away."""

    def __init__(self, context, offers):
        import threading

        self.bytes = 0
        self._context = context
        self._offers = offers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        sock, _ = self._listener.accept()
        self._listener.close()
        sock.sendall(b"220 sink\r\n")
        file = sock.makefile("rb")
        while line := file.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                sock.sendall(b"".join(b"250-%s\r\n" % word.encode() for word in self._offers) + b"250 HELP\r\n")
            elif verb == b"STAR":
                sock.sendall(b"220 go\r\n")
                sock = self._context.wrap_socket(sock, server_side=True)
                file = sock.makefile("rb", 1 << 20)
            elif verb == b"DATA":
                sock.sendall(b"354 go\r\n")
                while (line := file.readline()) != b".\r\n":
                    self.bytes += len(line)
                sock.sendall(b"250 ok\r\n")
            elif verb == b"BDAT":
                left = int(line.split()[1])
                self.bytes += left
                while left:
                    left -= len(file.read(left))
                sock.sendall(b"250 ok\r\n")
            else:
                sock.sendall(b"250 ok\r\n")


# ---------------------------------------------------------------- trace and wire


def test_the_trace_holds_no_secret(certificates):
    seen = []

    async def scenario():
        async with fault_server.FaultServer([[("serve", {"offers": STARTTLS})]], certificates.server()) as server:
            await send(server, [job()], policy=tls_policy(), login=("user", Secret("hunter2hunter2")), trace=seen.append)

    run(scenario())
    text = "\n".join(seen)
    assert "C: AUTH PLAIN ***" in seen
    assert "S: 235 2.7.0 ok" in seen
    assert "C: MAIL FROM:<a@x.example>" in text
    assert "hunter2" not in text
    assert base64.b64encode(b"\0user\0hunter2hunter2").decode() not in text


TOKEN = base64.b64encode(b"\0user\0hunter2hunter2")
WORD = base64.b64encode(b"hunter2hunter2")


@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize("said", [
    b'535 5.7.8 bad "AUTH PLAIN %s"\r\n' % TOKEN,
    b"535-no:\r\n535 user's hunter2hunter2 is wrong\r\n",
    b'421 4.7.0 what is "%s"?\r\n' % TOKEN,
    b'454 4.7.0 later\r\n500 5.5.1 Command unrecognized: "%s"\r\n' % TOKEN,
    b"%s\r\n" % (b"x" * 100 + TOKEN),
    b'500 5.5.1 Command unrecognized: "AUTH PLAIN %s"\r\n' % TOKEN,
])  # fmt: skip
def test_a_relay_that_repeats_the_login_does_not_make_us_say_it(said, trace):
    """To the log, to the operator, in `mailq`: sendmail repeats what it did not understand."""
    seen = []
    hello = [("S", b"220 x\r\n"), ("C", b"EHLO box.example.org\r\n"), ("S", b"250-x\r\n250 AUTH PLAIN\r\n")]
    script = [*hello, ("C", b"AUTH PLAIN %s\r\n" % TOKEN), ("S", said), ("wait", 0.1)]

    async def scenario():
        async with fault_server.FaultServer([script]) as server:
            login = ("user", Secret("hunter2hunter2"))
            await send(server, [job()], login=login, trace=seen.append if trace else None)

    with pytest.raises(Refused) as refused:
        run(scenario())
    text = "\n".join([refused.value.outcome.text, repr(refused.value.outcome), *seen])
    assert "hunter2" not in text
    assert TOKEN.decode()[:12] not in text
    assert refused.value.outcome.code == (int(said[:3]) if said[:1] in b"45" else 0)


@pytest.mark.parametrize("said", [b'500 5.5.1 Command unrecognized: "%s"\r\n' % WORD, b"501 %s\r\n" % WORD])
def test_nor_with_a_password_that_was_asked_for(said):
    seen = []
    script = [("S", b"220 x\r\n"), ("C", b"EHLO box.example.org\r\n"), ("S", b"250-x\r\n250 AUTH LOGIN\r\n")]
    script += [("C", b"AUTH LOGIN\r\n"), ("S", b"334 VXNlcm5hbWU6\r\n"), ("C", b"dXNlcg==\r\n"), ("S", b"334 UGFzc3dvcmQ6\r\n")]
    script += [("C", WORD + b"\r\n"), ("S", said), ("wait", 0.1)]

    async def scenario():
        async with fault_server.FaultServer([script]) as server:
            await send(server, [job()], login=("user", Secret("hunter2hunter2")), trace=seen.append)

    with pytest.raises(Refused) as refused:
        run(scenario())
    assert WORD.decode() not in "\n".join([refused.value.outcome.text, *seen])
    assert any(line.startswith("S: 50") for line in seen)


@pytest.mark.parametrize("chunking", [False, True], ids=["data", "bdat"])
def test_what_we_write_is_strict_smtp(monkeypatch, chunking):
    """Every write of a busy session, read by a reader that shares nothing with the client."""
    writes = []
    real = net.Wire.write

    def write(self, data):
        writes.append(bytes(data))
        real(self, data)

    monkeypatch.setattr(net.Wire, "write", write)
    bodies = [f"Subject: {n}\r\n\r\n".encode() + (b"line\r\n" if chunking else b"..dots\r\n") * n for n in range(30)]

    async def scenario():
        offers = ("PIPELINING", "CHUNKING") if chunking else ("PIPELINING",)
        faults = {("RCPT", 7): "550 5.1.1 no", ("MAIL", 12): "451 4.3.0 later", ("final", 20): "554 5.7.1 no"}
        async with fault_server.FaultServer([[("serve", {"offers": offers, "faults": faults})]]) as server:
            return await send(server, [job(n, body=body) for n, body in enumerate(bodies)])

    outcomes, _ = run(scenario())
    assert len(outcomes) == 30
    assert sum(o[0].kind == DELIVERED for o in outcomes.values()) == 27
    reader = wire_check.check("a busy session", writes)
    assert len(reader.bodies) >= 28


# ---------------------------------------------------------------- relays that offer what they cannot do


@pytest.fixture(autouse=True)
def habits(monkeypatch):
    """Nothing is known of any relay; what is learnt is for this test."""
    monkeypatch.setattr(signon, "HABITS", Habits())


BROKEN = {
    "BDAT is unknown": {("BDAT", 0): "502 5.5.2 what?", ("final", 0): "502 5.5.2 what?"},
    "a group breaks it": {("RCPT", 0): "garbage"},
    "a group makes it close": {("RCPT", 0): "close"},
    "a group makes it silent": {("RCPT", 0): "hang"},
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_relay_that_breaks_on_what_it_offers_is_served_plainly(how):
    async def scenario():
        broken = [("serve", {"offers": ("PIPELINING", "CHUNKING"), "faults": BROKEN[how]})]
        async with fault_server.FaultServer([broken, [("serve", {"offers": ("PIPELINING", "CHUNKING")})]]) as server:
            waiting, outcomes = [job(1)], {}

            def done(which, result):
                if not verdict.was_tried(result[0]) or result[0].kind == DEFERRED:
                    waiting.append(which)
                else:
                    outcomes[which.key] = result

            sessions = []
            while waiting and len(sessions) < 3:
                target = Target("127.0.0.1", server.port, PLAIN)
                session = await Session.open(target, helo="x.example", limits=quick(rcpt=0.1))
                sessions.append(session)
                await session.run(lambda: waiting.pop(0) if waiting else None, done)
                await session.quit()
            return outcomes, sessions, server

    outcomes, sessions, server = run(scenario())
    assert outcomes[1][0].kind == DELIVERED
    assert [session.capabilities.pipelining for session in sessions] == [True, False]
    assert len(server.bodies) == 1
    assert any(text == b"DATA\r\n" for _, text in server.transcript[1])


def test_a_relay_that_merely_closes_is_not_held_to_be_broken():
    async def scenario():
        polite = [("serve", {"faults": {("RCPT", 0): "421 4.3.2 closing"}})]
        async with fault_server.FaultServer([polite]) as server:
            _, first = await send(server, [job(1)])
            session = await Session.open(Target("127.0.0.1", server.port, PLAIN), helo="x.example", limits=quick())
            session.abort()
            again = await Session.open(Target("127.0.0.1", server.port, PLAIN), helo="x.example", limits=quick())
            await again.quit()
            return first, again

    first, again = run(scenario())
    assert first.capabilities.pipelining
    assert again.capabilities.pipelining


def test_habits_are_forgotten_in_time():
    habits = Habits()
    habits.broke("Relay.example", 25, 1000, PROVED)
    assert habits.plain("relay.example", 25, 1001)
    assert not habits.plain("relay.example", 587, 1001)
    assert habits.plain("relay.example", 25, 1000 + PROVED - 1)
    assert not habits.plain("relay.example", 25, 1000 + PROVED)
