"""Signed mail: what dkimpy finds valid before submission it finds valid at the sink; multipart/signed parts stay as they are.

Each relay gets all messages in one run: one that takes BDAT, one that takes DATA, one that offers nothing at all.
"""

import email
import subprocess

import agent
import mail_server
import pytest
from postfix import Postfix, missing

dkim = pytest.importorskip("dkim", reason="needs dkimpy: pip install dkimpy")

LOGIN, SELECTOR, DOMAIN = "alice@example.test", b"sel", b"example.test"
HEADER = (
    b"From: =?utf-8?q?J=C3=BCrgen?= <alice@example.test>\r\n"
    b"To:  bob@far.test ,\r\n\t(a comment) carol@far.test\r\n"
    b"Subject: %s\r\n"
    b"Date: Fri, 21 Nov 1997 09:55:06 -0600\r\n"
    b"Message-ID: <%s@example.test>\r\n"
)
MIME = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"

# name: (further fields, body)
MESSAGES = {
    "plain": (b"", b"hello\r\n"),
    "empty": (b"", b""),
    "blank-lines-at-the-end": (b"", b"hello \t x  \r\n\r\n\r\n"),
    "no-last-line-end": (b"", b"hello"),
    "dots": (b"", b".\r\n..\r\n.x\r\nFrom here\r\n>From there\r\n"),
    "eight-bit": (MIME, "Grüße — ß\r\n".encode()),
    "eight-bit-unlabelled": (b"", b"Gr\xfc\xdfe\r\n"),
    "long-lines": (b"", b"x" * 2500 + b"\r\n" + b"y" * 998 + b"\r\n"),
    "long-field": (b"X-Long: " + b"word " * 600 + b"end\r\n", b"hello\r\n"),
    "odd-fields": (b"X-Empty:\r\nX-Folded: a\r\n  b\r\n\t c  \r\nx-case:    Y\r\n", b"hello\r\n"),
    "utf8-field": (b"X-Name: J\xc3\xbcrgen\r\n", b"hello\r\n"),
    "multipart": (
        b'MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary="b"\r\n',
        b"pre\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        + "Grüße\r\n".encode()
        + b"--b\r\nContent-Type: text/html\r\n\r\n<p>" + b"z" * 1500 + b"</p>\r\n--b--\r\nepilogue\r\n",
    ),
    "base64": (
        b"MIME-Version: 1.0\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n",
        b"AAAA" * 400 + b"\r\n",
    ),
}  # fmt: skip
CANONICAL = [(b"simple", b"simple"), (b"relaxed", b"relaxed")]


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    """(private key as PEM, the answer of its DNS record)."""
    place = tmp_path_factory.mktemp("key") / "private.pem"
    words = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", str(place)]
    subprocess.run(words, check=True, capture_output=True)
    words = ["openssl", "rsa", "-in", str(place), "-pubout"]
    public = subprocess.run(words, check=True, capture_output=True).stdout
    record = b"v=DKIM1; k=rsa; p=" + b"".join(public.splitlines()[1:-1])
    return place.read_bytes(), record


def valid(message, key):
    """Whether the one signature of a message is valid now."""
    return dkim.verify(message, dnsfunc=lambda name, timeout=5: key[1])


def signed(name, canonical, key):
    extra, body = MESSAGES[name]
    mark = b"%s-%s" % (name.encode(), canonical[0])
    message = HEADER % (mark, mark) + extra + b"\r\n" + body
    # What is not there is signed too, so that nobody may add it (RFC 6376 5.4.2).
    covered = [b"from", b"to", b"subject", b"date", b"message-id", b"x-name", b"x-long", b"x-folded", b"x-case", b"reply-to"]
    covered += [b"mime-version", b"content-type", b"content-transfer-encoding", b"from", b"sender", b"cc"]
    field = dkim.sign(message, SELECTOR, DOMAIN, key[0], canonicalize=canonical, include_headers=covered, linesep=b"\r\n")
    assert valid(field + message, key)
    return mark.decode(), field + message


def submitted(box, messages):
    """Submit all of them, each with its own line ends, and send them."""
    for n, message in enumerate(messages):
        box.run("-bq", "-i", "-f", LOGIN, "bob@far.test", stdin=message.replace(b"\r\n", b"\n") if n % 2 else message)
    box.run("-q", "-D")
    assert box.files() == []


@pytest.fixture(params=["data", "bdat", "nothing"])
def relay(request, monkeypatch):
    """(server, how to get what arrived as bytes)."""
    if request.param == "data":
        # Signed lines that are too long go out as they are (hard-parts.md); aiosmtpd would refuse them.
        monkeypatch.setattr(mail_server.Conversation, "line_length_limit", 1 << 16)
        with mail_server.MailServer() as server:
            yield server, lambda count: [found.content for found in server.wait(count, seconds=60)]
        return
    if reason := missing():
        pytest.skip(reason)
    with Postfix(users={LOGIN: "app password"}, listener="old" if request.param == "nothing" else "starttls") as server:

        def arrived(count):
            server.wait(count, seconds=60)
            return server.raw()

        yield server, arrived


CONF = "REWRITEFROM\nMASQUERADE other@else.test\nMAXMESSAGES 50"


def test_a_valid_dkim_signature_is_valid_at_the_sink(tmp_path, relay, key):
    server, arrived = relay
    box = agent.Agent(tmp_path, server, login=LOGIN, conf=CONF)
    box.environment["EMAIL"] = LOGIN
    sent = dict(signed(name, canonical, key) for name in MESSAGES for canonical in CANONICAL)
    try:
        submitted(box, sent.values())
        found = {str(email.message_from_bytes(raw)["Subject"]): raw for raw in arrived(len(sent))}
    finally:
        box.close()
    assert found.keys() == sent.keys()
    broken = [name for name, raw in found.items() if not valid(raw, key)]
    assert broken == []


def test_a_relay_that_changes_a_byte_would_be_seen(key):
    _, message = signed("eight-bit", CANONICAL[1], key)
    assert not valid(message.replace(b"Gr", b"gr"), key)
    assert not valid(message.replace(b"Subject: ", b"Subject: x"), key)
    assert not valid(b"Cc: x@y.test\r\n" + message, key)


PART = (
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    + "Grüße \r\n.\r\n".encode() + b"w" * 1500 + b"\r\n"
)  # fmt: skip
SIGNED_PART = (
    HEADER % (b"pgp", b"pgp") + b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/signed; boundary="b"; micalg=pgp-sha256; protocol="application/pgp-signature"\r\n'
    b"\r\nThis is signed.\r\n--b\r\n" + PART + b"\r\n--b\r\nContent-Type: application/pgp-signature\r\n\r\n"
    b"-----BEGIN PGP SIGNATURE-----\r\niQ==\r\n-----END PGP SIGNATURE-----\r\n\r\n--b--\r\n"
)


def test_a_signed_part_arrives_as_it_was(tmp_path, relay):
    server, arrived = relay
    box = agent.Agent(tmp_path, server, login=LOGIN)
    try:
        submitted(box, [SIGNED_PART])
        (raw,) = arrived(1)
    finally:
        box.close()
    raw = raw.replace(b"\r\n", b"\n")
    assert b"--b\n" + PART.replace(b"\r\n", b"\n") + b"\n--b\n" in raw
    assert raw.endswith(SIGNED_PART.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n"))
