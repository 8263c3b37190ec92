"""The recipes beside what Mozilla's ISPDB says of the same providers (as of March 2026; facts, not its files).

A recipe may know further ports and does not need all of theirs; what both say must be the same, by our own reader of that
format as well. Providers that ISPDB lists with OAuth2 alone take a password only by explicit choice here.
"""

import pytest
from provisioning import FACTS, home_place

from dma_setup import answers, recipe, relay
from dma_setup import plan as plans
from dma_setup.discover import autoconfig, search
from dma_setup.discover.network import NothingThere

SSL, STARTTLS = "SSL", "STARTTLS"
ADDRESS, LOCAL = "%EMAILADDRESS%", "%EMAILLOCALPART%"

# recipe, address, [(host, port, socket)], user name, ways to sign in
FIGURES = [
    ("gmail", "a@gmail.com", [("smtp.gmail.com", 587, STARTTLS), ("smtp.gmail.com", 465, SSL)], ADDRESS, "OAuth2 password"),
    ("gmail", "a@googlemail.com", [("smtp.gmail.com", 465, SSL)], ADDRESS, "OAuth2 password"),
    ("outlook", "a@hotmail.com", [("smtp-mail.outlook.com", 587, STARTTLS)], ADDRESS, "OAuth2"),
    ("outlook", "a@live.co.uk", [("smtp-mail.outlook.com", 587, STARTTLS)], ADDRESS, "OAuth2"),
    ("microsoft365", "a@example.org", [("smtp.office365.com", 587, STARTTLS)], ADDRESS, "OAuth2"),
    ("icloud", "a@me.com", [("smtp.mail.me.com", 587, STARTTLS)], ADDRESS, "password"),
    ("yahoo", "a@yahoo.com.br", [("smtp.mail.yahoo.com", 465, SSL)], ADDRESS, "OAuth2 password"),
    ("yahoo", "a@ymail.com", [("smtp.mail.yahoo.com", 587, STARTTLS)], ADDRESS, "OAuth2 password"),
    ("aol", "a@netscape.net", [("smtp.aol.com", 465, SSL)], ADDRESS, "OAuth2 password"),
    ("fastmail", "a@example.org", [("smtp.fastmail.com", 465, SSL)], ADDRESS, "password"),
    ("zoho", "a@zohomail.com", [("smtp.zoho.com", 465, SSL), ("smtp.zoho.com", 587, STARTTLS)], ADDRESS, "password"),
    ("zoho", "a@zoho.eu", [("smtp.zoho.eu", 465, SSL), ("smtp.zoho.eu", 587, STARTTLS)], ADDRESS, "password"),
    ("gmx", "a@gmx.de", [("mail.gmx.net", 465, SSL), ("mail.gmx.net", 587, STARTTLS)], ADDRESS, "password"),
    ("gmx", "a@mein.gmx", [("mail.gmx.net", 465, SSL)], ADDRESS, "password"),
    ("gmx", "a@GMX.com", [("mail.gmx.com", 465, SSL), ("mail.gmx.com", 587, STARTTLS)], ADDRESS, "password"),
    ("gmx", "a@gmx.com.br", [("mail.gmx.com", 465, SSL)], ADDRESS, "password"),
    ("webde", "a@web.de", [("smtp.web.de", 465, SSL), ("smtp.web.de", 587, STARTTLS)], LOCAL, "password"),
    ("mailru", "a@bk.ru", [("smtp.mail.ru", 465, SSL)], ADDRESS, "password"),
    ("yandex", "a@yandex.com", [("smtp.yandex.com", 465, SSL)], ADDRESS, "password"),
    ("yandex", "a@narod.ru", [("smtp.yandex.ru", 465, SSL)], ADDRESS, "password"),
    ("mailboxorg", "a@mailbox.org", [("smtp.mailbox.org", 465, SSL), ("smtp.mailbox.org", 587, STARTTLS)], ADDRESS, "password"),
    ("posteo", "a@posteo.co.uk", [("posteo.de", 465, SSL), ("posteo.de", 587, STARTTLS)], ADDRESS, "password"),
    ("ionos", "a@online.de", [("smtp.1und1.de", 465, SSL), ("smtp.1und1.de", 587, STARTTLS)], ADDRESS, "password"),
]  # fmt: skip

