"""Each shipped recipe: applied once and again (nothing to change), undone (as before); what its server says is understood."""

import hashlib
import json
import os

import jsonschema
import pytest
from provisioning import FACTS, Machine, home_place, plan, tree

from dma_runtime import config
from dma_runtime.outcome import DEFERRED, PACE, RELAY
from dma_runtime.policy import verdict
from dma_runtime.smtp.reply import reply
from dma_setup import apply, cli, derive, recipe, recipe_schema, relay, resources, undo, verify
from dma_setup import plan as plans
from dma_setup.changes import digest
from dma_setup.discover import search
from dma_setup.errors import FileProblem, SetupError, UsageProblem
from dma_setup.secret import SecretAnswer

IAM_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # AWS's own example
UUID = "8f5f1a3e-1111-2222-3333-444455556666"

# recipe: (answers, host, port, login) where more than an address and a password is needed
FULL = {
    "direct": ({}, "", "", ""),
    "local": ({}, "", "", ""),
    "smarthost": ({"host": "relay.example.org", "login": "alice"}, "relay.example.org", "465", "alice"),
    "satellite": ({"host": "mail.example.org", "domain": "example.org"}, "mail.example.org", "25", ""),
    "google-workspace-relay": ({"sender": "alice@example.org"}, "smtp-relay.gmail.com", "587", ""),
    "gmail": ({"address": "alice@gmail.com"}, "smtp.gmail.com", "465", "alice@gmail.com"),
    "outlook": ({"signin": "password"}, "smtp-mail.outlook.com", "587", "alice@example.org"),
    "microsoft365": ({"signin": "password"}, "smtp.office365.com", "587", "alice@example.org"),
    "icloud": ({}, "smtp.mail.me.com", "587", "alice@example.org"),
    "yahoo": ({}, "smtp.mail.yahoo.com", "465", "alice@example.org"),
    "aol": ({}, "smtp.aol.com", "465", "alice@example.org"),
    "fastmail": ({}, "smtp.fastmail.com", "465", "alice@example.org"),
    "zoho": ({"region": "eu"}, "smtppro.zoho.eu", "465", "alice@example.org"),
    "gmx": ({"address": "alice@gmx.de"}, "mail.gmx.net", "465", "alice@gmx.de"),
    "webde": ({"address": "alice@web.de"}, "smtp.web.de", "465", "alice"),
    "mailru": ({}, "smtp.mail.ru", "465", "alice@example.org"),
    "yandex": ({"address": "alice@yandex.ru"}, "smtp.yandex.ru", "465", "alice@yandex.ru"),
    "proton-token": ({}, "smtp.protonmail.ch", "587", "alice@example.org"),
    "proton-bridge": ({"fingerprint": "ab" * 32}, "127.0.0.1", "1025", "alice@example.org"),
    "mailboxorg": ({}, "smtp.mailbox.org", "465", "alice@example.org"),
    "posteo": ({}, "posteo.de", "465", "alice@example.org"),
    "ovh": ({}, "ssl0.ovh.net", "465", "alice@example.org"),
    "ionos": ({"country": "de"}, "smtp.ionos.de", "465", "alice@example.org"),
    "ses": (
        {"region": "eu-central-1", "login": "AKIAIOSFODNN7EXAMPLE"},
        "email-smtp.eu-central-1.amazonaws.com",
        "465",
        "AKIAIOSFODNN7EXAMPLE",
    ),
    "sendgrid": ({}, "smtp.sendgrid.net", "465", "apikey"),
    "mailgun": (
        {"region": "eu", "login": "postmaster@mg.example.org"},
        "smtp.eu.mailgun.org",
        "465",
        "postmaster@mg.example.org",
    ),
    "postmark": ({"login": "PM-T-x"}, "smtp.postmarkapp.com", "587", "PM-T-x"),
    "brevo": ({"login": "a@smtp-brevo.com"}, "smtp-relay.brevo.com", "465", "a@smtp-brevo.com"),
    "smtp2go": ({"login": "box"}, "mail.smtp2go.com", "465", "box"),
    "mailjet": ({"login": "ab" * 16}, "in-v3.mailjet.com", "465", "ab" * 16),
    "resend": ({}, "smtp.resend.com", "465", "resend"),
    "scaleway": ({"login": UUID}, "smtp.tem.scaleway.com", "465", UUID),
}
NO_TLS_FROM_THE_START = {
    "outlook",
    "microsoft365",
    "icloud",
    "proton-token",
    "postmark",
    "proton-bridge",
    "google-workspace-relay",
}


