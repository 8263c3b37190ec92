"""`dma-setup auto`: DNS, autoconfig over HTTPS and TLS probes on loopback; what is believed, asked about, and never done."""

import argparse
import http.server
import io
import socket
import ssl
import threading
import time

import dns.resolver
import pytest
import trustme
from name_server import NameServer
from secret_service import end_all
from setup_home import Home

from dma_setup.commands import auto
from dma_setup.discover import autoconfig, network, search
from dma_setup.discover.candidate import Candidate, is_inside
from dma_setup.errors import SetupError, UsageProblem
from dma_setup.report import Report

CONFIG = """<?xml version="1.0" encoding="UTF-8"?>
<clientConfig version="1.1">
 <emailProvider id="good.example">
  <domain>good.example</domain>
  <incomingServer type="imap"><hostname>imap.good.example</hostname><port>993</port><socketType>SSL</socketType></incomingServer>
  <outgoingServer type="smtp">
   <hostname>plain.good.example</hostname><port>25</port><socketType>plain</socketType>
   <username>%EMAILADDRESS%</username><authentication>password-cleartext</authentication>
  </outgoingServer>
  <outgoingServer type="smtp">
   <hostname>oauth.good.example</hostname><port>465</port><socketType>SSL</socketType><authentication>OAuth2</authentication>
  </outgoingServer>
  <outgoingServer type="smtp">
   <hostname>smtp.%EMAILDOMAIN%</hostname><port>587</port><socketType>STARTTLS</socketType>
   <username>%EMAILLOCALPART%</username><authentication>OAuth2</authentication><authentication>password-cleartext</authentication>
  </outgoingServer>
 </emailProvider>
</clientConfig>
"""


class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.headers["Host"], self.path))
        status, body, location = self.server.pages.get((self.headers["Host"], self.path.partition("?")[0]), (404, b"", ""))
        if status == "HANG":
            time.sleep(10)
            return
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Loopback(network.Network):
    """Every host is this machine: `ports` says where; what is not in it refuses the connection."""

    def __init__(self, names, authority, ports):
        super().__init__()
        self.names = names
        self.ports = ports
        self.context = ssl.create_default_context()
        authority.configure_trust(self.context)
        self.dialled = []

    def resolver(self):
        made = dns.resolver.Resolver(configure=False)
        made.nameservers, made.port = ["127.0.0.1"], self.names.port
        return made

    def dial(self, host, port):
        self.dialled.append((host, port))
        if (host, port) not in self.ports:
            raise ConnectionRefusedError(111, "Connection refused")
        return socket.create_connection(("127.0.0.1", self.ports[host, port]), 5)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def names():
    with NameServer() as names:
        yield names


@pytest.fixture
def web(authority):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("autoconfig.good.example", "good.example", "autoconfig.thunderbird.net").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.pages, server.asked, server.daemon_threads = {}, [], True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def net(names, authority, web):
    hosts = ("autoconfig.good.example", "good.example", "autoconfig.thunderbird.net", "evil.example")
    return Loopback(names, authority, {(host, 443): web.server_port for host in hosts})


def find(net, address="alice@good.example", **more):
    said = {}
    found = search.search(address, net, lambda way, found, why: said.update({way: why or [one.where for one in found]}), **more)
    return found, said


PAGE = ("autoconfig.good.example", "/mail/config-v1.1.xml")


# ---------------------------------------------------------------- each way


def test_srv_records_by_priority_and_weight(net, names):
    names.add(
        """
        _submissions._tcp.good.example. 60 SRV 20 5 465 late.good.example.
        _submissions._tcp.good.example. 60 SRV 10 1 465 light.good.example.
        _submissions._tcp.good.example. 60 SRV 10 9 2465 heavy.good.example.
        _submission._tcp.good.example.  60 SRV 0 1 587 other.good.example.
        """
    )
    found, said = find(net)
    assert [(one.where, one.tls) for one in found] == [
        ("heavy.good.example:2465", "implicit"),
        ("light.good.example:465", "implicit"),
        ("late.good.example:465", "implicit"),
        ("other.good.example:587", "starttls"),
    ]
    assert said["servers"] == "none of them answers from here now"


