"""`dma-setup import`: the settings of other programs in their own grammars; what cannot be carried over is listed."""

import json

import pytest
from mail_server import MailServer
from provisioning import FACTS, Machine, home_place, tree
from secret_service import end_all
from setup_home import PASSWORD, Home

from dma_runtime import authconf, config
from dma_runtime.policy import relaymap
from dma_setup import answers as given_answers
from dma_setup import apply, undo
from dma_setup import plan as plans
from dma_setup import relay as relays
from dma_setup.imports import convert
from dma_setup.imports.found import ImportProblem
from dma_setup.secret import Sources
from dma_setup.system import System

MSMTP_USER = """\
# Example for a user configuration file ~/.msmtprc
defaults
tls on
tls_trust_file /etc/ssl/certs/ca-certificates.crt
logfile ~/.msmtp.log

account freemail
host smtp.freemail.example
port 465
tls_starttls off
from joe_smith@freemail.example
auth on
user joe.smith
password "se cret"

account freemail2 : freemail
from joey@freemail.example

account work
host mail.work.example
from *@work.example
auth plain
user joe
passwordeval "gpg --no-tty -q -d ~/.msmtp-password.gpg | head -1"
domain home.example

account default : freemail
"""
MSMTP_SYSTEM = """\
# Example for a system wide configuration file
account default
host mailhub.oursite.example
from %U@oursite.example
aliases /etc/aliases
set_from_header on
syslog LOG_MAIL
"""
SSMTP = """\
# Config file for sSMTP sendmail
root=alice@example.org
mailhub=smtp.example.org:587
rewriteDomain=example.org
hostname=box.example.org
#FromLineOverride=YES
AuthUser=alice
AuthPass=se=cret
UseSTARTTLS=YES
UseTLS=YES
TLSKey=/etc/key
"""
REVALIASES = "# local_account:outgoing_address:mailhub\nroot:alice@example.org:smtp.example.org:587\n"
ESMTP = """\
identity "joe@example.org"
  hostname = smtp.example.org:587
  username = "joe"
  password = "secret"
  starttls = required
  default
identity = jo@other.example
  hostname = mail.other.example:25
  starttls = enabled
mda = "/usr/bin/procmail -d %T"
"""
POSTFIX = """\
# a relay client
myhostname = box.example.org
mydomain = example.org
myorigin = $mydomain
relayhost = [smtp.example.org]:587
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd
smtp_sasl_security_options =
  noanonymous
smtp_tls_security_level = encrypt
smtp_generic_maps = hash:/etc/postfix/generic
sender_dependent_relayhost_maps = hash:/etc/postfix/by_sender
inet_interfaces = loopback-only
message_size_limit = 20480000
content_filter = smtp-amavis:[127.0.0.1]:10024
"""
EXIM = """\
# /etc/exim4/update-exim4.conf.conf
dc_eximconfig_configtype='{kind}'
dc_other_hostnames='box.example.org'
dc_local_interfaces='127.0.0.1 ; ::1'
dc_readhost='example.org'
dc_relay_domains=''
dc_minimaldns='false'
dc_relay_nets=''
dc_smarthost='smtp.example.org::587:spare.example.org'
dc_hide_mailname='true'
dc_mailname_in_oh='true'
dc_localdelivery='mail_spool'
"""
CDMA = """\
# $DragonFly$
SMARTHOST smtp.example.org
PORT 587
#ALIASES /etc/aliases
#SPOOLDIR /var/spool/dma
AUTHPATH {folder}/auth.conf
SECURETRANSFER
STARTTLS
MASQUERADE alice@example.org
MAILNAME /etc/mailname
"""


def write(folder, **files):
    """Files by name, `_` for `.`; the folder's path of the first."""
    paths = []
    for name, text in files.items():
        path = folder / name.replace("_", ".", 1) if not name.startswith("__") else folder / name[2:]
        path.write_text(text)
        paths.append(str(path))
    return paths[0]


def read(folder, main, text, **beside):
    path = folder / main
    path.write_text(text)
    for name, content in beside.items():
        (folder / name.replace("__", ".")).write_text(content)
    return convert.read([str(path)])