def given(name):
    found = recipe.read(name)
    values = dict(FULL[name][0])
    if found.question("keyring") and FULL[name][3]:
        values["keyring"] = "file"
    for question in found.questions:
        if question.is_secret and FULL[name][3]:
            values.setdefault(question.id, "a secret")
        elif question.id in ("address", "sender") and question.type == "address" and not question.optional:
            values.setdefault(question.id, values.get("address", "alice@example.org"))
    return values


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(digest, "_slow", lambda content, salt: hashlib.sha256(salt + content).digest())


def test_the_table_is_whole():
    assert sorted(FULL) == resources.recipe_names()


@pytest.mark.parametrize("name", FULL)
def test_applied_twice_and_undone(name, tmp_path):
    home, machine = tmp_path / "home", Machine()
    home.mkdir()
    place = home_place(home)
    before = tree(home)
    first = plan(name, given(name), place, machine)
    apply.journaled(first, place, name, machine)

    _, host, port, login = FULL[name]
    conf = config.parse((home / ".config/dma/dma.conf").read_text(), "dma.conf")
    assert (conf.problems, conf.warnings) == ([], [])
    assert (conf.SMARTHOST.name if conf.SMARTHOST else "") == host
    if host:
        assert str(conf.PORT) == port
        assert conf.SECURETRANSFER
        assert (port != "465") == conf.STARTTLS
        assert (port == "25") == conf.OPPORTUNISTIC_TLS
        assert not conf.INSECURE
        assert not conf.UNVERIFIEDCERT
    auth = (home / ".config/dma/auth.conf").read_text() if login else ""
    assert (f"\n{login}|{host}:file:" in auth) == bool(login)
    assert "a secret" not in auth

    again = plan(name, given(name), place, machine, {"relay_now": host})
    assert [change.subject for change in again.changes] == []
    undone = undo.run(place, machine)
    assert undone.complete
    assert tree(home) == before


@pytest.mark.parametrize("name", sorted(set(FULL) - {"local", "direct", "smarthost", "satellite"}))
def test_a_provider_says_who_it_is_and_what_its_refusals_mean(name):
    found = recipe.read(name)
    assert found.provider.name
    secret = found.question(found.relay.password)
    assert secret.help, "what password is meant, and where to make it"
    assert found.question("sender").help, "which senders the provider takes"
    for code, status, text in ((535, "5.7.8", "x"), (535, "", "Authentication failed")):
        meaning = found.meaning(code, status, text)
        assert meaning.again == found.relay.password
    assert found.meaning(451, "4.3.0", "try later") is None
    assert ("465" in found.relay.ports) == (name not in NO_TLS_FROM_THE_START)


@pytest.mark.parametrize("name", FULL)
def test_a_relay_is_recognised_by_its_host(name):
    host = FULL[name][1]
    known = recipe.by_host(host) if host else None
    expected = None if name in ("local", "direct", "smarthost", "satellite") else name
    assert (known.name if known else None) == expected


@pytest.mark.parametrize("name", ["outlook", "microsoft365"])
def test_microsoft_takes_a_password_only_by_explicit_choice(name, tmp_path):
    values = {"address": "alice@example.org"}
    with pytest.raises(UsageProblem, match="1 answer is missing") as problem:
        plan(name, values, home_place(tmp_path), Machine())
    assert any("signin" in line for line in problem.value.details)
    with pytest.raises(SetupError, match="OAuth is not in this version yet; nothing was changed"):
        plan(name, {**values, "signin": "oauth"}, home_place(tmp_path), Machine())
    assert list(tmp_path.iterdir()) == []


