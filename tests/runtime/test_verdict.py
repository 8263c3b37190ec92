"""What failures mean, case by case (hard-parts.md, Meaning of failures), and how much TLS a relay gets."""

import pytest

from dma_runtime import config
from dma_runtime.outcome import DEFERRED, DELIVERED, FAILED, MACHINE, MESSAGE, PACE, RECIPIENT, RELAY, SENDER
from dma_runtime.policy import tls, verdict
from dma_runtime.smtp.reply import reply

SESSION = ("connect", "EHLO", "STARTTLS", "AUTH")


@pytest.mark.parametrize("stage", SESSION)
def test_a_5yz_before_mail_is_a_state_of_the_relay(stage):
    outcome = verdict.judge(stage, reply("554 5.7.1 go away"), relay="r [1]")
    assert (outcome.kind, outcome.scope, outcome.tell, outcome.answered) == (DEFERRED, RELAY, True, True)
    assert outcome.hint
    assert (outcome.code, outcome.status, outcome.stage, outcome.relay) == (554, "5.7.1", stage, "r [1]")


@pytest.mark.parametrize("stage", SESSION)
def test_a_4yz_before_mail_is_one_too_and_told_to_nobody(stage):
    outcome = verdict.judge(stage, reply("454 4.7.0 later"))
    assert (outcome.kind, outcome.scope, outcome.tell) == (DEFERRED, RELAY, False)


CASES = [
    # stage, reply, smarthost: kind, scope, tell
    ("MAIL FROM", "550 5.7.1 sender not allowed", True, DEFERRED, SENDER, True),
    ("MAIL FROM", "550 5.7.1 sender not allowed", False, FAILED, SENDER, False),
    ("MAIL FROM", "552 5.3.4 too large", True, FAILED, MESSAGE, False),
    ("MAIL FROM", "552 too large", True, FAILED, MESSAGE, False),
    ("MAIL FROM", "553 5.6.7 no UTF-8 here", True, FAILED, MESSAGE, False),
    ("MAIL FROM", "452 4.3.1 no space", True, DEFERRED, RELAY, False),
    ("MAIL FROM", "451 4.3.0 later", True, DEFERRED, RELAY, False),
    ("MAIL FROM", "450 4.1.8 sender domain not found", True, DEFERRED, SENDER, False),
    ("MAIL FROM", "530 5.7.0 authentication required", True, DEFERRED, RELAY, True),
    ("RCPT TO", "530 authentication required", True, DEFERRED, RELAY, True),
    ("RCPT TO", "550 5.1.1 no such user", True, FAILED, RECIPIENT, False),
    ("RCPT TO", "450 4.2.1 later", True, DEFERRED, RECIPIENT, False),
    ("RCPT TO", "421 4.3.2 closing", True, DEFERRED, RELAY, False),
    ("RCPT TO", "550 5.4.5 daily sending limit exceeded", True, DEFERRED, RELAY, True),
    ("RCPT TO", "552 5.2.2 mailbox full", True, FAILED, RECIPIENT, False),
    ("DATA", "554 5.5.1 no valid recipients", True, FAILED, MESSAGE, False),
    ("DATA", "451 4.3.0 later", True, DEFERRED, MESSAGE, False),
    ("final DATA", "554 5.7.1 spam", True, FAILED, MESSAGE, False),
    ("final DATA", "451 4.7.1 greylisted", True, DEFERRED, MESSAGE, False),
    ("final DATA", "550 5.4.5 quota", True, DEFERRED, RELAY, True),
    ("final DATA", "421 4.3.2 closing", True, DEFERRED, RELAY, False),
    ("final DATA", "250 2.0.0 queued as 7", True, DELIVERED, RECIPIENT, False),
]


@pytest.mark.parametrize(("stage", "text", "smarthost", "kind", "scope", "tell"), CASES)
def test_the_meaning_of_a_reply(stage, text, smarthost, kind, scope, tell):
    outcome = verdict.judge(stage, reply(text), smarthost=smarthost)
    assert (outcome.kind, outcome.scope, outcome.tell) == (kind, scope, tell)
    assert outcome.text == text


@pytest.mark.parametrize(
    ("text", "remedy"),
    [("530 5.7.0 Must issue a STARTTLS command first", "SECURETRANSFER"), ("530 5.7.0 authentication required", "auth.conf")],
)
def test_what_a_530_wants(text, remedy):
    assert remedy in verdict.judge("MAIL FROM", reply(text)).hint


def test_a_recipe_marks_its_own_quota_texts():
    said = reply("554 Transaction failed: Credits used up")
    assert verdict.judge("final DATA", said).kind == FAILED
    marked = verdict.judge("final DATA", said, quota=("5.4.5", "credits used"))
    assert (marked.kind, marked.scope, marked.tell) == (DEFERRED, RELAY, True)


