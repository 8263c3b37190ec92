"""Recipes as data: the shipped ones are sound, a faulty one is named with file and line, answers are never templates."""

import pathlib
import subprocess

import pytest
import yaml
from provisioning import FACTS, GMAIL, SMARTHOST, Machine, home_place, plan
from setup_home import PROGRAM
from virtual_terminal import VirtualTerminal

from dma_setup import answers, recipe, render, resources
from dma_setup.commands import show
from dma_setup.errors import FileProblem, SetupError, UsageProblem
from dma_setup.question import Question, Refused
from dma_setup.secret import Secret, clean

GOOD = """\
recipe: x
summary: s
about: a
relay: {host: h}
questions:
  - {id: one, type: text, ask: One}
steps:
  - saved: {}
"""


def test_every_shipped_recipe_is_sound():
    names = resources.recipe_names()
    assert {"gmail", "smarthost", "local"} <= set(names)
    for name in names:
        found = recipe.read(name)
        assert found.summary
        assert not found.summary.endswith(".")
        assert found.steps
        for question in found.questions:
            assert question.ask


@pytest.mark.parametrize("name", resources.recipe_names())
def test_the_skeleton_is_an_answers_file(name, tmp_path):
    """What `show` prints can be read back: required answers are open lines, all others comments."""
    found = recipe.read(name)
    path = tmp_path / "answers.yml"
    path.write_text(show.skeleton(found))
    given = answers.read(str(path), [], found)
    for question in found.questions:
        assert (question.id in given.values) == (question.is_secret or show.is_required(question)), question.id
        if question.id in given.values and not question.is_secret:
            question.accept(given.values[question.id])


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("recipe: x", "recipe: y", 1, "recipe says y, but the file is x.yml"),
        ("summary: s\n", "", 1, "summary is missing"),
        ("about: a", "about: [a]", 3, "about must be text"),
        ("about: a", "abuot: a", 3, "unknown key abuot"),
        ("type: text", "type: txet", 6, "unknown type txet"),
        ("id: one", "id: One", 6, "lower-case"),
        ("ask: One}", "ask: One, optional: maybe}", 6, "true or false"),
        ("ask: One}", "ask: One, choices: {a: b}}", 6, "belong together"),
        ("ask: One}", "ask: One, shape: {pattern: '(', says: x}}", 6, "not a regular expression"),
        ("ask: One}", "ask: One}\n  - {id: one, type: text, ask: Two}", 6, "two questions are called one"),
        ("  - saved: {}", "  - save: {}", 8, "unknown key save"),
        ("  - saved: {}", "  - {saved: {}, wake: {}}", 8, "exactly one verb"),
        ("relay: {host: h}", "relay: {host: h, password: pw}", 4, "there is no question pw"),
        ("relay: {host: h}", "relay: {ports: [1]}", 4, "host is missing"),
        ("relay: {host: h}", "relay: {host: h, ports: [465, smtps]}", 4, "smtps is not a port number"),
        ("relay: {host: h}", "relay: {host: h, tls: ssl}", 4, "tls must be one of implicit, starttls"),
        ("about: a", "about: a\nrefusals: [{says: x, again: two}]", 4, "there is no question two"),
        ("about: a", "about: a\nrefusals: [{says: x, code: 12}]", 4, "three digits"),
        ("about: a", "about: a\nrefusals: [{says: x, status: 5.7}]", 4, "must look like 5.7.8"),
        ("about: a", "about: a\nrefusals: [{says: x, quota: true}]", 4, "needs a status or a text"),
        ("about: a", "about: a\nrefusals: [{says: x, text: 'a.*b', quota: true}]", 4, "plain words"),
        ("about: a", "about: a\nrefusals: [{says: x, text: a, quota: 'yes'}]", 4, "true or false"),
        ("about: a", "about: a\nprovider: {hosts: [[a]]}", 4, "must hold text"),
        ("about: a", "about: a\nlimits: 5", 4, "must be a mapping"),
        ("about: a", "about: a\nlimits: {a: [1]}", 4, "a must be text"),
        ("about: a", "about: a {{", 3, "'a {{': unexpected"),
        ("{host: h}", "{host: '{{ x'}", 4, "'{{ x': unexpected end"),
        ("ask: One}", "ask: One, when: 'x =='}", 6, "'x ==': "),
        ("ask: One}", "ask: One, default: [{value: '{% nix %}'}]}", 6, "unknown tag 'nix'"),
        ("  - saved: {}", "  - saved: {path: x}", 8, "unknown key path"),
        ("  - saved: {}", "  - link: {says: x}", 8, "link needs name"),
        ("  - saved: {}", "  - link: {name: [x]}", 8, "name must be text"),
        ("  - saved: {}", "  - link: x", 8, "must be a mapping"),
        ("  - saved: {}", "  - directory: {path: /x, mode: '0799'}", 8, "octal digits"),
        ("  - saved: {}", "  - settings: {path: /x, keys: [RATE]}", 8, "must be a mapping"),
        ("  - saved: {}", "  - settings:\n      path: /x\n      keys:\n        RATES: 1", 11, "unknown key RATES"),
        ("  - saved: {}", "  - stop: {says: x, advice: [{}]}", 8, "must hold text"),
        ("about: a", "about: &a a\nlimits: {x: *a}", 3, "aliases are not understood"),
        ("about: a", "about: !x a", 3, "not understood"),
        ("about: a", "about: !!int a", 3, "is no such number"),
        pytest.param("about: a", "about: " + "9" * 5000, 3, "is no such number", id="digits"),
    ],
)
def test_a_faulty_recipe_is_named_with_file_and_line(tmp_path, old, new, line, says):
    path = tmp_path / "x.yml"
    path.write_text(GOOD)
    recipe.load(str(path))
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(FileProblem) as problem:
        recipe.load(str(path))
    assert problem.value.text.startswith(f"{path}:{line}: "), problem.value.text
    assert says in problem.value.text