NOT_BY_DOMAIN = {"microsoft365", "fastmail"}  # these have their customers' domains, recognised by their mail exchangers


def document(servers, login, ways):
    said = {"password": "password-cleartext", "OAuth2": "OAuth2"}
    sign = "".join(f"<authentication>{said[way]}</authentication>" for way in ways.split())
    listed = "".join(
        f'<outgoingServer type="smtp"><hostname>{host}</hostname><port>{port}</port><socketType>{socket}</socketType>'
        f"<username>{login}</username>{sign}</outgoingServer>"
        for host, port, socket in servers
    )
    return f"<clientConfig><emailProvider>{listed}</emailProvider></clientConfig>".encode()


def ours(name, address):
    found = recipe.read(name)
    values = plans.context(found, home_place("/home/a"), FACTS, {"address": address, "signin": "password"}, None, {})
    values |= {"secret_kind": "", "relay_login": ""}
    for question in found.questions:
        if not question.is_secret and not values.get(question.id):
            values[question.id] = answers.default(question, values)[0]
    return relay.candidates(found, values, None)


@pytest.mark.parametrize(("name", "address", "servers", "login", "ways"), FIGURES, ids=[figure[1] for figure in FIGURES])
def test_both_say_the_same(name, address, servers, login, ways):
    known = [(one.host, one.port, one.tls, one.login) for one in ours(name, address)]
    if ways == "OAuth2":
        with pytest.raises(NothingThere):
            autoconfig.servers(document(servers, login, ways), address, "ISPDB")
        assert not recipe.read(name).question("signin").defaults
        ways = "password"
    theirs = autoconfig.servers(document(servers, login, ways), address, "ISPDB")
    for one in theirs:
        assert (one.host, one.port, one.tls, one.login) in known
        assert recipe.by_host(one.host).name == name
    if name not in NOT_BY_DOMAIN:
        assert search.own_recipe(address.rpartition("@")[2]).name == name


def test_no_domain_has_two_recipes():
    served = [(domain, one.name) for one in recipe.every()[0] for domain in one.provider.domains]
    assert len({domain for domain, _ in served}) == len(served)
    assert all(domain == domain.lower() for domain, _ in served)


@pytest.mark.parametrize(
    ("exchanger", "name"),
    [
        ("aspmx.l.google.com", "gmail"),
        ("mx-aol.mail.gm0.yahoodns.net", "aol"),
        ("mta5.am0.yahoodns.net", "yahoo"),
        ("example-org.mail.protection.outlook.com", "microsoft365"),
        ("hotmail-com.olc.protection.outlook.com", "outlook"),
        ("mx01.mail.icloud.com", "icloud"),
        ("in1-smtp.messagingengine.com", "fastmail"),
        ("mail.protonmail.ch", "proton-token"),
        ("mx.zoho.eu", "zoho"),
        ("mx00.ionos.de", "ionos"),
        ("mx01.kundenserver.de", "ionos"),
        ("mxext1.mailbox.org", "mailboxorg"),
        ("mx1.mail.ovh.net", "ovh"),
        ("mx.yandex.net", "yandex"),
        ("mx.example.org", ""),
    ],
)
def test_whose_mail_exchanger_it_is(exchanger, name):
    assert [one.name for one in recipe.every()[0] if one.provider.receives(exchanger)] == ([name] if name else [])


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("smtp.googlemail.com", "gmail"),
        ("smtp.live.com", "outlook"),
        ("SMTP.IONOS.DE.", "ionos"),
        ("ssl0.ovh.net", "ovh"),
        ("smtp.example.org", ""),
    ],
)
def test_other_names_of_a_relay(host, name):
    found = recipe.by_host(host)
    assert (found.name if found else "") == name