def summary(account):
    secret = account.secret.reveal() if account.secret else ""
    return account.host, account.port, account.usual_tls(), account.login, secret, account.sender


def planned(found, place, machine, **more):
    """The plan as the command makes it, without a relay to sign in at."""
    recipe, values = convert.answers(found)
    values |= more
    sources = Sources({}, "/", stdin_is_taken=True, system=machine)

    def context(answers):
        known = plans.context(recipe, place, FACTS, answers.values, None, {})
        known["relay_login"] = relays.login(recipe, known)
        known["secret_kind"] = answers.secret.kind if answers.secret else ""
        return known

    answers = given_answers.collect(recipe, given_answers.Given(values=values), sources, context)
    candidates = relays.candidates(recipe, context(answers), None)
    first = candidates[0] if candidates else None
    return plans.make(recipe, place, machine, FACTS, answers, first, lambda view: convert.relays(found, machine, view))


# ---------------------------------------------------------------- each grammar


def test_msmtp_of_a_person(tmp_path):
    found = read(tmp_path, ".msmtprc", MSMTP_USER)
    assert [summary(account) for account in found.accounts] == [
        ("smtp.freemail.example", "465", "implicit", "joe.smith", "se cret", "joe_smith@freemail.example"),
        ("smtp.freemail.example", "465", "implicit", "joe.smith", "se cret", "joey@freemail.example"),
        ("mail.work.example", "587", "starttls", "joe", "", "*@work.example"),
    ]
    assert [account.pattern for account in found.accounts] == ["", "joey@freemail.example", "@work.example"]
    assert any("passwordeval needs a shell" in note for note in found.notes)
    assert "domain home.example: is not carried over" in found.notes
    assert len(found.notes) == 2


def test_msmtp_of_the_system(tmp_path):
    found = read(tmp_path, "msmtprc", MSMTP_SYSTEM)
    assert summary(found.accounts[0])[:5] == ("mailhub.oursite.example", "25", "none", "", "")
    recipe, values = convert.answers(found)
    assert (recipe.name, values["login"]) == ("smarthost", "")
    assert values["sender"] == ""
    assert found.settings == {"MASQUERADE": "oursite.example"}, "the login stays, the domain is that one"
    assert any(note.startswith("aliases /etc/aliases: copy") for note in found.notes)
    assert "set_from_header on: REWRITEFROM in dma.conf does that" in found.notes


def test_msmtp_with_faults(tmp_path):
    with pytest.raises(ImportProblem, match="no account"):
        read(tmp_path, "msmtprc", "defaults\ntls on\n")
    with pytest.raises(ImportProblem, match=r"msmtprc:1: there is no account b above"):
        read(tmp_path, "msmtprc", "account a : b\n")
    found = read(tmp_path, "msmtprc", "account a\nhost h.example\nauth on\nuser u\npassword p\n")
    assert found.accounts[0].usual_tls() == "starttls", "a password is never sent in the clear"
    assert any("without TLS" in note for note in found.notes)


def test_msmtp_with_a_password_command(tmp_path):
    found = read(tmp_path, "msmtprc", "account a\nhost h.example\ntls on\nauth on\nuser u\npasswordeval printf x\n")
    assert found.accounts[0].command.endswith("/printf x")
    assert found.accounts[0].command.startswith("/")
    assert convert.answers(found)[1]["password"] == {"command": found.accounts[0].command}


def test_ssmtp(tmp_path):
    found = read(tmp_path, "ssmtp.conf", SSMTP, revaliases=REVALIASES)
    assert summary(found.accounts[0]) == ("smtp.example.org", "587", "starttls", "alice", "se=cret", "")
    assert found.root_mail == "alice@example.org"
    assert found.settings == {"MASQUERADE": "example.org", "MAILNAME": "box.example.org"}
    assert (
        "revaliases: root sends as alice@example.org by smtp.example.org:587: set EMAIL=alice@example.org for root" in found.notes
    )
    assert "tlskey=/etc/key: is not carried over" in found.notes
    made = planned(found, home_place(tmp_path / "home"), Machine(), keyring="file")
    assert made.config.MASQUERADE == ("", "example.org")
    assert made.config.MAILNAME == "box.example.org"