def test_of_several_servers_the_first_that_answers(net, names, authority):
    """A network that lets port 465 through to nowhere, and 587 to the server."""
    names.add(
        """
        _submissions._tcp.good.example. 60 SRV 0 1 465 smtp.good.example.
        _submission._tcp.good.example.  60 SRV 0 1 587 smtp.good.example.
        """
    )
    heard = []
    net.ports["smtp.good.example", 587] = submission(authority, "smtp.good.example", "starttls", heard)
    found, said = find(net)
    assert [one.where for one in found] == ["smtp.good.example:587", "smtp.good.example:465"]
    assert said["smtp.good.example:465"] == "no server with a valid certificate answers there now"
    assert {line.split()[0].upper() for line in heard} == {b"EHLO", b"STARTTLS"}
    settings = decide(net, options())[1]
    assert (settings["host"], settings["tls"]) == ("smtp.good.example:587", "starttls")


def test_one_that_swallows_everything_costs_no_more_than_the_deadline(net, names, authority):
    names.add(
        """
        _submissions._tcp.good.example. 60 SRV 0 1 465 smtp.good.example.
        _submission._tcp.good.example.  60 SRV 0 1 587 smtp.good.example.
        """
    )
    silent = socket.create_server(("127.0.0.1", 0))
    net.ports["smtp.good.example", 465] = silent.getsockname()[1]
    net.ports["smtp.good.example", 587] = submission(authority, "smtp.good.example", "starttls", [])
    started = time.monotonic()
    found, _ = find(net)
    assert time.monotonic() - started < 6, "it is given up a second after the other has answered"
    assert found[0].where == "smtp.good.example:587"
    silent.close()


def test_an_srv_target_that_is_no_host_name_is_none(net, names):
    names.add(r"_submissions._tcp.good.example. 60 SRV 0 1 465 a\\032b.good.example.")
    names.add("_submission._tcp.good.example. 60 SRV 0 1 0 smtp.good.example.")
    assert find(net)[1]["SRV records"] == "there are none"


def test_submission_is_next_and_a_lone_dot_is_no_service(net, names):
    names.add("_submissions._tcp.good.example. 60 SRV 0 0 0 .\n_submission._tcp.good.example. 60 SRV 0 1 587 smtp.good.example.")
    found, _ = find(net)
    assert [(one.where, one.tls) for one in found] == [("smtp.good.example:587", "starttls")]
    names.records.clear()
    names.add("_submissions._tcp.good.example. 60 SRV 0 0 0 .\n_submission._tcp.good.example. 60 SRV 0 0 0 .")
    assert find(net)[0] == []


def test_autoconfig_of_the_domain(net, web):
    web.pages[PAGE] = (200, CONFIG.encode(), "")
    (found,), _ = find(net)
    assert (found.where, found.tls, found.login, found.source) == ("smtp.good.example:587", "starttls", "alice", "autoconfig")
    assert (PAGE[0], f"{PAGE[1]}?emailaddress=alice%40good.example") in web.asked


def test_the_well_known_place_is_next(net, web):
    web.pages["good.example", "/.well-known/autoconfig/mail/config-v1.1.xml"] = (200, CONFIG.encode(), "")
    assert find(net)[0][0].where == "smtp.good.example:587"


def test_a_place_that_swallows_everything_does_not_keep_the_other_from_being_heard(net, web):
    web.pages[PAGE] = ("HANG", b"", "")
    web.pages["good.example", "/.well-known/autoconfig/mail/config-v1.1.xml"] = (200, CONFIG.encode(), "")
    assert find(net, deadline=2.5)[0][0].where == "smtp.good.example:587"


def test_the_better_of_two_places_counts(net, web):
    web.pages[PAGE] = (200, CONFIG.replace("smtp.%EMAILDOMAIN%", "first.good.example").encode(), "")
    web.pages["good.example", "/.well-known/autoconfig/mail/config-v1.1.xml"] = (200, CONFIG.encode(), "")
    assert find(net)[0][0].host == "first.good.example"