def test_the_dates_of_microsoft_are_told():
    help = " ".join(recipe.read("microsoft365").question("signin").help.split())
    for words in ("end of December 2026", "administrator can switch them on again", "second half of 2027"):
        assert words in help
    assert "16 September 2024" in " ".join(recipe.read("outlook").question("signin").help.split())


@pytest.mark.parametrize(
    ("name", "code", "status", "text", "says"),
    [
        (
            "microsoft365",
            535,
            "5.7.139",
            "Authentication unsuccessful, SmtpClientAuthentication is disabled",
            "switched off for this mailbox",
        ),
        (
            "microsoft365",
            550,
            "5.7.30",
            "Basic authentication is not supported for Client Submission.",
            "takes no passwords",
        ),
        ("microsoft365", 550, "5.7.60", "SMTP; Client does not have permissions to send as this sender", "may not send as"),
        ("gmail", 534, "5.7.9", "Application-specific password required", "normal password"),
        ("ionos", 450, "", "Requested mail action not taken: Mail send limit exceeded", "hourly limit"),
        ("zoho", 553, "", "Relaying disallowed as bob@example.net", "from this sender"),
        ("resend", 550, "", "The example.org domain is not verified.", "does not know the domain"),
        ("smarthost", 550, "5.7.60", "x", "may not send as"),
        ("direct", 550, "5.7.26", "unauthenticated", "SPF or DKIM"),
    ],
)
def test_what_a_server_says_becomes_advice(name, code, status, text, says):
    assert says in recipe.read(name).meaning(code, status, text).says


@pytest.mark.parametrize(
    ("name", "pasted"), [("icloud", "abcd-efgh-ijkl-mnop"), ("brevo", "xsmtpsib-1"), ("resend", "re_x"), ("ses", IAM_SECRET)]
)
def test_shapes_know_their_own_and_warn_of_others(name, pasted):
    found = recipe.read(name)
    question = found.question(found.relay.password)
    assert question.warning(pasted) == ""
    assert question.warning("xkeysib-abc normal!") != ""


# ---------------------------------------------------------------- pace


def test_pace_goes_into_dma_conf_and_leaves_with_its_relay(tmp_path):
    place, machine = home_place(tmp_path), Machine()
    made = plan("yandex", given("yandex"), place, machine)
    apply.journaled(made, place, "yandex", machine)
    path = tmp_path / ".config/dma/dma.conf"
    assert config.parse(path.read_text(), "").MAXRECIPIENTS == 35
    path.write_text(path.read_text() + "MAXMESSAGES 7\n")

    same = plan("yandex", given("yandex"), place, machine, {"relay_now": "smtp.yandex.ru"})
    assert same.config.MAXMESSAGES == 7, "what somebody set for this relay stays"
    other = plan("posteo", given("posteo"), place, machine, {"relay_now": "smtp.yandex.ru"})
    assert "MAXRECIPIENTS" not in other.config.values
    assert "MAXMESSAGES" not in other.config.values


def test_a_null_client_is_one_only_as_long_as_it_is_told(tmp_path):
    place, machine = home_place(tmp_path), Machine()
    made = plan("satellite", given("satellite"), place, machine)
    assert made.config.NULLCLIENT
    assert made.config.MAILNAME == "example.org"
    apply.journaled(made, place, "satellite", machine)
    assert not plan("posteo", given("posteo"), place, machine).config.NULLCLIENT