def test_the_sample_ssmtp_conf_has_no_reader_of_roots_mail(tmp_path):
    found = read(tmp_path, "ssmtp.conf", "root=postmaster\nmailhub=mail\nhostname=box\n")
    assert found.root_mail == ""
    assert summary(found.accounts[0])[:4] == ("mail", "25", "none", "")


def test_nullmailer(tmp_path):
    folder = tmp_path / "nullmailer"
    folder.mkdir()
    (folder / "remotes").write_text(
        "# comment\nsmtp.example.org smtp --port=587 --auth-login --user=alice --pass='se cret' --starttls --insecure\n"
        "spare.example.org smtp --port=2525\nthird.example.org --user=x --pass=y\n"
    )
    (folder / "me").write_text("box.example.org\n")
    (folder / "adminaddr").write_text("ops@example.org\n")
    (folder / "allmailfrom").write_text("box@example.org\n")
    (folder / "pausetime").write_text("60\n")
    for path in (folder, folder / "remotes"):
        found = convert.read([str(path)])
        assert summary(found.accounts[0]) == ("smtp.example.org", "587", "starttls", "alice", "se cret", "box@example.org")
        assert found.root_mail == "ops@example.org"
        retry = {"RETRY": "60s 86400s"}
        assert found.settings == {"FALLBACK": "spare.example.org:2525", "MAILNAME": "box.example.org", **retry}
        assert any("third.example.org" in note for note in found.notes)
        assert "remotes: --insecure is not carried over; the certificate is verified" in found.notes


def test_esmtp(tmp_path):
    found = read(tmp_path, "esmtprc", ESMTP)
    assert [summary(account) for account in found.accounts] == [
        ("smtp.example.org", "587", "starttls", "joe", "secret", "joe@example.org"),
        ("mail.other.example", "25", "opportunistic", "", "", "jo@other.example"),
    ]
    assert found.accounts[1].pattern == "jo@other.example"
    assert found.notes == ["mda = /usr/bin/procmail -d %T: is not carried over"]


def test_postfix(tmp_path):
    found = read(
        tmp_path,
        "main.cf",
        POSTFIX,
        sasl_passwd="[smtp.example.org]:587 alice:se:cret\nbob@example.net bob:other\n",
        generic="root@box.example.org alice@example.org\n@box.example.org alice@example.org\n",
        by_sender="bob@example.net [mail.example.net]:465\n",
    )
    assert summary(found.accounts[0]) == ("smtp.example.org", "587", "starttls", "alice", "se:cret", "")
    assert summary(found.accounts[1])[3:5] == ("bob", "other")
    assert found.settings == {"MAILNAME": "example.org", "MAXSIZE": "20480000", "MASQUERADE": "alice@example.org"}
    assert found.notes == ["content_filter = smtp-amavis:[127.0.0.1]:10024: is not carried over"]
    assert convert.answers(found)[1]["sender"] == "alice@example.org"


@pytest.mark.parametrize(
    ("line", "tls"),
    [
        ("", "opportunistic"),
        ("smtp_tls_security_level = none", "none"),
        ("smtp_tls_security_level = may", "opportunistic"),
        ("smtp_tls_security_level = verify", "starttls"),
        ("smtp_tls_wrappermode = yes\nsmtp_tls_security_level = encrypt", "implicit"),
    ],
)
def test_postfix_and_tls(tmp_path, line, tls):
    found = read(tmp_path, "main.cf", f"relayhost = smtp.example.org\n{line}\n")
    assert found.accounts[0].usual_tls() == tls


def test_postfix_without_its_password_table(tmp_path):
    found = read(tmp_path, "main.cf", POSTFIX)
    assert any("sasl_passwd: is not there" in note for note in found.notes)
    assert found.accounts[0].login == ""


