"""LMTP: its own hello, a reply for each recipient behind the end of the message, TCP and a socket of this machine."""

import pytest
from agent import Agent
from lmtp_server import LmtpServer
from mail_server import MailServer

from dma_runtime.smtp import command
from dma_runtime.smtp.lmtp import LmtpTransaction
from dma_runtime.smtp.reply import ReplyParser


@pytest.fixture
def make(tmp_path):
    made = []

    def make(server, conf=""):
        where = server.path or f"127.0.0.1:{server.port}"
        made.append(Agent(tmp_path, conf=f"SMARTHOST {where}\nLMTP\n{conf}"))
        return made[-1]

    yield make
    for agent in made:
        agent.close()


def states(agent):
    return {one["address"]: one["state"] for row in agent.queue() if row["sender"] for one in row["recipients"]}


@pytest.fixture(params=["tcp", "socket", "one at a time"])
def server(request, tmp_path):
    with LmtpServer(tmp_path / "lmtp" if request.param == "socket" else None, pipelining="one" not in request.param) as server:
        yield server


class TestDelivery:
    def test_says_lhlo_and_delivers(self, make, server):
        agent = make(server)
        agent.send("-D", "a@x.test", "b@x.test", text=b"Subject: t\n\n.dot\nend\n")
        ((_, recipients, content),) = server.messages
        assert sorted(recipients) == ["a@x.test", "b@x.test"]
        assert content.endswith(b"\r\n\r\n.dot\r\nend\r\n")
        verbs = [line.split(" ")[0] for line in server.commands]
        assert verbs[0] == "LHLO"
        assert "EHLO" not in verbs
        assert "BDAT" not in verbs  # although it is offered
        assert not agent.files()

    def test_each_recipient_has_a_reply_of_its_own(self, make, server):
        server.replies.update(full="452 4.2.2 mailbox full", gone="550 5.1.1 no such mailbox")
        server.at_rcpt.update(never="550 5.1.1 never heard of")
        agent = make(server)
        agent.send("-D", "-f", "me@x.test", "a@x.test", "full@x.test", "never@x.test", "gone@x.test", "b@x.test")
        assert server.messages[0][1] == ["a@x.test", "b@x.test"]
        assert states(agent) == {
            "a@x.test": "delivered",
            "b@x.test": "delivered",
            "full@x.test": "deferred",
            "gone@x.test": "failed",
            "never@x.test": "failed",
        }
        agent.until(lambda: len(server.messages) == 2, what="the report")
        sender, recipients, report = server.messages[1]
        assert (sender, recipients) == ("", ["me@x.test"])
        assert b"550 5.1.1 never heard of" in report
        assert b"550 5.1.1 no such mailbox" in report
        server.replies.clear()
        agent.run("-q", "-D")
        assert ["full@x.test"] in [recipients for _, recipients, _ in server.messages]

    def test_many_messages_over_one_connection(self, make, server):
        agent = make(server)
        for number in range(7):
            agent.send("-bq", f"u{number}@x.test", f"v{number}@x.test")
        agent.run("-q", "-D")
        assert len(server.messages) == 7
        assert server.connections == 1
        assert not agent.files()

    def test_a_connection_lost_between_the_replies(self, make, server):
        server.cut = 1
        agent = make(server)
        agent.send("-D", "a@x.test", "b@x.test", "c@x.test")
        assert states(agent) == {"a@x.test": "delivered", "b@x.test": "deferred", "c@x.test": "deferred"}
        errors = [one["last_error"] for row in agent.queue() for one in row["recipients"] if one["state"] == "deferred"]
        assert all("may have been delivered" in error for error in errors)

    def test_nobody_accepted(self, make, server):
        server.at_rcpt.update(a="451 4.3.0 later", b="451 4.3.0 later")
        agent = make(server)
        agent.send("-D", "a@x.test", "b@x.test")
        assert set(states(agent).values()) == {"deferred"}
        assert server.messages == []


