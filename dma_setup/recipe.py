"""A recipe: plain data about one provider or pattern. `recipes/NAME.yml`; the schema is what this module reads.

    recipe: gmail                     the file's own name
    summary: one line for `dma-setup list`
    about: one sentence at the start of the wizard
    provider:                         optional
      name: Google                    as people call it
      domains: [gmail.com]            addresses it serves
      mx: ["*.google.com"]            mail exchangers that show it serves others too
      hosts: [smtp.googlemail.com]    other names of its relay, by which it is recognised
    relay:                            where mail goes; absent: nothing leaves
      host: "{{ … }}"                 all of these may hold {{ answer }}
      ports: [465, 587]               tried in this order
      tls: ""                         implicit, starttls, opportunistic, none; "" = by port
      login: "{{ address }}"          "" = no login
      password: app_password          the id of the secret question
      fingerprint: ""
    limits: {messages_per_day: 500}   for people
    settings: {RATE: 500/d}           keys of dma.conf, added to those that the pattern sets
    pattern: relay                    recipes/patterns/NAME.yml adds its questions, steps and refusals behind these
    questions: [ … ]                  see `question`
    steps: [ {verb: arguments, when: …} ]
    refusals:                         first match wins: all of code, status, text (a regular expression) that are given
      - {status: 5.7.9, says: "That is …", advice: [ … ], again: app_password}
      - {text: limit exceeded, says: "The limit …", quota: true}

`quota: true` marks what means "enough for now": it goes into dma.conf as QUOTA, and mail refused so waits there instead of
going back. Such a text is plain words, several with | between them: the runtime knows no regular expressions.

In a pattern `again: password` means the question that the relay's `password` names; nothing where there is none.

Substitution and `when:` only; what needs logic needs a verb. Errors name file and line.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from dma_runtime import config
from dma_setup import fields, render, resources, yamlfile
from dma_setup.errors import FileProblem, SetupError
from dma_setup.question import TYPES, Default, Question, Shape
from dma_setup.yamlfile import Data

TOP_KEYS = (
    "recipe",
    "summary",
    "about",
    "provider",
    "relay",
    "limits",
    "settings",
    "pattern",
    "questions",
    "steps",
    "refusals",
)
PROVIDER_KEYS = ("name", "domains", "mx", "hosts")
RELAY_KEYS = ("host", "ports", "tls", "login", "password", "fingerprint")
TLS = ("", "implicit", "starttls", "opportunistic", "none")
REFUSAL_KEYS = ("code", "status", "text", "says", "advice", "again", "quota")
VERBS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # verb: (arguments it needs, others it takes)
    "account": (("name", "home"), ("comment",)),
    "alias": (("path", "name", "to"), ()),
    "directory": (("path", "mode"), ("says", "owner")),
    "launcher": ((), ()),
    "library": ((), ()),
    "link": (("name",), ("says",)),
    "login": (("path", "host", "user"), ()),
    "mailer": ((), ()),
    "oldqueue": (("path", "owner"), ()),
    "saved": ((), ()),
    "secret": (("keyring", "service", "user"), ()),
    "service": ((), ("resident",)),
    "settings": (("path", "keys"), ("mode", "says")),
    "stop": (("says",), ("advice",)),
    "wake": ((), ()),
}


@dataclass(frozen=True)
class Provider:
    name: str = ""
    domains: tuple[str, ...] = ()
    mx: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    def serves(self, domain: str) -> bool:
        """Whether the domain is one of its own."""
        return domain.lower().rstrip(".") in self.domains

    def receives(self, host: str) -> bool:
        """Whether a mail exchanger is one of its own."""
        return any(fnmatchcase(host.lower().rstrip("."), pattern) for pattern in self.mx)


@dataclass(frozen=True)
class RelayTemplate:
    host: str
    ports: tuple[str, ...] = ()
    tls: str = ""
    login: str = ""
    password: str = ""
    fingerprint: str = ""


@dataclass(frozen=True)
class Refusal:
    """What a server's answer means: `again` is the question to ask once more, "" when none helps."""

    says: str
    advice: tuple[str, ...] = ()
    again: str = ""
    code: int = 0
    status: str = ""
    text: str = ""
    quota: bool = False

    @property
    def marks(self) -> str:
        """What QUOTA of dma.conf says for it: words, or a status."""
        return (self.text or self.status) if self.quota else ""

    def fits(self, code: int, status: str, text: str) -> bool:
        return (
            (not self.code or self.code == code)
            and (not self.status or self.status == status)
            and (not self.text or re.search(self.text, text, re.IGNORECASE) is not None)
        )