# What the providers publish, where they do (providers.md): the keys that a recipe adds to dma.conf.
PUBLISHED = {
    "gmail": {"RATE": "500/d"},
    "google-workspace-relay": {"RATE": "10000/d", "MAXRECIPIENTS": "100"},
    "microsoft365": {"RATE": "30/m 10000/d", "MAXCONNECTIONS": "3"},
    "icloud": {"RATE": "1000/d"},
    "yandex": {"RATE": "500/d", "MAXRECIPIENTS": "35"},
    "ionos": {"RATE": "50/h"},
}


@pytest.mark.parametrize("name", FULL)
def test_the_pace_of_a_provider(name, tmp_path):
    made = plan(name, given(name), home_place(tmp_path), Machine())
    (conf,) = [change for change in made.changes if change.subject.endswith("dma.conf")]
    lines = dict(config.split_line(line) for line in conf.after.content.decode().splitlines())
    keys = ("RATE", "MAXCONNECTIONS", "MAXMESSAGES", "MAXRECIPIENTS")
    assert {key: lines[key] for key in keys if key in lines} == PUBLISHED.get(name, {})
    assert made.config.problems == []


@pytest.mark.parametrize(("address", "pace"), [("a@GMAIL.com", ((500, 86400),)), ("a@example.org", ((2000, 86400),))])
def test_a_workspace_account_may_send_more(address, pace, tmp_path):
    made = plan("gmail", {**given("gmail"), "address": address, "sender": address}, home_place(tmp_path), Machine())
    assert made.config.values["RATE"] == pace


def test_an_older_account_at_ionos_may_send_more(tmp_path):
    made = plan("ionos", {**given("ionos"), "hourly": 500}, home_place(tmp_path), Machine())
    assert made.config.RATE == ((500, 3600),)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("gmail", "550 5.4.5 Daily user sending limit exceeded. https://support.google.com/mail/?p=UserLimit - gsmtp"),
        ("gmail", "550 5.7.1 Email quota exceeded. - gsmtp"),
        ("google-workspace-relay", "550 5.7.1 Daily SMTP relay limit exceeded for customer. For more information - gsmtp"),
        ("microsoft365", "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process message"),
        ("microsoft365", "550 5.1.90 Your message can't be sent because you've reached your daily limit for recipients"),
        ("ionos", "450-Requested mail action not taken: mailbox unavailable\r\n450 Mail send limit exceeded."),
        ("zoho", "550 5.4.6 Unusual sending activity detected. Please try after sometime"),
        ("zoho", "554 5.1.8 Email Outgoing Blocked"),
        ("ses", "454 Throttling failure: Daily message quota exceeded"),
        ("sendgrid", "451 Authentication failed: Maximum credits exceeded"),
    ],
)
def test_a_limit_that_is_reached_paces_and_says_that_nothing_is_lost(name, answer, tmp_path):
    said = reply(answer)
    meaning = recipe.read(name).meaning(said.code, said.status, said.text)
    assert "limit" in meaning.says or meaning.quota
    assert not meaning.again
    made = plan(name, given(name), home_place(tmp_path), Machine())
    outcome = verdict.judge("final DATA", said, quota=verdict.QUOTA + made.config.QUOTA)
    assert (outcome.kind, outcome.scope) == (DEFERRED, RELAY)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("google-workspace-relay", "450 4.2.1 Peak SMTP relay limit exceeded for customer. - gsmtp"),
        ("ses", "454 Throttling failure: Maximum sending rate exceeded"),
        ("gmail", "454 4.7.0 Too many login attempts, please try again later."),
    ],
)
def test_a_limit_that_soon_passes_is_a_matter_of_pace(name, answer, tmp_path):
    """No mark of the recipe makes a long wait of it."""
    said = reply(answer)
    assert recipe.read(name).meaning(said.code, said.status, said.text).advice
    made = plan(name, given(name), home_place(tmp_path), Machine())
    assert verdict.judge("final DATA", said, quota=verdict.QUOTA + made.config.QUOTA).scope == PACE