def test_ispdb_learns_the_domain_alone_and_can_be_left_out(net, web):
    web.pages["autoconfig.thunderbird.net", "/v1.1/good.example"] = (200, CONFIG.encode(), "")
    assert find(net)[0][0].source == "ISPDB"
    asked = [path for host, path in web.asked if host == "autoconfig.thunderbird.net"]
    assert asked == ["/v1.1/good.example"]
    web.asked.clear()
    assert find(net, ispdb=False)[0] == []
    assert not [path for host, path in web.asked if host == "autoconfig.thunderbird.net"]


def test_mail_exchangers_of_a_known_provider(net, names):
    names.add("good.example. 60 MX 10 in1-smtp.messagingengine.com.")
    (found,), _ = find(net)
    assert (found.recipe, found.host) == ("fastmail", "smtp.fastmail.com")
    assert "named by mail exchangers" in search.must_be_confirmed(found, "alice@good.example")


def test_the_preferred_exchanger_says_whose_domain_it_is(net, names):
    """A second provider may keep the mail while the first is down."""
    names.add("good.example. 60 MX 20 in1-smtp.messagingengine.com.\ngood.example. 60 MX 10 mx1.posteo.de.")
    assert [one.recipe for one in find(net)[0]] == ["posteo"]


def test_a_domain_beyond_ascii(net, names):
    """Punycode for DNS and HTTPS, and a server of that domain is inside of it."""
    names.add("_submissions._tcp.xn--bcher-kva.example. 60 SRV 0 1 465 smtp.xn--bcher-kva.example.")
    (found,), _ = find(net, "alice@Bücher.example")
    assert found.where == "smtp.xn--bcher-kva.example:465"
    assert search.must_be_confirmed(found, "alice@bücher.example") == ""
    with pytest.raises(UsageProblem, match="is not a domain name"):
        decide(net, options(), "alice@" + "x" * 64 + ".example")


def test_a_server_that_a_recipe_knows_goes_by_that_recipe(net, names):
    names.add("_submissions._tcp.good.example. 60 SRV 0 1 465 smtp.fastmail.com.")
    assert find(net)[0][0].recipe == "fastmail"


@pytest.mark.parametrize(("port", "tls", "expected"), [(465, "implicit", "implicit"), (587, "starttls", "starttls")])
def test_a_guess_is_a_server_with_a_valid_certificate(net, authority, port, tls, expected):
    for name, auth, good in (
        ("mail.good.example", b"AUTH PLAIN", True),
        ("elsewhere.example", b"AUTH PLAIN", False),
        ("mail.good.example", b"SIZE", False),  # nobody can sign in: it is no submission server
    ):
        heard = []
        net.ports["mail.good.example", port] = submission(authority, name, tls, heard, auth)
        found, said = find(net)
        if good:
            assert [(one.where, one.tls, one.guessed) for one in found] == [(f"mail.good.example:{port}", expected, True)]
            assert "only a guess" in search.must_be_confirmed(found[0], "alice@good.example")
            assert heard
        else:
            assert found == []
            assert "no server with a valid certificate" in said["usual names"]
        assert {line.split()[0].upper() for line in heard} <= {b"EHLO", b"STARTTLS"}, "nothing but greetings"