@dataclass(frozen=True)
class Step:
    verb: str
    arguments: dict[str, Any]
    when: str = ""
    where: str = ""  # file:line, for errors


@dataclass(frozen=True)
class Recipe:
    name: str
    summary: str
    about: str
    provider: Provider = Provider()
    relay: RelayTemplate | None = None
    limits: dict[str, Any] = field(default_factory=dict)
    questions: tuple[Question, ...] = ()
    steps: tuple[Step, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    def question(self, wanted: str) -> Question | None:
        return next((question for question in self.questions if question.id == wanted), None)

    def login_question(self) -> Question | None:
        """The question whose answer the login is made of, None when there is none."""
        return self._named_in(self.relay.login if self.relay is not None else "")

    def host_question(self) -> str:
        """The id of the question whose answer the relay's host is made of, "" when there is none."""
        found = self._named_in(self.relay.host if self.relay is not None else "")
        return found.id if found is not None else ""

    def _named_in(self, text: str) -> Question | None:
        words = set(re.findall(r"\w+", text)) if "{{" in text else set()
        return next((question for question in self.questions if question.id in words and not question.is_secret), None)

    def meaning(self, code: int, status: str, text: str, *, of_a_message: bool = False) -> Refusal | None:
        """`of_a_message`: the sign-in had worked, so what would ask for another password (`again`) is not meant: 5.7.9 to a
        message is a matter of policy.
        """
        fitting = (one for one in self.refusals if one.fits(code, status, text))
        return next((one for one in fitting if not (of_a_message and one.again)), None)


def read(name: str) -> Recipe:
    """The recipe NAME. Raises UsageProblem (no such recipe) or FileProblem (file:line, what is wrong)."""
    return load(resources.recipe(name))


def every() -> tuple[list[Recipe], list[SetupError]]:
    """All recipes that can be used, one's own first, and what is wrong with those that cannot: a faulty one stops no other."""
    found: list[Recipe] = []
    problems: list[SetupError] = resources.distrusted()
    for name in sorted(resources.recipe_names(), key=lambda name: not resources.is_own(name)):
        try:
            found.append(read(name))
        except SetupError as problem:
            if problem.text not in (known.text for known in problems):
                problems.append(problem)
    return found, problems


def by_host(host: str, known: list[Recipe] | None = None) -> Recipe | None:
    """The recipe whose relay is `host`, whatever its answers; None when there is none (or any host will do)."""
    name = host.lower().rstrip(".")
    for found in every()[0] if known is None else known:
        if found.relay is None:
            continue
        pattern = re.sub(r"\{\{.*?\}\}", "*", found.relay.host, flags=re.DOTALL)
        patterns = [pattern] if pattern.strip("*.") else []
        if any(fnmatchcase(name, one) for one in (*patterns, *found.provider.hosts)):
            return found
    return None


def load(path: str) -> Recipe:
    """The recipe in the file `path`."""
    data = _open(path)
    top = fields.mapping(data, TOP_KEYS)
    fields.templates(data, render.wrong)
    name = fields.text(data, "recipe", required=True)
    if name != os.path.basename(path).removesuffix(".yml"):
        raise data.problem(f"recipe says {name}, but the file is {os.path.basename(path)}", "recipe")
    questions, steps, refusals = _questions(data), _steps(data), _refusals(data)
    relay = _relay(data)
    if "pattern" in top:
        shared = _shared(resources.pattern(fields.text(data, "pattern", required=True)))
        fields.mapping(shared, ("questions", "steps", "refusals"))
        fields.templates(shared, render.wrong)
        settings = _settings(data, refusals)
        questions, steps = questions + _questions(shared), steps + [_with(step, settings) for step in _steps(shared)]
        secret = relay.password if relay is not None else ""
        refusals += [replace(one, again=secret) if one.again == "password" else one for one in _refusals(shared)]
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise data.problem(f"two questions are called {question.id}", "questions")
        seen.add(question.id)
    for refusal in refusals:
        if refusal.again and refusal.again not in seen:
            raise data.problem(f"again: there is no question {refusal.again}", "refusals")
    if relay is not None and relay.password and relay.password not in seen:
        raise data.problem(f"there is no question {relay.password}", "relay", "password")
    return Recipe(
        name=name,
        summary=fields.text(data, "summary", required=True),
        about=fields.text(data, "about", required=True),
        provider=_provider(data),
        relay=relay,
        limits=_limits(data),
        questions=tuple(questions),
        steps=tuple(steps),
        refusals=tuple(refusals),
    )


def _shared(path: str) -> Data:
    """A pattern, read once as long as it stays as it is: nearly every recipe has the same."""
    try:
        found = os.stat(path)
    except OSError:
        return _open(path)  # says why
    return _read_once(path, (found.st_ino, found.st_size, found.st_mtime_ns))


@lru_cache(maxsize=4)
def _read_once(path: str, _as_it_is: tuple[int, int, int]) -> Data:
    return _open(path)


def _open(path: str) -> Data:
    try:
        with open(path, encoding="utf-8") as file:
            return yamlfile.load(file.read(), path)
    except (OSError, UnicodeDecodeError) as error:
        raise FileProblem(path, 0, f"cannot be read: {error}") from None


# ---------------------------------------------------------------- the schema


def _provider(data: Data) -> Provider:
    if "provider" not in data.value:
        return Provider()
    fields.mapping(data, PROVIDER_KEYS, "provider")
    lists = {name: fields.texts(data, "provider", name) for name in PROVIDER_KEYS if name != "name"}
    return Provider(fields.text(data, "provider", "name"), **lists)


def _relay(data: Data) -> RelayTemplate | None:
    if "relay" not in data.value:
        return None
    fields.mapping(data, RELAY_KEYS, "relay")
    for at, port in enumerate(fields.texts(data, "relay", "ports")):
        if "{" not in port and any(not word.isdigit() or not 0 < int(word) < 65536 for word in port.split()):
            raise data.problem(f"{port} is not a port number", "relay", "ports", at)
    tls = fields.text(data, "relay", "tls")
    if "{" not in tls and tls not in TLS:
        raise data.problem(f"tls must be one of {', '.join(TLS[1:])}", "relay", "tls")
    return RelayTemplate(
        host=fields.text(data, "relay", "host", required=True),
        ports=fields.texts(data, "relay", "ports"),
        tls=tls,
        login=fields.text(data, "relay", "login"),
        password=fields.text(data, "relay", "password"),
        fingerprint=fields.text(data, "relay", "fingerprint"),
    )


def _limits(data: Data) -> dict[str, Any]:
    found = data.value.get("limits")
    return {} if found is None else fields.scalars(data, tuple(found) if isinstance(found, dict) else (), "limits")


def _settings(data: Data, refusals: list[Refusal]) -> dict[str, Any]:
    """The keys of dma.conf that a recipe adds to those of its pattern, the texts it marks as quota among them."""
    found: dict[str, Any] = {}
    if "settings" in data.value:
        found.update(fields.scalars(data, tuple(config.KEYS), "settings"))
    if marks := [refusal.marks for refusal in refusals if refusal.marks]:
        found.setdefault("QUOTA", " | ".join(marks))
    return found


def with_settings(recipe: Recipe, settings: dict[str, Any]) -> Recipe:
    """The recipe with further keys of dma.conf, which win over its own."""
    return replace(recipe, steps=tuple(_with(step, settings) for step in recipe.steps))


def _with(step: Step, settings: dict[str, Any]) -> Step:
    """The step of a pattern that writes dma.conf, with the recipe's own keys as well."""
    if step.verb != "settings":
        return step
    works = {name: value for name, value in settings.items() if not config.KEYS[name].later}  # the others only bring warnings
    return replace(step, arguments={**step.arguments, "keys": {**step.arguments.get("keys", {}), **works}})


QUESTION_KEYS = ("id", "type", "ask", "help", "choices", "default", "optional", "asked", "when", "strip", "shape", "derive")


def _questions(data: Data) -> list[Question]:
    found = []
    for at in range(fields.items(data, "questions")):
        here = ("questions", at)
        value = fields.mapping(data, QUESTION_KEYS, *here)
        kind = fields.text(data, *here, "type", required=True)
        if kind not in TYPES:
            raise data.problem(f"unknown type {kind}; known are {', '.join(TYPES)}", *here, "type")
        identifier = fields.text(data, *here, "id", required=True)
        if not re.fullmatch(r"[a-z][a-z0-9_]*", identifier):
            raise data.problem("id must be lower-case letters, digits and _", *here, "id")
        choices, offered = _choices(data, *here) if "choices" in value else ({}, {})
        if (kind == "choice") != bool(choices):
            raise data.problem("type choice and choices belong together", *here)
        shape = None
        if "shape" in value:
            fields.mapping(data, ("pattern", "says"), *here, "shape")
            shape = Shape(fields.pattern(data, *here, "shape", "pattern"), fields.text(data, *here, "shape", "says", required=True))
        strip = fields.text(data, *here, "strip")
        if strip not in ("", "blanks"):
            raise data.problem("strip can only be blanks", *here, "strip")
        found.append(
            Question(
                id=identifier,
                type=kind,
                ask=fields.text(data, *here, "ask", required=True),
                help=fields.text(data, *here, "help"),
                choices=choices,
                offered=offered,
                defaults=_defaults(data, *here),
                optional=fields.flag(data, False, *here, "optional"),
                asked=fields.flag(data, True, *here, "asked"),
                when=fields.text(data, *here, "when"),
                strip=strip,
                shape=shape,
                derive=fields.text(data, *here, "derive"),
            )
        )
    return found


def _choices(data: Data, *here: object) -> tuple[dict[str, str], dict[str, str]]:
    """(value -> what it means, value -> when it is offered): `VALUE: text` or `VALUE: {says: text, when: …}`."""
    says: dict[str, str] = {}
    offered: dict[str, str] = {}
    found = fields.inside(data, here)["choices"]
    for name in fields.mapping(data, tuple(found) if isinstance(found, dict) else (), *here, "choices"):
        if isinstance(found[name], dict):
            fields.mapping(data, ("says", "when"), *here, "choices", name)
            says[name] = fields.text(data, *here, "choices", name, "says", required=True)
            offered[name] = fields.text(data, *here, "choices", name, "when", required=True)
        else:
            says[name] = fields.text(data, *here, "choices", name, required=True)
    return says, offered


def _defaults(data: Data, *here: object) -> tuple[Default, ...]:
    listed = fields.inside(data, here).get("default")
    if listed is None:
        return ()
    if not isinstance(listed, list):
        return (Default(fields.text(data, *here, "default"), ""),)
    found = []
    for at in range(len(listed)):
        fields.mapping(data, ("value", "says"), *here, "default", at)
        value = fields.text(data, *here, "default", at, "value", required=True)
        found.append(Default(value, fields.text(data, *here, "default", at, "says")))
    return tuple(found)


def _steps(data: Data) -> list[Step]:
    found = []
    for at in range(fields.items(data, "steps")):
        value = fields.mapping(data, (*VERBS, "when"), "steps", at)
        verbs = [key for key in value if key in VERBS]
        if len(verbs) != 1:
            raise data.problem(f"a step has exactly one verb of {', '.join(VERBS)}", "steps", at)
        arguments = _arguments(data, at, verbs[0]) if value[verbs[0]] is not None else {}
        found.append(Step(verbs[0], arguments, fields.text(data, "steps", at, "when"), f"{data.path}:{data.at('steps', at)}"))
    return found


def _arguments(data: Data, at: int, verb: str) -> dict[str, Any]:
    here = ("steps", at, verb)
    needed, others = VERBS[verb]
    found = fields.mapping(data, (*needed, *others), *here)
    for name in needed:
        if name not in found:
            raise data.problem(f"{verb} needs {name}", *here)
    made: dict[str, Any] = {}
    for name in found:
        if name == "keys":
            made[name] = fields.scalars(data, tuple(config.KEYS), *here, name)
        elif name == "advice":
            made[name] = list(fields.texts(data, *here, name))
        elif name == "resident" and isinstance(found[name], bool):
            made[name] = found[name]
        else:
            made[name] = fields.text(data, *here, name)
    if "mode" in made and "{" not in made["mode"] and not re.fullmatch("0?[0-7]{3}", made["mode"]):
        raise data.problem('mode must be octal digits in quotes, such as "0644"', *here, "mode")
    return made


_PLAIN_WORDS = re.compile(r"[\w ,:;'/-]+(?:\|[\w ,:;'/-]+)*")


def _refusals(data: Data) -> list[Refusal]:
    found = []
    for at in range(fields.items(data, "refusals")):
        here = ("refusals", at)
        fields.mapping(data, REFUSAL_KEYS, *here)
        code = fields.text(data, *here, "code")
        if code and not re.fullmatch(r"[245][0-9][0-9]", code):
            raise data.problem("code must be three digits", *here, "code")
        status = fields.text(data, *here, "status")
        if status and not re.fullmatch(r"[245]\.[0-9]+\.[0-9]+", status):
            raise data.problem("status must look like 5.7.8", *here, "status")
        quota, text = fields.flag(data, False, *here, "quota"), fields.pattern(data, *here, "text")
        if quota and not (text or status):
            raise data.problem("quota: true needs a status or a text", *here)
        if quota and text and not _PLAIN_WORDS.fullmatch(text):
            raise data.problem("a text that marks a quota is plain words, several with | between", *here, "text")
        found.append(
            Refusal(
                says=fields.text(data, *here, "says", required=True),
                advice=fields.texts(data, *here, "advice"),
                again=fields.text(data, *here, "again"),
                code=int(code or 0),
                status=status,
                text=text,
                quota=quota,
            )
        )
    return found