def test_postfix_that_delivers_itself_or_nothing(tmp_path):
    assert convert.answers(read(tmp_path, "main.cf", "inet_interfaces = all\n"))[0].name == "direct"
    found = read(tmp_path, "main.cf", "relayhost = r.example\nmydestination =\nmyorigin = example.org\n")
    recipe, values = convert.answers(found)
    assert (recipe.name, values["domain"]) == ("satellite", "example.org")


def test_exim(tmp_path):
    found = read(tmp_path, "update-exim4.conf.conf", EXIM.format(kind="smarthost"), passwd__client="*.example.org:alice:se:cret\n")
    assert summary(found.accounts[0]) == ("smtp.example.org", "587", "starttls", "alice", "se:cret", "")
    assert found.settings == {"FALLBACK": "spare.example.org", "MASQUERADE": "example.org", "MAILNAME": "/etc/mailname"}
    assert found.notes == []


@pytest.mark.parametrize(("kind", "recipe"), [("satellite", "satellite"), ("internet", "direct"), ("local", "local")])
def test_exims_other_kinds(tmp_path, kind, recipe):
    found = read(tmp_path, "update-exim4.conf.conf", EXIM.format(kind=kind))
    made, _ = convert.answers(found)
    assert made.name == recipe
    assert planned(found, home_place(tmp_path / "home"), Machine()).changes
    with pytest.raises(ImportProblem, match="configtype is none"):
        read(tmp_path, "update-exim4.conf.conf", EXIM.format(kind="none"))


def test_c_dma(tmp_path):
    found = read(tmp_path, "dma.conf", CDMA.format(folder=tmp_path) + "NOSUCHKEY\n", auth__conf="alice|smtp.example.org:se:cret\n")
    assert summary(found.accounts[0]) == ("smtp.example.org", "587", "starttls", "alice", "se:cret", "")
    assert found.settings == {"MASQUERADE": "alice@example.org", "MAILNAME": "/etc/mailname"}
    assert any("NOSUCHKEY" in note for note in found.notes)
    assert convert.answers(found)[1]["sender"] == "alice@example.org"


def test_whose_file_it_is(tmp_path):
    (tmp_path / "mine").write_text(SSMTP)
    with pytest.raises(ImportProblem, match="mine: is no name that is known; say whose with --from msmtp"):
        convert.read([str(tmp_path / "mine")])
    assert convert.read([str(tmp_path / "mine")], "ssmtp").program == "ssmtp"
    with pytest.raises(ImportProblem, match="there is no such file"):
        convert.read([str(tmp_path / "gone")])


# ---------------------------------------------------------------- what becomes of it


def test_several_accounts_become_relays_by_sender(tmp_path):
    (tmp_path / "home").mkdir()
    text = MSMTP_USER.replace('"gpg --no-tty -q -d ~/.msmtp-password.gpg | head -1"', "").replace("passwordeval", "password other")
    found = read(tmp_path, ".msmtprc", text)
    place, machine = home_place(tmp_path / "home"), Machine()
    before = tree(tmp_path / "home")
    made = planned(found, place, machine, keyring="secret-service")
    apply.journaled(made, place, "import", machine)

    entries = relaymap.parse((tmp_path / "home/.config/dma/relays").read_text(), "relays")
    assert entries.problems == []
    work = entries.find("boss@work.example")
    assert (str(work.relay), work.login) == ("mail.work.example:587", "joe")
    assert entries.find("else@freemail.example") is None
    logins = authconf.parse((tmp_path / "home/.config/dma/auth.conf").read_text(), "auth.conf")
    assert {login.user for login in logins.logins} == {"joe.smith", "joe"}
    assert machine.keyring["dma:mail.work.example", "joe"] == "other"
    assert machine.keyring["dma:smtp.freemail.example", "joe.smith"] == "se cret"
    assert str(place.config) + "/relays" == config.parse((tmp_path / "home/.config/dma/dma.conf").read_text(), "").RELAYMAP
    assert planned(found, place, machine, keyring="secret-service").changes == ()
    assert undo.run(place, machine).complete
    assert tree(tmp_path / "home") == before
    assert machine.keyring == {}