def test_a_server_that_refuses_lhlo_is_not_asked_for_helo(make):
    with LmtpServer(hello="500") as server:
        agent = make(server)
        agent.send("-D", "a@x.test")
        assert [line.split(" ")[0] for line in server.commands] == ["LHLO", "QUIT"]
        assert set(states(agent).values()) == {"deferred"}


@pytest.mark.parametrize(
    ("kind", "conf", "remedy"),
    [(LmtpServer, "", "add LMTP to dma.conf"), (MailServer, "LMTP\n", "take LMTP out of dma.conf")],
)
def test_the_other_protocol_is_told_with_its_remedy(tmp_path, kind, conf, remedy):
    """It is not about this machine's name."""
    with kind() as server:
        agent = Agent(tmp_path, conf=f"{conf}SMARTHOST 127.0.0.1:{server.port}")
        agent.send("-D", "a@x.test")
        said = agent.program("dma-queue", "list").stderr.decode()
        agent.close()
    assert remedy in said
    assert "MAILNAME" not in said


def test_a_socket_that_is_not_there_is_waited_for(make, tmp_path):
    class Missing:
        path = str(tmp_path / "missing")

    agent = make(Missing)
    agent.send("-D", "a@x.test")
    (row,) = agent.queue()
    assert "No such file or directory" in row["recipients"][0]["last_error"]
    with LmtpServer(Missing.path) as server:
        agent.run("-q", "-D")
        assert len(server.messages) == 1


def test_a_login_for_the_socket_goes_without_tls(make, tmp_path):
    """SECURETRANSFER is for what leaves the machine."""
    with LmtpServer(tmp_path / "lmtp") as server:
        agent = make(server, "SECURETRANSFER\nVERIFYCERT")
        agent.send("-D", "a@x.test")
        assert len(server.messages) == 1


def test_a_path_needs_lmtp(tmp_path):
    agent = Agent(tmp_path, conf="SMARTHOST /run/lmtp")
    ran = agent.send("a@x.test", check=78)
    assert b"needs LMTP" in ran.stderr


# ---------------------------------------------------------------- the transaction alone


def reply(text):
    parser = ReplyParser()
    parser.feed(text.encode() + b"\r\n")
    return parser.next()


def transaction(rcpts):
    """One at which every RCPT was answered as told, up to the dot."""
    made = LmtpTransaction(b"MAIL FROM:<s@x>\r\n", [b"RCPT TO:<r@x>\r\n"] * len(rcpts))
    for answer in ["250 ok", *rcpts]:
        verb, _ = made.next()
        made.reply(verb, reply(answer))
    return made


def test_the_replies_belong_to_the_accepted_in_order():
    made = transaction(["250 ok", "550 no", "250 ok", "250 ok"])
    verb, _ = made.next()
    made.reply(verb, reply("354 go"))
    assert made.finals == 3
    made.part_sent(last=True)
    for answer in ("250 first", "250 second", "452 third"):
        assert not made.over
        made.reply(command.DOT, reply(answer))
    assert made.over
    assert [answer[1].text for answer in made.answers] == ["250 first", "550 no", "250 second", "452 third"]
    assert made.delivered  # to somebody, although the last said no


def test_nothing_delivered_when_all_say_no():
    made = transaction(["250 ok", "250 ok"])
    verb, _ = made.next()
    made.reply(verb, reply("354 go"))
    made.part_sent(last=True)
    for answer in ("452 no", "550 no"):
        made.reply(command.DOT, reply(answer))
    assert made.over
    assert not made.delivered


def test_a_server_that_wants_the_message_for_nobody_is_out_of_step():
    made = LmtpTransaction(b"MAIL FROM:<s@x>\r\n", [b"RCPT TO:<r@x>\r\n"])
    sent = [made.next()[0] for _ in range(3)]  # ahead of the replies: MAIL, RCPT, DATA
    for verb, answer in zip(sent, ("250 ok", "550 no", "354 go"), strict=True):
        made.reply(verb, reply(answer))
    assert "out of step" in made.fatal
