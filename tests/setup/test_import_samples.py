"""`dma-setup import` of the files as Debian's packages write them (tests/samples), and of those programs' finer grammar."""

import json
import os
import pathlib
import shutil

import pytest
from setup_home import Home

from dma_setup.imports import convert, exim, msmtp

SAMPLES = pathlib.Path(__file__).parent.parent / "samples/debian"


def read(*names, program=""):
    return convert.read([str(SAMPLES / name) for name in names], program)


def answers(found):
    recipe, values = convert.answers(found)
    return recipe.name, {name: value for name, value in values.items() if value}


def write(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("names", "program", "recipe", "values", "settings"),
    [
        (["msmtp/msmtprc-system.example"], "msmtp", "smarthost",
         {"host": "mail.oursite.example", "port": "465", "tls": "implicit"}, {"MASQUERADE": "oursite.example"}),
        (["ssmtp/ssmtp.conf"], "", "smarthost",
         {"host": "smtp.example.org", "port": "587", "tls": "none", "root_mail": "admin@example.org"},
         {"MASQUERADE": "example.org", "MAILNAME": "box.example.org"}),
        (["nullmailer"], "", "smarthost",
         {"host": "smtp.example.org", "port": "587", "tls": "starttls", "login": "alice", "root_mail": "admin@example.org"},
         {"FALLBACK": "spare.example.org:25", "MAILNAME": "/etc/mailname"}),
        (["esmtp/esmtprc"], "", "smarthost",
         {"host": "smtp.example.org", "port": "587", "tls": "starttls", "login": "alice"}, {}),
        (["postfix-smarthost/main.cf"], "", "smarthost",
         {"host": "smtp.example.org", "port": "587", "tls": "opportunistic"}, {"MAILNAME": "/etc/mailname"}),
        (["postfix-satellite/main.cf"], "", "smarthost",
         {"host": "smtp.example.org", "port": "587", "tls": "opportunistic"}, {"MAILNAME": "/etc/mailname"}),
        (["exim4-smarthost/update-exim4.conf.conf"], "", "smarthost",
         {"host": "smtp.example.org", "port": "587", "tls": "opportunistic"},
         {"MAILNAME": "/etc/mailname", "MASQUERADE": "example.org"}),
        (["exim4-satellite/update-exim4.conf.conf"], "", "satellite",
         {"host": "smtp.example.org", "port": "587", "domain": "example.org"}, {"MAILNAME": "example.org"}),
        (["exim4-local/update-exim4.conf.conf"], "", "local", {}, {"MAILNAME": "/etc/mailname"}),
        (["dma/dma.conf"], "", "smarthost", {"host": "smtp.example.org", "port": "25", "tls": "none"},
         {"MAILNAME": "/etc/mailname"}),
    ],
)  # fmt: skip
def test_as_debian_writes_them(names, program, recipe, values, settings):
    found = read(*names, program=program)
    name, given = answers(found)
    if "password" in given:
        assert given.pop("password").reveal() == "secret"
    assert (name, given, found.settings) == (recipe, values, settings)


def test_the_ordinary_files_leave_few_notes():
    """What a package installs has no surprises to list but what really is another way of working."""
    assert read("postfix-satellite/main.cf").notes == []
    assert read("postfix-smarthost/main.cf").notes == ["inet_interfaces: Postfix takes mail from the network; dma does not"]
    assert read("exim4-smarthost/update-exim4.conf.conf").notes == []
    assert read("dma/dma.conf").notes == []


def test_msmtps_user_example(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "/nowhere")
    found = read("msmtp/msmtprc-user.example", program="msmtp")
    assert [account.where for account in found.accounts] == ["smtp.freemail.example:587"] * 2 + ["mail.company.example:587"]
    assert [account.pattern for account in found.accounts] == ["", "joey@freemail.example", "smithjoe@company.example"]
    command = "gpg2 --no-tty -q -d ~/.msmtp-password.gpg"
    assert found.notes == [
        f"passwordeval needs a shell or a program that is not here; give the password anew: {command}",
        "the password of company12345 at mail.company.example is neither in the keyring nor in ~/.netrc: give it anew",
    ]


