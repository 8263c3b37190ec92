"""The messages of RFC 5322 appendix A through `sendmail -t`: who gets them, and that nothing of them changes."""

import pytest
from sendmail_program import Sendmail

# name: (message, recipients)
MESSAGES = {
    "A.1.1": (
        b"From: John Doe <jdoe@machine.example>\n"
        b"To: Mary Smith <mary@example.net>\n"
        b"Subject: Saying Hello\n"
        b"Date: Fri, 21 Nov 1997 09:55:06 -0600\n"
        b"Message-ID: <1234@local.machine.example>\n"
        b'\nThis is a message just to say hello.\nSo, "Hello".\n',
        ["mary@example.net"],
    ),
    "A.1.1 with a sender": (
        b"From: John Doe <jdoe@machine.example>\n"
        b"Sender: Michael Jones <mjones@machine.example>\n"
        b"To: Mary Smith <mary@example.net>\n"
        b"Subject: Saying Hello\n"
        b"Date: Fri, 21 Nov 1997 09:55:06 -0600\n"
        b"Message-ID: <1234@local.machine.example>\n"
        b"\nThis is a message just to say hello.\n",
        ["mary@example.net"],
    ),
    "A.1.2": (
        b'From: "Joe Q. Public" <john.q.public@example.com>\n'
        b"To: Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>\n"
        b'Cc: <boss@nil.test>, "Giant; \\"Big\\" Box" <sysservices@example.net>\n'
        b"Date: Tue, 1 Jul 2003 10:52:37 +0200\n"
        b"Message-ID: <5678.21-Nov-1997@example.com>\n"
        b"\nHi everyone.\n",
        ["mary@x.test", "jdoe@example.org", "one@y.test", "boss@nil.test", "sysservices@example.net"],
    ),
    "A.1.3": (
        b"From: Pete <pete@silly.example>\n"
        b"To: A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;\n"
        b"Cc: Undisclosed recipients:;\n"
        b"Date: Thu, 13 Feb 1969 23:32:54 -0330\n"
        b"Message-ID: <testabcd.1234@silly.example>\n"
        b"\nTesting.\n",
        ["c@a.test", "joe@where.test", "jdoe@one.test"],
    ),
    "A.2": (
        b"From: Mary Smith <mary@example.net>\n"
        b"To: John Doe <jdoe@machine.example>\n"
        b'Reply-To: "Mary Smith: Personal Account" <smith@home.example>\n'
        b"Subject: Re: Saying Hello\n"
        b"Date: Fri, 21 Nov 1997 10:01:10 -0600\n"
        b"Message-ID: <3456@example.net>\n"
        b"In-Reply-To: <1234@local.machine.example>\n"
        b"References: <1234@local.machine.example>\n"
        b"\nThis is a reply to your hello.\n",
        ["jdoe@machine.example"],
    ),
    "A.3": (
        b"Resent-From: Mary Smith <mary@example.net>\n"
        b"Resent-To: Jane Brown <j-brown@other.example>\n"
        b"Resent-Date: Mon, 24 Nov 1997 14:22:01 -0800\n"
        b"Resent-Message-ID: <78910@example.net>\n"
        b"From: John Doe <jdoe@machine.example>\n"
        b"To: Mary Smith <mary@example.net>\n"
        b"Subject: Saying Hello\n"
        b"Date: Fri, 21 Nov 1997 09:55:06 -0600\n"
        b"Message-ID: <1234@local.machine.example>\n"
        b"\nThis is a message just to say hello.\n",
        ["j-brown@other.example"],
    ),
    "A.4": (
        b"Received: from x.y.test\n   by example.net\n   via TCP\n   with ESMTP\n   id ABC12345\n"
        b"   for <mary@example.net>;  21 Nov 1997 10:05:43 -0600\n"
        b"Received: from node.example by x.y.test; 21 Nov 1997 10:01:22 -0600\n"
        b"From: John Doe <jdoe@node.example>\n"
        b"To: Mary Smith <mary@example.net>\n"
        b"Subject: Saying Hello\n"
        b"Date: Fri, 21 Nov 1997 09:55:06 -0600\n"
        b"Message-ID: <1234@local.node.example>\n"
        b"\nThis is a message just to say hello.\n",
        ["mary@example.net"],
    ),
    "A.5": (
        b"From: Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>\n"
        b"To:A Group(Some people)\n"
        b"     :Chris Jones <c@(Chris's host.)public.example>,\n"
        b"         joe@example.org,\n"
        b"  John <jdoe@one.test> (my dear friend); (the end of the group)\n"
        b"Cc:(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;\n"
        b"Date: Thu,\n      13\n        Feb\n          1969\n      23:32\n               -0330 (Newfoundland Time)\n"
        b"Message-ID:              <testabcd.1234@silly.test>\n"
        b"\nTesting.\n",
        ["c@public.example", "joe@example.org", "jdoe@one.test"],
    ),
    "A.6.1": (
        b"From: Joe Q. Public <john.q.public@example.com>\n"
        b"To: Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example\n"
        b"Date: Tue, 1 Jul 2003 10:52:37 +0200\n"
        b"Message-ID: <5678.21-Nov-1997@example.com>\n"
        b"\nHi everyone.\n",
        ["mary@example.net", "jdoe@test.example"],
    ),
    "A.6.2": (
        b"From: John Doe <jdoe@machine.example>\n"
        b"To: Mary Smith <mary@example.net>\n"
        b"Subject: Saying Hello\n"
        b"Date: 21 Nov 97 09:55:06 GMT\n"
        b"Message-ID: <1234@local.machine.example>\n"
        b"\nThis is a message just to say hello.\n",
        ["mary@example.net"],
    ),
    "A.6.3": (
        b"From  : John Doe <jdoe@machine(comment).  example>\n"
        b"To    : Mary Smith\n"
        b"  \n"
        b"          <mary@example.net>\n"
        b"Subject     : Saying Hello\n"
        b"Date  : Fri, 21 Nov 1997 09(comment):   55  :  06 -0600\n"
        b"Message-ID  : <1234   @   local(blah)  .machine .example>\n"
        b"\nTesting.\n",
        ["mary@example.net"],
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_it_goes_to_those_it_names_and_nothing_of_it_changes(tmp_path, name):
    message, recipients = MESSAGES[name]
    mail = Sendmail(tmp_path)
    envelope, stored = mail.accepted("-t", stdin=message)
    assert [recipient.address for recipient in envelope.recipients] == recipients
    assert stored.endswith(b"\n" + message)
    assert stored[: -len(message)].count(b"\nReceived: ") == 0  # one field, folded, is all that was added
    assert stored.startswith(b"Received: from ")
    with_crlf, again = mail.accepted("-t", stdin=message.replace(b"\n", b"\r\n"))
    assert [recipient.address for recipient in with_crlf.recipients] == recipients
    assert again.endswith(b"\n" + message)


def test_with_t_a_resent_message_is_not_sent_to_those_it_was_first_for(tmp_path):
    mail = Sendmail(tmp_path)
    message = MESSAGES["A.3"][0].replace(
        b"Resent-Date: Mon, 24 Nov 1997 14:22:01 -0800\nResent-Message-ID: <78910@example.net>\n", b""
    )
    message = message.replace(b"Resent-To:", b"Resent-Bcc: hidden@other.example\nResent-Cc: c@other.example\nResent-To:")
    envelope, stored = mail.accepted("-t", "more@x.test", stdin=message)
    assert sorted(recipient.address for recipient in envelope.recipients) == [
        "c@other.example",
        "hidden@other.example",
        "j-brown@other.example",
        "more@x.test",
    ]
    assert b"hidden" not in stored
    # Its own Date and Message-ID stay those of the first sending (RFC 5322 3.6.6).
    top = stored.partition(b"Resent-From:")[0]
    assert b"\nResent-Date: " in top
    assert b"\nResent-Message-Id: <" in top
    assert stored.count(b"\nDate: ") == 1
    assert stored.count(b"\nMessage-ID: <1234@local.machine.example>\n") == 1