def test_the_password_of_a_further_account_comes_from_its_command(tmp_path, monkeypatch):
    """Its words are those of a shell, quotes and all."""
    (tmp_path / "home").mkdir()
    (tmp_path / "my pass").write_text("from the file\n")
    text = "account a\nhost a.example\ntls on\nfrom a@a.example\naccount b\nhost b.example\ntls on\nfrom b@b.example\nauth on\n"
    text += f"user bob\npasswordeval cat '{tmp_path}/my pass'\ntls_fingerprint {'ab' * 32}\n"
    found = read(tmp_path, ".msmtprc", text)
    machine = Machine()
    monkeypatch.setattr(machine, "run", lambda words, *_, **more: System().run(words, **more))
    made = planned(found, home_place(tmp_path / "home"), machine, keyring="file")
    (password,) = [change for change in made.changes if change.subject.endswith("/dma.b.example.bob")]
    assert password.after.content == b"from the file\n"
    assert "b.example: a pinned certificate is for the first relay only; this one is verified by name" in made.notes


@pytest.fixture(scope="module")
def server():
    with MailServer(tls="starttls", users={"alice": PASSWORD}) as server:
        yield server


@pytest.fixture
def home(tmp_path):
    yield Home(tmp_path / "home")
    end_all(tmp_path / "home")


def test_the_command_signs_in_sends_and_lists_what_is_left(home, server):
    rc = home.path.parent / ".msmtprc"
    rc.write_text(
        f"account default\nhost localhost\nport {server.port}\ntls on\ntls_fingerprint {server.fingerprint}\n"
        f'from alice@example.org\nauth on\nuser alice\npassword "{PASSWORD}"\nproxy_host p.example\n'
    )
    words = ("import", str(rc), "--user", "--yes", "--set", "keyring=file", "--set", "root_mail=bob@example.org")
    check = home.run(*words, "--check")
    assert check.returncode == 3, check.stderr
    assert list(home.path.iterdir()) == []
    done = home.run(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"From msmtp: everything goes to localhost:{server.port} as alice\n" in done.stdout
    assert "! proxy_host p.example: is not carried over" in done.stdout
    (message,) = server.messages
    assert (message.sender, message.login) == ("alice@example.org", "alice")
    assert PASSWORD not in done.stdout + done.stderr + (home.path / ".config/dma/answers.smarthost.yml").read_text()
    assert home.run("undo", "--user").returncode == 0
    assert tree(home.path) == {}
    as_json = json.loads(home.run(*words, "--check", "--json").stdout)
    assert as_json["import"] == {"program": "msmtp", "recipe": "smarthost", "notes": ["proxy_host p.example: is not carried over"]}


def test_a_password_that_is_not_there_is_asked_for_by_name(home):
    rc = home.path.parent / "msmtprc"
    rc.write_text("account default\nhost h.example\ntls on\nauth on\nuser alice\n")
    done = home.run("import", str(rc), "--user", "--set", "keyring=file")
    assert done.returncode == 2
    assert "1 answer is missing" in done.stderr
    assert "password   secret" in done.stderr


def test_what_the_files_do_not_say_comes_from_an_answers_file(home, server):
    """Without a terminal a password that is not in them could be given in no other way."""
    rc = home.path.parent / "msmtprc"
    rc.write_text(f"account default\nhost localhost\nport {server.port}\ntls on\nauth on\nuser alice\nfrom alice@example.org\n")
    answers = home.answers(f"password: {{env: DMA_PW}}\nkeyring: file\nfingerprint: {server.fingerprint}\nsender: a@example.org\n")
    before = len(server.messages)
    done = home.run("import", str(rc), "--user", "--answers", answers, "--set", "root_mail=bob@example.org")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [(one.login, one.sender, one.recipients) for one in server.messages[before:]] == [
        ("alice", "a@example.org", ["bob@example.org"])
    ]
    wrong = home.run("import", str(rc), "--user", "--answers", home.answers("pasword: {env: DMA_PW}\nkeyring: file\n"))
    assert wrong.returncode == 2
    assert "pasword is no question of this recipe; did you mean password?" in wrong.stderr