ODD = [None, True, 7, 1.5, "", "x", "{{ x", "{% if %}", "\x1b[2J", [], ["x"], [[]], {}, {"x": "y"}, {"x": []}]


def nodes(value, path=()):
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield from nodes(one, (*path, key))


def replaced(value, path, odd):
    if not path:
        return odd
    made = dict(value) if isinstance(value, dict) else list(value)
    made[path[0]] = replaced(value[path[0]], path[1:], odd)
    return made


WHOLE = """\
recipe: x
summary: s
about: a
provider: {name: X, domains: [x.example], mx: ["*.x.example"], hosts: [x.example]}
relay: {host: "{{ host }}", ports: [465], tls: "", login: "{{ user }}", password: pw, fingerprint: ""}
limits: {messages: 5}
settings: {RATE: 5/m}
questions:
  - {id: host, type: host, ask: Host, help: h, default: [{value: a, says: b}], optional: true, asked: false, when: "1 == 1"}
  - {id: user, type: text, ask: User}
  - {id: how, type: choice, ask: How, choices: {a: b, c: {says: d, when: "1 == 1"}}}
  - {id: pw, type: secret, ask: Password, strip: blanks, shape: {pattern: "a+", says: odd}, derive: ""}
steps:
  - directory: {path: /x, mode: "0755", says: s}
    when: "1 == 1"
  - settings: {path: /x, keys: {RATE: 5/m}, mode: "0644"}
  - link: {name: sendmail}
  - stop: {says: x, advice: [y]}
refusals:
  - {code: 535, status: 5.7.8, text: a|b, says: s, advice: [a], again: pw, quota: true}
"""


def test_whatever_stands_in_a_recipe_is_understood_or_named(tmp_path):
    """No part of it, replaced by anything YAML can say, ends in a traceback; and what is taken can be shown."""
    good = yaml.safe_load(WHOLE)
    path = tmp_path / "x.yml"
    taken = 0
    for where in nodes(good):
        for odd in ODD:
            path.write_text(yaml.safe_dump(replaced(good, where, odd), sort_keys=False))
            problems = []
            try:
                found = recipe.load(str(path))
            except FileProblem as problem:
                problems.append(problem.path)
            else:
                show.skeleton(found)
                taken += 1
            assert set(problems) <= {str(path)}, (where, odd)
    assert taken > 200


def test_a_skeleton_fits_a_terminal():
    for name in resources.recipe_names():
        assert [line for line in show.skeleton(recipe.read(name)).splitlines() if len(line) > 80] == [], name


def test_the_list_fits_a_terminal_and_is_one_line_each_elsewhere(tmp_path):
    terminal = VirtualTerminal([str(PROGRAM), "list"], {"HOME": str(tmp_path), "PATH": "/nowhere"})
    terminal.wait("zoho")
    assert terminal.end() == 0
    shown = terminal.raw.replace("\r", "").splitlines()
    assert max(map(len, shown)) < 80
    assert "outlook                 Send everything through Outlook.com or Hotmail" in "\n".join(shown)
    words = [str(PROGRAM), "list"]
    piped = subprocess.run(words, capture_output=True, text=True, env={"HOME": str(tmp_path)}, check=True).stdout
    assert len(piped.splitlines()) == len(resources.recipe_names())
    assert " ".join(piped.split()) == " ".join(terminal.raw.split())


def test_there_is_no_such_recipe():
    with pytest.raises(UsageProblem, match=r"no recipe gmial; did you mean gmail\?"):
        recipe.read("gmial")


@pytest.mark.parametrize("text", ["{{ 7 * 7 }}@example.org", "{% raw %}@example.org", "a{{x}}@example.org"])
def test_an_answer_is_never_a_template(tmp_path, text):
    """It comes out as it went in, or is refused; nothing of it is evaluated."""
    given = {**SMARTHOST, "login": text, "sender": "alice@example.org"}
    made = plan("smarthost", given, home_place(tmp_path), Machine())
    auth = next(change for change in made.changes if change.subject.endswith("auth.conf"))
    assert f"\n{text}|relay.example.org:" in auth.after.content.decode()
    assert "49@" not in auth.after.content.decode()