def test_esmtps_example_has_an_identity_more():
    found = read("esmtp/sample.esmtprc", program="esmtp")
    assert [(one.where, one.login, one.pattern) for one in found.accounts] == [
        ("localhost:25", "USERNAME", ""),
        ("smtp.somewhere.com:25", "myself", "myself@somewhere.com"),
    ]


# ---------------------------------------------------------------- msmtp


def test_a_password_command_with_a_tilde(tmp_path, monkeypatch):
    """The shell did it for msmtp; nobody does it for a `command:` of ours."""
    rc = tmp_path / "msmtprc"
    rc.write_text("account a\nhost h.example\ntls on\nauth on\nuser u\npasswordeval cat ~/.secret\n")
    found = convert.read([str(rc)])
    assert found.accounts[0].command == f"{shutil.which('cat')} {os.environ['HOME']}/.secret"


def test_a_password_that_msmtp_finds_in_netrc(tmp_path):
    rc = pathlib.Path(os.environ["HOME"]) / ".netrc"
    rc.write_text("machine h.example login u password from-netrc\nmachine h.example2 login x password other\n")
    rc.chmod(0o600)
    assert msmtp.elsewhere("h.example", "u").reveal() == "from-netrc"
    assert msmtp.elsewhere("h.example", "somebody") is None
    assert msmtp.elsewhere("other.example", "u") is None


def test_a_password_that_msmtp_finds_in_the_keyring(tmp_path, monkeypatch):
    tool = tmp_path / "bin/secret-tool"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\n[ "$*" = "lookup host h.example service smtp user u" ] && echo "from the keyring"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    (tmp_path / "msmtprc").write_text("account a\nhost h.example\ntls on\nauth on\nuser u\n")
    found = convert.read([str(tmp_path / "msmtprc")])
    assert found.accounts[0].secret.reveal() == "from the keyring"
    assert found.notes == []


# ---------------------------------------------------------------- nullmailer


@pytest.mark.parametrize(
    ("line", "tls", "port", "login", "secret"),
    [
        ("smarthost.dom smtp port=2525 starttls user=u pass='my pass phrase'", "starttls", "2525", "u", "my pass phrase"),
        ("smarthost.dom smtp --port=2525 --starttls --user=u --pass='p q'", "starttls", "2525", "u", "p q"),
        ("smarthost.dom --user=u --pass=p --ssl", "implicit", "465", "u", "p"),
        ("smarthost.dom tls user=u pass=p", "implicit", "465", "u", "p"),
        ("smarthost.dom", "none", "25", "", ""),
        ("[192.0.2.1] smtp port=26", "none", "26", "", ""),
    ],
)  # fmt: skip
def test_remotes_with_and_without_dashes(tmp_path, line, tls, port, login, secret):
    """nullmailer-send(8): "The options may optionally be prefixed by -- but this is not required"."""
    found = convert.read([str(write(tmp_path / "nullmailer", remotes=line + "\n"))])
    one = found.accounts[0]
    assert (one.tls, one.port, one.login, one.secret.reveal() if one.secret else "") == (tls, port, login, secret)
    assert found.notes == []


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({}, "/etc/mailname"),
        ({"defaultdomain": "example.org\n"}, "/etc/mailname"),
        ({"me": "box\n", "defaultdomain": "example.org\n"}, "box.example.org"),
        ({"me": "box.example.org\n", "defaultdomain": "example.org\n"}, "box.example.org"),
        ({"me": "box.example.org\n", "defaulthost": "mail.example.org\n"}, "mail.example.org"),
    ],
)
def test_the_name_that_nullmailer_adds(tmp_path, files, name):
    folder = write(tmp_path / "nullmailer", remotes="r.example\n", **files)
    assert convert.read([str(folder)]).settings["MAILNAME"] == name


def test_nullmailers_times(tmp_path):
    folder = write(tmp_path / "nullmailer", remotes="r.example\n", pausetime="120\n", maxpause="7200\n", queuelifetime="86400\n")
    assert convert.read([str(folder)]).settings == {"MAILNAME": "/etc/mailname", "EXPIRE": "86400s", "RETRY": "120s 7200s"}


# ---------------------------------------------------------------- Postfix