def test_the_marks_of_a_relay_leave_with_it(tmp_path):
    place, machine = home_place(tmp_path), Machine()
    apply.journaled(plan("ionos", given("ionos"), place, machine), place, "ionos", machine)
    conf = tmp_path / ".config/dma/dma.conf"
    assert config.parse(conf.read_text(), "").QUOTA == ("mail send limit exceeded",)
    other = plan("posteo", given("posteo"), place, machine, {"relay_now": "smtp.ionos.de"})
    assert not {"QUOTA", "RATE"} & set(other.config.values)


@pytest.mark.parametrize("name", FULL)
def test_no_recipe_leaves_a_limit_behind(name, tmp_path):
    """What a recipe adds for its relay goes when another relay comes; only MAILNAME is the machine's own."""
    place, machine = home_place(tmp_path), Machine()
    apply.journaled(plan(name, given(name), place, machine), place, name, machine)
    other = "posteo" if name != "posteo" else "fastmail"
    made = plan(other, given(other), place, machine, {"relay_now": FULL[name][1]})
    fresh = plan(other, given(other), home_place(tmp_path / "fresh"), Machine())
    assert set(made.config.values) - set(fresh.config.values) <= {"MAILNAME"}


@pytest.mark.parametrize("name", FULL)
def test_what_a_recipe_says_fits_a_terminal(name):
    """Advice and help are shown as they are laid out, four columns in; 80 columns are all there is."""
    found = recipe.read(name)
    lines = [line for question in found.questions for line in question.help.splitlines()]
    lines += [line for refusal in found.refusals for line in (refusal.says, *refusal.advice)]
    lines += [line for step in found.steps if step.verb == "stop" for line in step.arguments["advice"]]
    assert [line for line in lines if len(line) > 76] == []


# ---------------------------------------------------------------- Amazon's password


@pytest.mark.parametrize(
    ("region", "secret", "password"),
    [  # the published vectors of Terraform's AWS provider, known to sign in
        ("eu-central-1", "some+secret+key", "BMXhUYlu5Z3gSXVQORxlVa7XPaz91aGWdfHxvkOZdWZ2"),
        ("eu-central-1", "another+secret+key", "BBbphbrQmrKMx42d1N6+C7VINYEBGI5v9VsZeTxwskfh"),
        ("us-west-1", "some+secret+key", "BH+jbMzper5WwlwUar9E1ySBqHa9whi0GPo+sJ0mVYJj"),
    ],
)
def test_the_smtp_password_of_an_iam_key(region, secret, password):
    assert derive.ses(secret, region) == password


@pytest.mark.parametrize("how", ["plain", "file"])
def test_only_the_derived_password_is_kept(how, tmp_path):
    (tmp_path / "key").write_text(IAM_SECRET)
    (tmp_path / "key").chmod(0o600)
    answer = IAM_SECRET if how == "plain" else {"file": str(tmp_path / "key")}
    home = tmp_path / "home"
    home.mkdir()
    place, machine = home_place(home), Machine()
    values = {**given("ses"), "credential": "iam", "password": answer}
    del values["keyring"]  # the default for a reference is that very reference, which would lead to the IAM key
    made = plan("ses", values, place, machine, {"keyring_now": "file"})
    apply.journaled(made, place, "ses", machine)
    kept = (home / ".config/dma/secrets/dma.email-smtp.eu-central-1.amazonaws.com.AKIAIOSFODNN7EXAMPLE").read_text()
    assert kept == derive.ses(IAM_SECRET, "eu-central-1") + "\n"
    assert not any(IAM_SECRET.encode() in entry[2] for entry in tree(home, ()).values() if entry[0] == "file")


def test_what_is_stored_already_is_not_derived_again():
    stored = SecretAnswer("keyring", "", None)
    assert derive.apply("ses eu-central-1", stored) is stored
    with pytest.raises(SetupError, match="not the name of an AWS region"):
        derive.ses("x", "Frankfurt")


