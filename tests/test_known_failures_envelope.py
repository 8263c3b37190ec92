"""docs/known-failures.md, "Envelope, recipients, aliases": one test a row, named by its symptom. Real programs, real server."""

import email

import pytest
from agent import BIN, Agent
from covered import Covered
from mail_server import MailServer


@pytest.fixture
def server():
    with MailServer() as server:
        yield server


@pytest.fixture
def agent(tmp_path, server):
    agent = Agent(tmp_path, server)
    agent.alias = lambda text: agent.write(agent.directory / "aliases", text)
    yield agent
    agent.close()


@pytest.fixture
def covered(agent, tmp_path):
    return Covered(agent, tmp_path)


def said(server, verb):
    """The paths of MAIL or RCPT as the relay heard them."""
    return [argument.split(":", 1)[1].split(" ")[0] for _, word, argument in server.commands if word == verb]


@pytest.mark.parametrize("address", ["a@x.test>\r\nRCPT TO:<b@y.test", "a@x.test\nb", "a\r@x.test", "a\x01@x.test"])
def test_smtp_commands_are_injected_by_a_recipient(agent, server, address):
    ran = agent.send("-D", address, check=None)
    assert ran.returncode in (64, 65)
    assert (server.commands, agent.files()) == ([], [])


@pytest.mark.parametrize("sender", ["", "<>"])
def test_the_null_sender_is_impossible(agent, server, sender):
    """nullmailer#27"""
    agent.send("-D", "-f", sender, "bob@example.org")
    assert said(server, "MAIL") == ["<>"]


def test_angle_brackets_are_doubled_and_a_local_name_in_them_unknown(agent, server, covered):
    agent.send("-D", "<a@x.test>")
    assert said(server, "RCPT") == ["<a@x.test>"]
    covered.run("-D", "<root>")
    assert b"\nhello\n" in covered.mailbox("root")


def test_masquerade_is_overridden_by_minus_f(agent, server):
    """dma#64, #67, #114, #116, #117"""
    agent.configure("MASQUERADE corp.test")
    agent.send("-D", "-f", "app@host.test", "bob@example.org")
    assert said(server, "MAIL") == ["<app@corp.test>"]


def test_nullclient_sends_root_unqualified_and_knows_no_aliases(agent, server):
    """dma#137, #119, #80, nullmailer#59"""
    agent.configure("NULLCLIENT")
    agent.alias("root: me@x.test\n")
    agent.send("-D", "root")
    agent.send("-D", "pi")
    assert said(server, "RCPT") == ["<me@x.test>", "<pi@here.test>"]


@pytest.mark.parametrize("domain", ["here.test", "HERE.Test"])
def test_user_at_mailname_cannot_be_mailed_when_the_mx_is_elsewhere(agent, server, domain):
    """dma#20, #60"""
    agent.send("-D", f"nobodyhere@{domain}")
    assert said(server, "RCPT") == [f"<nobodyhere@{domain}>"]


def test_one_bad_local_recipient_kills_all(agent, server, covered):
    covered.run("-D", "-f", "me@x.test", "root", "nosuchuser")
    assert b"\nhello\n" in covered.mailbox("root")
    (report,) = server.wait(1)
    assert report.recipients == ["me@x.test"]
    assert (
        email.message_from_bytes(report.content).get_payload(1).get_payload(1)["Final-Recipient"].endswith("nosuchuser@here.test")
    )


def test_an_aliases_file_without_a_final_newline_fails_every_mail(agent, server):
    """dma#84"""
    agent.alias("root: a@x.test")
    agent.send("-D", "root")
    assert said(server, "RCPT") == ["<a@x.test>"]


def test_one_sendmail_style_alias_fails_every_mail(agent, server):
    agent.alias('# first\nx: "|/bin/prog arg"\nl: :include:/nowhere\ne:\n"q u": c@x.test\nroot: a@x.test\n')
    ran = agent.send("-D", "root")
    assert said(server, "RCPT") == ["<a@x.test>"]
    problems = agent.program("dma", "-bi").stderr.decode()
    assert "aliases:4" in problems
    assert ":6" not in problems
    assert ran.returncode == 0


@pytest.mark.parametrize("line", ["root:a@x.test b@x.test", "root: a@x.test, b@x.test", "root: a@x.test\n\tb@x.test"])
def test_blank_separated_destinations_are_a_syntax_error(agent, server, line):
    """dma.8 and aliases_scan.l:16"""
    agent.alias(line + "\n")
    agent.send("-D", "root")
    assert said(server, "RCPT") == ["<a@x.test>", "<b@x.test>"]


@pytest.mark.parametrize(
    ("text", "outside"),
    [("root: root, admin@x.test\n", ["<admin@x.test>"]), ("root: root\n", []), ("*: root\n", []), ("root: \\root\n", [])],
)
def test_an_alias_to_oneself_loses_the_local_copy(agent, server, covered, text, outside):
    """dma#88"""
    agent.alias(text)
    covered.run("-D", "root")
    assert covered.mailbox("root").count(b"\nhello\n") == 1
    assert said(server, "RCPT") == outside
    assert agent.files() == []


def test_a_catch_all_takes_who_is_not_there(agent, covered):
    agent.alias("*: root\n")
    covered.run("-D", "nosuchuser")
    assert covered.mailbox("root").count(b"\nhello\n") == 1


@pytest.mark.parametrize(("key", "recipient"), [("Root", "root"), ("root", "ROOT"), ("ROOT", "Root")])
def test_alias_keys_are_case_sensitive(agent, server, key, recipient):
    """OpenSMTPD#26, dma.c:191"""
    agent.alias(f"{key}: a@x.test\n")
    agent.send("-D", recipient)
    assert said(server, "RCPT") == ["<a@x.test>"]


def test_newaliases_ignores_aliases_of_dma_conf(agent):
    """dma#90"""
    path = agent.directory / "elsewhere"
    agent.write(path, "root a@x.test\n")
    agent.configure(f"ALIASES {path}")
    link = agent.directory / "newaliases"
    link.symlink_to(BIN / "dma")
    ran = agent.program(str(link))
    assert ran.returncode == 70
    assert str(path).encode() in ran.stderr


def test_forward_is_ignored(agent, server, covered):
    """dma#37"""
    (covered.home / ".forward").write_text("a@x.test\n")
    (covered.home / ".forward").chmod(0o600)
    covered.run("-D", "root")
    assert said(server, "RCPT") == ["<a@x.test>"]
    assert covered.mailbox("root") == b""
    (covered.home / ".forward").chmod(0o666)  # anybody could have written it
    covered.run("-D", "root")
    assert said(server, "RCPT") == ["<a@x.test>"]
    assert covered.mailbox("root").count(b"\nhello\n") == 1