def test_what_else_of_postfix_is_carried_over_or_listed(tmp_path):
    (tmp_path / "main.cf").write_text(
        "relayhost = [r.example]:587\nsmtp_fallback_relay = [spare.example]:2525, other.example\n"
        "maximal_queue_lifetime = 2d\ndelay_warning_time = 4h\nsmtp_destination_concurrency_limit = 3\n"
        "message_size_limit = 0\nsmtp_bind_address = 192.0.2.9\nsmtp_tls_policy_maps = hash:/etc/postfix/tls_policy\n"
        "sender_canonical_maps = hash:/etc/postfix/canonical\nsmtp_helo_name = $myhostname\nmyhostname = box.example.org\n"
        "always_bcc = archive@example.org\nmailbox_command = procmail\nsmtpd_milters = inet:localhost:11332\n"
    )
    found = convert.read([str(tmp_path / "main.cf")])
    assert found.settings == {
        "FALLBACK": "spare.example:2525 other.example", "EXPIRE": "2d", "DELAYWARNING": "4h", "MAXCONNECTIONS": "3",
    }  # fmt: skip
    listed = [note.partition(" =")[0] for note in found.notes]
    expected = ["message_size_limit", "smtp_bind_address", "smtp_tls_policy_maps", "sender_canonical_maps", "smtp_helo_name"]
    assert listed == ["message_size_limit", "inet_interfaces: Postfix takes mail from the network; dma does not", *expected[1:],
                      "always_bcc", "mailbox_command"]  # fmt: skip
    assert "smtp_helo_name = box.example.org: is not carried over" in found.notes


@pytest.mark.parametrize(("relayhost", "is_told"), [("example.org", True), ("[example.org]", False), ("example.org:587", False)])
def test_a_relayhost_that_is_a_domain_for_postfix(tmp_path, relayhost, is_told):
    """Without brackets it is looked up in DNS as the domain of an address is; with a port it hardly ever is meant so."""
    folder = write(tmp_path / "p", **{"main.cf": f"relayhost = {relayhost}\ninet_interfaces = loopback-only\n"})
    notes = convert.read([str(folder / "main.cf")]).notes
    told = "example.org: Postfix asks for its mail exchangers, dma for a host of that name; --set host=NAME says another"
    assert notes == [told] * is_told


def test_old_ways_to_require_tls(tmp_path):
    (tmp_path / "main.cf").write_text("relayhost = r.example\nsmtp_enforce_tls = yes\n")
    assert convert.read([str(tmp_path / "main.cf")]).accounts[0].tls == "starttls"


def test_a_null_client_takes_its_domain_from_the_file_that_myorigin_names(tmp_path):
    (tmp_path / "mailname").write_text("box.example.org\n")
    text = f"relayhost = r.example\nmydestination =\nmyorigin = {tmp_path}/mailname\ninet_interfaces = loopback-only\n"
    (tmp_path / "main.cf").write_text(text)
    recipe, values = convert.answers(convert.read([str(tmp_path / "main.cf")]))
    assert (recipe.name, values["domain"]) == ("satellite", "box.example.org")
    (tmp_path / "mailname").unlink()
    recipe, _ = convert.answers(convert.read([str(tmp_path / "main.cf")]))
    assert recipe.name == "smarthost"


# ---------------------------------------------------------------- Exim


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("host.domain.example", [("host.domain.example", "")]),
        ("host.domain.example::587", [("host.domain.example", "587")]),
        ("192.168.2.4::587", [("192.168.2.4", "587")]),
        ("[192.168.2.4]::587", [("192.168.2.4", "587")]),
        ("2001::0db8::f::4::::2", [("2001:0db8:f:4::2", "")]),
        ("[2001::0db8::f::4::::2]::587", [("2001:0db8:f:4::2", "587")]),
        ("a.example::587 : b.example", [("a.example", "587"), ("b.example", "")]),
        ("a.example:b.example::26", [("a.example", ""), ("b.example", "26")]),
        ("", []),
    ],
)
def test_exims_list_of_smarthosts(text, found):
    """update-exim4.conf(8) has these examples."""
    assert exim.hubs(text) == found


EXIM = """\
dc_eximconfig_configtype='smarthost'
dc_local_interfaces='127.0.0.1 ; ::1'
dc_readhost='example.org'
dc_hide_mailname='{hide}'
dc_smarthost='smtp.example.org::587'
"""