def test_a_secret_is_in_no_context():
    with pytest.raises(SetupError, match="undefined"):
        render.text("{{ pw }}", {"pw": Secret("x")})
    with pytest.raises(SetupError, match="undefined"):
        render.text("{{ nobody }}", {})


def test_recipe_strings_have_no_hands():
    for text in ("{{ ''.__class__.__mro__ }}", "{{ place.__init__.__globals__ }}"):
        with pytest.raises(SetupError):
            render.text(text, {"place": home_place("/nowhere")})


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("address", ["a@b.example", "a+b@x.y"], ["a", "@b", "a@", "a b@c", "a@b@c", "a@-b", "a@b.", "<a@b>", "a|b@c"]),
        ("recipient", ["root", "a@b.example"], ["a b", "|x", "/file", "a,b", ":include:x", "#x"]),
        ("host", ["h", "h:587", "[::1]:25", "192.0.2.1"], ["h:", "h:0", "a b", "h:99999", "a@b"]),
        ("port", [25, "465", "submission"], ["0", "x", 70000, True, 1.5]),
        ("yesno", [True, False, "yes", "no"], ["maybe", 1, ""]),
        ("fingerprint", ["AB:" * 31 + "AB", "ab" * 32], ["ab" * 31, "x" * 64]),
        ("text", ["x", 5], ["a\nb", "a\x1bb", "", True, ["x"], {"a": 1}]),
        ("path", ["/a"], ["a", "~/a"]),
    ],
)
def test_what_a_question_accepts(kind, good, bad):
    question = Question("q", kind, "Q")
    for value in good:
        assert question.accept(value)
    for value in bad:
        with pytest.raises(Refused):
            question.accept(value)


def test_app_passwords_lose_every_kind_of_blank():
    question = recipe.read("gmail").question("app_password")
    for pasted in ("abcd efgh ijkl mnop", "abcd\u00a0efgh\u2003ijkl\tmnop\n", " abcdefghijklmnop"):
        found = clean(question, pasted)
        assert found.reveal() == "abcdefghijklmnop"
        assert question.warning(found.reveal()) == ""
    assert question.warning("MyNormalPassword!") != ""
    with pytest.raises(Refused, match="is empty"):
        clean(question, "\u00a0 ")


def test_a_password_with_blanks_is_kept_as_it_is_elsewhere():
    assert clean(recipe.read("smarthost").question("password"), " two  words \n").reveal() == " two  words "


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"host": "h.example", "login": "u"}, [("465", "implicit"), ("587", "starttls")]),
        ({"host": "h.example:2525", "login": "u"}, [("2525", "starttls")]),
        ({"host": "h.example:465"}, [("465", "implicit")]),
        ({"host": "h.example"}, [("25", "opportunistic")]),
        ({"host": "h.example", "port": "26", "tls": "none"}, [("26", "none")]),
        ({"host": "h.example", "port": "26", "login": "u", "tls": "implicit"}, [("26", "implicit")]),
    ],
)
def test_ports_and_tls_match(given, expected):
    from dma_setup import plan as plans
    from dma_setup import relay

    found = recipe.read("smarthost")
    values = plans.context(found, home_place("/home/a"), FACTS, {"tls": "auto", **given}, None, {})
    assert [(one.port, one.tls) for one in relay.candidates(found, values, None)] == expected


@pytest.mark.parametrize(
    ("answer", "now", "then"),
    [(None, "", False), (True, "", True), ("no", "REWRITEFROM\n", False), (None, "REWRITEFROM\n", True)],
)
def test_every_message_carries_the_sender_only_when_somebody_says_so(tmp_path, answer, now, then):
    conf = tmp_path / ".config/dma/dma.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text(now + "# mine\n")
    conf.chmod(0o600)
    given = {**SMARTHOST, "sender": "alice@example.org", **({} if answer is None else {"rewrite_from": answer})}
    made = plan("smarthost", given, home_place(tmp_path), Machine())
    assert ("REWRITEFROM" in made.config.values) == then
    assert made.config.problems == []


@pytest.mark.parametrize("tls", ["none", "opportunistic"])
def test_a_login_is_never_sent_without_tls(tmp_path, tls):
    with pytest.raises(SetupError, match="password is never sent over a connection that may not be encrypted"):
        plan("smarthost", {**SMARTHOST, "tls": tls}, home_place(tmp_path), Machine())


def test_resources_are_found_in_a_wheel_and_in_a_checkout(tmp_path, monkeypatch):
    assert pathlib.Path(resources.templates(), "launcher.j2").exists()
    package = tmp_path / "dma_setup"
    (package / "_data/recipes").mkdir(parents=True)
    (package / "_data/recipes/only.yml").write_text("")
    monkeypatch.setattr(resources, "_HERE", str(package))
    assert resources.recipe_names() == ["only"]


def test_gmail_needs_no_more_than_two_answers_and_a_place_for_the_password():
    found = recipe.read("gmail")
    assert [question.id for question in found.questions if question.asked] == ["address", "app_password", "root_mail"]
    assert set(GMAIL) == {"address", "app_password", "keyring"}