def test_a_region_that_is_none_is_a_wrong_answer(tmp_path):
    with pytest.raises(UsageProblem, match="1 answer is wrong"):
        plan("ses", {**given("ses"), "region": "frankfurt", "credential": "iam"}, home_place(tmp_path), Machine())


# ---------------------------------------------------------------- the schema


def fits(value, schema):
    jsonschema.Draft202012Validator(schema).validate(value)


def raw(path):
    from dma_setup import yamlfile

    with open(path) as file:
        return yamlfile.load(file.read(), str(path)).value


@pytest.mark.parametrize("name", FULL)
def test_every_recipe_fits_the_schema(name):
    fits(raw(resources.recipe(name)), recipe_schema.make())


def test_the_schema_refuses_what_a_recipe_may_not_hold():
    good = raw(resources.recipe("gmail"))
    for bad in (
        {"abuot": "x"},
        {"questions": [{"id": "One", "type": "txet", "ask": "x"}]},
        {"steps": [{"saved": {}, "wake": {}}]},
        {"refusals": [{"says": "x", "quota": "perhaps"}]},
        {"refusals": [{"says": "x", "status": "5.7"}]},
        {"settings": {"NOKEY": 1}},
        {"provider": {"hosts": [{}]}},
        {"relay": {"ports": [465]}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            fits({**good, **bad}, recipe_schema.make())


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(recipe_schema.make())


def test_the_exported_schema_is_current(repository):
    exported = json.loads((repository / "docs/recipe.schema.json").read_text())
    assert exported == recipe_schema.make(), "write it again: dma-setup list --schema > docs/recipe.schema.json"


# ---------------------------------------------------------------- recipes of one's own

OWN = """\
recipe: house
summary: The house's own relay
about: Everything goes to the house.
relay: {host: mail.house.example, ports: [25]}
pattern: relay
questions:
  - {id: sender, type: address, ask: Sender, optional: true}
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    folder = tmp_path / "recipes"
    folder.mkdir(mode=0o755)
    monkeypatch.setattr(resources, "own_directories", lambda: [str(folder)])
    path = folder / "house.yml"
    path.write_text(OWN)
    path.chmod(0o644)
    return path


def test_a_recipe_of_ones_own_is_one_like_any_other(own, tmp_path):
    assert "house" in resources.recipe_names()
    made = plan("house", {}, home_place(tmp_path), Machine())
    assert made.config.SMARTHOST.name == "mail.house.example"


def test_ones_own_comes_before_the_shipped_one(own):
    mine = own.with_name("posteo.yml")
    mine.write_text(OWN.replace("recipe: house", "recipe: posteo"))
    mine.chmod(0o644)
    assert recipe.read("posteo").summary == "The house's own relay"


def test_a_recipe_that_others_can_write_is_not_used(own):
    own.chmod(0o666)
    assert "house" not in resources.recipe_names()
    with pytest.raises(UsageProblem, match=r"house.yml is not used: .*house.yml can be written by others"):
        recipe.read("house")


def test_root_uses_only_roots_recipes(own):
    if os.getuid() != 0:
        pytest.skip("needs root to give a file away")
    os.chown(own, 65534, 65534)
    with pytest.raises(UsageProblem, match="belongs to uid 65534"):
        recipe.read("house")
    os.chown(own, 0, 0)
    own.chmod(0o664)
    with pytest.raises(UsageProblem, match="can be written by others"):
        recipe.read("house")
    own.chmod(0o644)
    own.parent.chmod(0o777)
    with pytest.raises(UsageProblem, match=r"directory .* can be written by others"):
        recipe.read("house")


def test_a_faulty_recipe_of_ones_own_stops_no_other(own, capsys):
    """`list`, `auto`, and whatever asks whose relay it is go on; the fault is named once, with file and line."""
    own.write_text(OWN.replace("pattern: relay", "patern: relay"))
    closed = own.with_name("closed.yml")
    closed.write_text(OWN.replace("house", "closed"))
    closed.chmod(0o666)
    found, problems = recipe.every()
    assert {"gmail", "posteo"} <= {one.name for one in found}
    assert not {"house", "closed"} & {one.name for one in found}
    assert [problem.text.partition(": ")[0] for problem in problems] == [f"{closed} is not used", f"{own}:5"]
    assert recipe.by_host("posteo.de").name == "posteo"
    assert search.own_recipe("gmail.com").name == "gmail"
    assert cli.main(["list"]) == 1
    said = capsys.readouterr()
    assert "\nposteo " in said.out
    assert f"dma-setup: {own}:5: unknown key patern" in said.err
    assert "closed.yml is not used: " in said.err


def test_ones_own_recipe_comes_first_for_its_domains(own):
    own.write_text(OWN.replace("relay:", "provider: {name: House, domains: [gmail.com]}\nrelay:"))
    assert search.own_recipe("gmail.com").name == "house"


def test_the_example_of_the_page_is_a_recipe(repository, own, tmp_path):
    page = (repository / "docs/recipes.md").read_text()
    house = page.partition("```yaml\n")[2].partition("```")[0]
    own.write_text(house)
    fits(raw(str(own)), recipe_schema.make())
    said = {"user": "u", "password": "x", "sender": "u@house.example", "keyring": "file"}
    made = plan("house", said, home_place(tmp_path), Machine())
    assert made.config.SMARTHOST.name == "mail.house.example"
    assert made.config.QUOTA == ("too many messages", "hourly limit")
    assert made.config.MAXRECIPIENTS == 50
    assert recipe.read("house").meaning(535, "5.7.8", "no").again == "password"
    own.write_text(house.replace("domains:", "domain:"))
    with pytest.raises(FileProblem) as problem:
        recipe.read("house")
    shown = page.partition("house.yml:9: ")[2].partition("\n")[0]
    assert problem.value.text == f"{own}:9: {shown}"


def test_where_ones_own_recipes_lie(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/somewhere")
    assert resources.own_directories() == ["/somewhere/dma/recipes", "/etc/dma/recipes"]
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert resources.own_directories() == ["/etc/dma/recipes"]


@pytest.mark.parametrize(
    ("line", "says"), [("settings: {NOKEY: 1}", "unknown key NOKEY"), ("settings: {RATE: [1]}", "RATE must be text")]
)
def test_settings_of_a_recipe_are_keys_of_dma_conf(tmp_path, line, says):
    path = tmp_path / "x.yml"
    path.write_text(OWN.replace("recipe: house", "recipe: x") + line + "\n")
    with pytest.raises(FileProblem, match=says) as problem:
        recipe.load(str(path))
    assert f"{path}:8: " in problem.value.text


def test_ports_of_an_unanswered_recipe_are_not_guessed():
    """The look probes a relay only when no answer is needed to know it (`wizard._fixed_relay`)."""
    templated = {name for name in FULL if (found := recipe.read(name).relay) and "{" in found.host + "".join(found.ports)}
    assert templated == {
        "smarthost",
        "satellite",
        "google-workspace-relay",
        "zoho",
        "gmx",
        "yandex",
        "proton-bridge",
        "ovh",
        "ionos",
        "ses",
        "mailgun",
        "postmark",
    }
    values = plans.context(recipe.read("gmail"), home_place("/home/a"), FACTS, {"address": "a@gmail.com"}, None, {})
    assert [one.port for one in relay.candidates(recipe.read("gmail"), values, None)] == ["465", "587"]


@pytest.mark.parametrize(
    ("why", "expected"),
    [
        ("refused: relay [192.0.2.1] failed after MAIL FROM: 550 5.7.60 SMTP; not yours", (550, "5.7.60")),
        ("not delivered yet: 451 try later", (451, "")),
        ("not delivered yet: no route to host at port 587", (0, "")),
    ],
)
def test_the_reply_in_a_sentence(why, expected):
    assert verify.codes(why) == expected