def submission(authority, name, tls, heard, offers=b"AUTH PLAIN"):
    """A submission server of a few lines with a certificate for `name`: MailServer's own is for localhost alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            try:
                connection.settimeout(5)
                if tls == "implicit":
                    connection = context.wrap_socket(connection, server_side=True)
                connection.sendall(b"220 hello\r\n")
                while line := connection.recv(1000):
                    heard.append(line)
                    if line.upper().startswith(b"STARTTLS"):
                        connection.sendall(b"220 go\r\n")
                        connection = context.wrap_socket(connection, server_side=True)
                    else:
                        connection.sendall(b"250-x\r\n250-" + offers + b"\r\n250 STARTTLS\r\n")
            except OSError:
                pass
            finally:
                connection.close()

    threading.Thread(target=serve, daemon=True).start()
    return listening.getsockname()[1]


# ---------------------------------------------------------------- order and time


def test_the_better_way_wins_though_it_answers_later(net, names, web):
    names.add("good.example. 60 MX 10 in1-smtp.messagingengine.com.")
    web.pages[PAGE] = (200, CONFIG.encode(), "")
    assert find(net)[0][0].source == "autoconfig"
    names.add("_submissions._tcp.good.example. 60 SRV 0 1 465 smtp.good.example.")
    assert find(net)[0][0].source == "SRV records"


def test_what_does_not_answer_is_waited_for_no_longer_than_the_deadline(net, names, web):
    names.add("good.example. 60 MX 10 in1-smtp.messagingengine.com.")
    web.pages[PAGE] = ("HANG", b"", "")
    started = time.monotonic()
    found, said = find(net, deadline=0.8)
    assert time.monotonic() - started < 5
    assert found[0].recipe == "fastmail"
    assert said["autoconfig"] == "no answer in 0.8 seconds"


def test_a_resolver_that_fails_is_said(net, names):
    names.faults["_submissions._tcp.good.example."] = "SERVFAIL"
    _, said = find(net)
    assert said["SRV records"].startswith("DNS: ")
    assert "SERVFAIL" in said["SRV records"]


# ---------------------------------------------------------------- XML and HTTPS that are not to be trusted


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('<!DOCTYPE x [<!ENTITY a "smtp.evil.example">]>' + CONFIG.partition("?>")[2], "document type"),
        ("<!DOCTYPE clientConfig SYSTEM 'http://evil.example/x.dtd'>" + CONFIG.partition("?>")[2], "document type"),
        (CONFIG.replace("587", "&x;"), "not XML"),
        (CONFIG[:300], "not XML"),
        ("<clientConfig/>", "names no server"),
        (CONFIG.replace("STARTTLS", "plain"), "names no server"),
        (CONFIG.replace(">587<", ">99999<"), "names no server"),
        (CONFIG.replace(">587<", ">٥٨٧<"), "names no server"),
        (CONFIG.replace("smtp.%EMAILDOMAIN%", "smtp.good.example\u009b2J"), "names no server"),
        (CONFIG.replace("smtp.%EMAILDOMAIN%", "smtp.good.example\nx"), "names no server"),
        (CONFIG.replace("smtp.%EMAILDOMAIN%", "-x.good.example"), "names no server"),
        (CONFIG.replace("<username>%EMAILLOCALPART%</username>", "<username>a\u009b2Jb</username>"), "names no server"),
    ],
)
def test_xml_that_is_not_read(body, why):
    with pytest.raises(network.NothingThere, match=why):
        autoconfig.servers(body.encode(), "alice@good.example", "x")


def test_https_only_and_no_endless_redirects(net, web):
    web.pages[PAGE] = (302, b"", "http://good.example/config.xml")
    assert find(net)[1]["autoconfig"] == "leads away from https"
    web.pages[PAGE] = (302, b"", f"https://{PAGE[0]}{PAGE[1]}")
    assert find(net)[1]["autoconfig"] == "too many redirects"
    web.pages[PAGE] = (302, b"", "https://good.example/moved.xml")
    web.pages["good.example", "/moved.xml"] = (200, CONFIG.encode(), "")
    assert find(net)[0][0].where == "smtp.good.example:587"
    assert ("autoconfig.good.example", 80) not in net.dialled


def test_a_certificate_of_another_host_is_no_answer(net, web):
    web.pages["evil.example", "/x"] = (200, CONFIG.encode(), "")
    with pytest.raises(network.NothingThere):
        net.get("https://evil.example/x")
    assert web.asked == []


def test_an_answer_without_end_is_cut(net, web):
    web.pages[PAGE] = (200, CONFIG.encode() + b" " * (300 << 10), "")
    assert "too much" in find(net)[1]["autoconfig"]


# ---------------------------------------------------------------- who has to be asked


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        ("good.example", True),
        ("SMTP.good.example", True),
        ("notgood.example", False),
        ("good.example.evil.example", False),
        ("x.com", False),
    ],
)
def test_inside_the_domain(host, inside):
    assert is_inside(host, "good.example") == inside


def options(**more):
    return argparse.Namespace(**{"ispdb": False, "trust": [], **more})


def decide(net, options, address="alice@good.example"):
    return auto.decide(address, options, Report(io.StringIO(), io.StringIO(), environ={}), False, net)


def test_a_server_of_the_domain_needs_no_question(net, names):
    names.add("_submissions._tcp.good.example. 60 SRV 0 1 465 smtp.good.example.")
    recipe, settings = decide(net, options())
    assert recipe == "smarthost"
    assert settings == {
        "host": "smtp.good.example:465",
        "tls": "implicit",
        "login": "alice@good.example",
        "sender": "alice@good.example",
    }


def test_a_server_elsewhere_is_used_only_when_somebody_says_so(net, names):
    names.add("_submissions._tcp.good.example. 60 SRV 0 1 465 smtp.evil.example.")
    with pytest.raises(UsageProblem, match=r"smtp.evil.example is not in good.example; it was named by SRV records") as problem:
        decide(net, options())
    assert problem.value.details == ["  If it is the right one: --trust smtp.evil.example"]
    with pytest.raises(UsageProblem):
        decide(net, options(trust=["other.example"]))
    assert decide(net, options(trust=["SMTP.evil.example"]))[1]["host"] == "smtp.evil.example:465"


def test_at_a_terminal_it_is_asked_and_no_is_the_default(net, monkeypatch):
    from dma_setup import prompt

    asked = []
    monkeypatch.setattr(prompt, "yes", lambda title, default: asked.append((title, default)) or default)
    with pytest.raises(SetupError, match="nothing was changed"):
        auto.confirm(
            Candidate("x.example", "465", "implicit", "a", "ISPDB"), "why", Report(io.StringIO(), io.StringIO(), environ={}), True
        )
    assert asked == [("Is x.example the right server for your password?", False)]


def test_a_domain_that_a_recipe_serves_needs_no_network(net):
    assert decide(net, options(), "alice@gmail.com") == ("gmail", {"address": "alice@gmail.com"})
    assert decide(net, options(), "alice@WEB.de")[0] == "webde"
    assert net.dialled == []


def test_the_document_says_what_was_found_and_what_was_not(net, names):
    names.add("_submissions._tcp.good.example. 60 SRV 0 1 465 smtp.good.example.")
    report = Report(io.StringIO(), io.StringIO(), as_json=True, environ={})
    auto.decide("alice@good.example", options(), report, False, net)
    found = report.document["discovery"]
    expected = {
        "host": "smtp.good.example",
        "port": "465",
        "tls": "implicit",
        "login": "alice@good.example",
        "named_by": "SRV records",
    }
    assert found["chosen"] == expected
    assert found["ways"]["SRV records"] == [expected]


def test_nothing_is_found(net):
    with pytest.raises(SetupError, match=r"no server was found for alice@good.example; nothing was changed"):
        decide(net, options())


@pytest.fixture
def home(tmp_path):
    yield Home(tmp_path / "home")
    end_all(tmp_path / "home")


def test_the_command_goes_on_with_the_recipe(home):
    answers = home.answers("app_password: {env: DMA_PW}\nkeyring: file\n")
    done = home.run("auto", "alice@gmail.com", "--user", "--answers", answers, "--check")
    assert done.returncode == 3, done.stderr
    assert "gmail.com is Google's: dma-setup gmail\n" in done.stdout
    assert "send everything via smtp.gmail.com" in done.stdout
    wrong = home.run("auto", "alice", "--user")
    assert (wrong.returncode, wrong.stderr) == (2, "dma-setup: alice is not a mail address (name@domain)\n")
    assert list(home.path.iterdir()) == []