@pytest.mark.parametrize("stage", [*SESSION, "MAIL FROM", "RCPT TO", "DATA", "final DATA"])
@pytest.mark.parametrize(
    "text",
    [
        "450 4.7.1 Error: too much mail from 192.0.2.1",  # Postfix
        "421 4.7.0 mail.example Error: too many connections from 192.0.2.1",
        "454 4.7.0 Too many login attempts, please try again later.",  # Gmail
        "421-4.7.28 Gmail has detected an unusual rate of unsolicited mail\n421 4.7.28 originating from your network",
        "450 Requested mail action not taken: Mail send limit exceeded.",  # IONOS
        "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded",  # Exchange
        "451 Sender rate 12.0 / 1m exceeds: rate limit is 10",  # Exim
    ],
)
def test_a_relay_that_asks_for_a_slower_pace(stage, text):
    outcome = verdict.judge(stage, reply(text))
    assert (outcome.kind, outcome.scope, outcome.tell) == (DEFERRED, PACE, False)
    assert outcome.holds_relay


@pytest.mark.parametrize(
    "text",
    [
        "452 4.5.3 Too many recipients",
        "452 4.2.2 The recipient's mailbox is over its limit: quota limit exceeded",
        "450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents more",
        "451 4.7.1 Greylisted, please try again later",
        "550 5.7.1 Message rate limit exceeded",  # final: that is a verdict, unless a recipe marks it
    ],
)
def test_what_speaks_of_one_recipient_is_no_matter_of_pace(text):
    assert verdict.judge("RCPT TO", reply(text)).scope == RECIPIENT


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("550-5.7.1 Daily SMTP relay\r\n550 5.7.1  LIMIT exceeded for customer", True),  # cut, and in another case
        ("550 5.4.6 Unusual activity", True),
        ("554 refused (5.4.6)", True),
        ("554 5.7.1 refused: 15.4.6.2 is listed", False),  # part of an address
        ("550 5.1.1 no such user", False),
    ],
)
def test_a_mark_is_found_however_it_is_written(text, marked):
    outcome = verdict.judge("final DATA", reply(text), quota=("smtp relay limit exceeded", "5.4.6"))
    assert (outcome.kind, outcome.scope) == ((DEFERRED, RELAY) if marked else (FAILED, MESSAGE))


def test_an_address_in_a_refusal_is_no_quota():
    outcome = verdict.judge("RCPT TO", reply("554 5.7.1 195.4.5.1 is on a block list"))
    assert outcome.kind == FAILED


def test_faults_of_the_connection():
    assert verdict.fault("RCPT TO", "lost").scope == RELAY
    assert verdict.fault("final DATA", "lost").scope == MESSAGE
    assert verdict.machine("no network").scope == MACHINE
    assert not verdict.machine("no network").answered


def test_what_was_not_tried_is_told_apart():
    assert not verdict.was_tried(verdict.untried("x", relay="r [1]"))
    for outcome in (verdict.fault("connect", "x", relay="r"), verdict.machine("x"), verdict.unreadable("x", relay="r")):
        assert verdict.was_tried(outcome)
    assert verdict.was_tried(verdict.judge("RCPT TO", reply("450 x"), relay="r"))


# ---------------------------------------------------------------- TLS

S, START, OPP = "SECURETRANSFER\n", "STARTTLS\n", "OPPORTUNISTIC_TLS\n"
PIN = "FINGERPRINT " + "ab" * 32 + "\n"


@pytest.mark.parametrize(
    ("text", "port", "login", "level", "verify", "implicit"),
    [
        ("", 25, False, tls.NONE, tls.ANY, False),
        ("", 587, True, tls.REQUIRED, tls.NAME, False),  # a login is only sent over TLS
        ("", 465, True, tls.REQUIRED, tls.NAME, True),
        ("INSECURE\n", 25, True, tls.NONE, tls.ANY, False),
        (S, 465, False, tls.REQUIRED, tls.ANY, True),
        (S, 465, True, tls.REQUIRED, tls.NAME, True),
        (S + START, 587, True, tls.REQUIRED, tls.NAME, False),
        (S + START + OPP, 587, False, tls.OPPORTUNISTIC, tls.ANY, False),
        (S + START + OPP, 587, True, tls.OPPORTUNISTIC, tls.NAME, False),
        (S + START + "VERIFYCERT\n", 587, False, tls.REQUIRED, tls.NAME, False),
        (S + START + "UNVERIFIEDCERT\n", 587, True, tls.REQUIRED, tls.ANY, False),
        (S + START + "UNVERIFIEDCERT\nVERIFYCERT\n", 587, True, tls.REQUIRED, tls.NAME, False),
        (S + START + PIN, 587, True, tls.REQUIRED, tls.FINGERPRINT, False),
        (S + START + PIN + "UNVERIFIEDCERT\n", 587, True, tls.REQUIRED, tls.FINGERPRINT, False),
    ],
)
def test_the_policy_towards_a_smarthost(text, port, login, level, verify, implicit):
    policy = tls.decide(config.parse("SMARTHOST relay.example\n" + text, "test"), port, will_authenticate=login)
    assert (policy.level, policy.verify, policy.implicit) == (level, verify, implicit)
    assert policy.why


def test_direct_delivery_takes_tls_where_it_is_offered():
    policy = tls.decide(config.parse("", "test"), 25, will_authenticate=False, smarthost=False)
    assert (policy.level, policy.verify) == (tls.OPPORTUNISTIC, tls.ANY)


def test_policies_are_what_sessions_are_pooled_by():
    text = config.parse(S + START, "test")
    one, other = (tls.decide(text, 587, will_authenticate=login) for login in (True, True))
    assert one == other
    assert hash(one) == hash(other)
    assert one != tls.decide(text, 587, will_authenticate=False)