def exim_login(tmp_path, monkeypatch, client, canonical=()):
    monkeypatch.setattr(exim, "canonical", lambda host: list(canonical))
    folder = tmp_path / "exim"
    folder.mkdir(exist_ok=True)
    (folder / "update-exim4.conf.conf").write_text(EXIM.format(hide="true"))
    (folder / "passwd.client").write_text(client)
    found = convert.read([str(folder / "update-exim4.conf.conf")])
    one = found.accounts[0]
    return one.login, one.secret.reveal() if one.secret else "", found.notes


@pytest.mark.parametrize(
    "client",
    [
        "smtp.example.org:alice:se:cret\n",
        "*.example.org:alice:se:cret\n",
        "*:alice:se:cret\n",
        "other.example:bob:x\n^smtp[0-9]*\\.example\\.org:alice:se:cret\n",
        "### target.mail.server.example:login:password\nSMTP.example.org:alice:se:cret\n",
    ],
)
def test_exims_logins(tmp_path, monkeypatch, client):
    assert exim_login(tmp_path, monkeypatch, client) == ("alice", "se:cret", [])


def test_a_login_under_the_name_that_dns_gives_back(tmp_path, monkeypatch):
    """exim4-config_files(5): the key is "the value that exim can read from reverse DNS", seldom the name of the smarthost."""
    client = "*.provider.example:alice:secret\n"
    found = exim_login(tmp_path, monkeypatch, client, ["mx7.provider.example"])
    assert found == ("alice", "secret", [])
    login, _, notes = exim_login(tmp_path, monkeypatch, client)
    assert login == ""
    (note,) = notes
    assert note.startswith("passwd.client has logins for *.provider.example, none for smtp.example.org")


def test_exim_hides_the_mail_name_only_when_told(tmp_path):
    for hide, settings in (
        ("true", {"MAILNAME": "/etc/mailname", "MASQUERADE": "example.org"}),
        ("false", {"MAILNAME": "/etc/mailname"}),
    ):
        (tmp_path / "update-exim4.conf.conf").write_text(EXIM.format(hide=hide))
        assert convert.read([str(tmp_path / "update-exim4.conf.conf")]).settings == settings


def test_exims_senders_of_ones_own(tmp_path):
    (tmp_path / "update-exim4.conf.conf").write_text(EXIM.format(hide="true"))
    (tmp_path / "email-addresses").write_text("#user: someone@isp.com\nalice: a@isp.example\n")
    found = convert.read([str(tmp_path / "update-exim4.conf.conf")])
    assert "email-addresses: alice sends as a@isp.example: set EMAIL=a@isp.example for alice" in found.notes


# ---------------------------------------------------------------- as a command


def test_msmtps_other_place(tmp_path):
    folder = tmp_path / "msmtp"
    folder.mkdir()
    shutil.copy(SAMPLES / "msmtp/msmtprc-system.example", folder / "config")
    assert convert.read([str(folder / "config")]).program == "msmtp"


def test_without_a_file_it_says_what_there_is(tmp_path):
    home = Home(tmp_path / "home")
    shutil.copy(SAMPLES / "msmtp/msmtprc-user.example", home.path / ".msmtprc")
    done = home.run("import", "--user")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0] == "dma-setup: name the file to take over; here are:"
    assert f"import {home.path}/.msmtprc" in lines[1]
    assert json.loads(home.run("import", "--user", "--json").stdout)["error"]["status"] == 2


@pytest.mark.parametrize("name", sorted(path.name for path in SAMPLES.iterdir()))
def test_every_sample_is_planned(tmp_path, name):
    """The real program, asked for a plan: what is missing is asked for by name, nothing else stops it."""
    home = Home(tmp_path / "home")
    folder = SAMPLES / name
    main = {
        "msmtp": "msmtprc-system.example", "ssmtp": "ssmtp.conf", "nullmailer": "remotes", "esmtp": "esmtprc", "dma": "dma.conf",
    }.get(name, "main.cf" if name.startswith("postfix") else "update-exim4.conf.conf")  # fmt: skip
    words = ["import", str(folder / main), "--user", "--check", "--set", "keyring=file"]
    if name == "msmtp":
        words += ["--from", "msmtp"]
    if name == "exim4-local":
        words = [word for word in words if word not in ("--set", "keyring=file")]
    done = home.run(*words)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "secret" not in done.stdout.replace("secrets", "")
    assert list(home.path.iterdir()) == []

