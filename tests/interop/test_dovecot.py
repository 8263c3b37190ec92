"""LMTP to a real Dovecot, over TCP and its socket."""

import dovecot
import pytest
from agent import Agent


@pytest.fixture(scope="module")
def server():
    if reason := dovecot.missing():
        pytest.skip(reason)
    with dovecot.Dovecot(["alice", "bob", "full"], full=["full"]) as found:
        yield found


@pytest.fixture(params=["tcp", "socket"])
def agent(request, server, tmp_path):
    where = server.socket if request.param == "socket" else f"127.0.0.1:{server.port}"
    agent = Agent(tmp_path, conf=f"SMARTHOST {where}\nLMTP")
    yield agent
    agent.close()


def test_each_mailbox_answers_for_itself(agent, server, request):
    subject = request.node.name.encode()
    words = [f"{name}@here.invalid" for name in ("alice", "nobody", "full", "bob")]
    text = b"Subject: " + subject + b"\n\n.a dot\nb\xc3\xa4r\n"
    agent.send("-D", "-f", "alice@here.invalid", *words, text=text)
    # The one message, and the report of the two who could not have it.
    agent.until(lambda: len([m for m in server.mail("alice") if subject in m]) == 2, what="the report")
    agent.until_empty()
    (copy,) = [m for m in server.mail("bob") if subject in m]
    assert copy.replace(b"\r\n", b"\n").endswith(b"\n\n.a dot\nb\xc3\xa4r\n")
    (report,) = [m for m in server.mail("alice") if b"multipart/report" in m and subject in m]
    assert b"550 5.1.1 <nobody@here.invalid>" in report
    assert b"552 5.2.2 <full@here.invalid>" in report
    assert not server.mail("full")


def test_many_messages(agent, server, request):
    subject = request.node.name.encode()
    before = len(server.mail("bob"))
    for number in range(20):
        agent.send("-bq", "bob@here.invalid", text=b"Subject: %s %d\n\n%s\n" % (subject, number, b"x" * 900 * number))
    agent.run("-q", "-D")
    assert not agent.files()
    assert len(server.mail("bob")) - before == 20
