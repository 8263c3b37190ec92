"""The seven phases: look, ask, try, show, apply, prove, note. Guided, unattended and `--check` are the same run.

Nothing is written before apply, and Ctrl-C before it changes nothing. A relay that refuses the sign-in is translated by
the recipe and only the question it names is asked again, three attempts in all.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dma_runtime import __version__, config
from dma_runtime.outcome import Outcome
from dma_setup import apply as applying
from dma_setup import itself, password, undo, verify, yamlfile
from dma_setup import plan as plans
from dma_setup import prove as proving
from dma_setup import relay as relays
from dma_setup.answers import Answers, Given, incomplete
from dma_setup.ask import Driver
from dma_setup.errors import DONE, FAILED, WOULD_CHANGE, FileProblem, SetupError, Stopped
from dma_setup.facts import host, keyrings, mailers, network, provider
from dma_setup.facts.look import Found, look
from dma_setup.place import Place
from dma_setup.plan import Plan
from dma_setup.prove import Proof
from dma_setup.recipe import Recipe
from dma_setup.relay import Relay
from dma_setup.report import Report
from dma_setup.secret import KEYRING
from dma_setup.system import System
from dma_setup.verbs import launcher, saved
from dma_setup.view import View

ATTEMPTS = 3


@dataclass(frozen=True)
class Options:
    """`words`: the command after `dma-setup` that does the same again."""

    check: bool
    diff: bool
    verify: bool
    test: bool
    words: str


class Wizard:
    def __init__(self, recipe: Recipe, place: Place, system: System, driver: Driver, report: Report, options: Options) -> None:
        self.recipe = recipe
        self.place = place
        self.system = system
        self.driver = driver
        self.report = report
        self.options = options
        self.facts: dict[str, Any] = {}
        self.saved = _saved(place, recipe, system) if driver.guided else {}
        self.answers = Answers()
        self.relay: Relay | None = None
        self.more: Callable[[View], None] | None = None  # plans what no recipe knows (see `plan.make`)
        self.applied = False
        driver.has_stored = self.has_stored

    # ------------------------------------------------------------ the run

    def run(self) -> int:
        if self.driver.guided:
            self.report.line()
            self.report.line(f"dma-setup {__version__} · recipe: {self.recipe.name}")
            self.report.paragraph(f"{self.recipe.about} Nothing changes until you say yes.")
        self.look()
        self.answers = self.driver.collect(self.recipe, self.context)
        for warning in self.answers.warnings if not self.driver.guided else []:
            self.report.warn(warning)
        self.load_stored_secret()
        self.look_again()
        plan = self.plan(self.candidates()[:1])
        if self.options.verify and not self.options.check and (plan.changes or self.driver.guided):
            plan = self.try_relay()
        self.show(plan)
        self.report.document["result"] = {"changes": 0, "journal": "", "warnings": [], "old_secrets": []}
        if self.options.check:
            return WOULD_CHANGE if plan.changes else DONE
        if plan.changes:
            self.apply(plan)
        if self.place.is_live:
            launcher.refresh(self.place, self.system)
        proof = self.prove() if self.options.test and (plan.changes or self.driver.guided) else None
        self.note(plan, proof)
        return DONE if proof is None or proof.reply else FAILED

    def context(self, answers: Answers) -> dict[str, Any]:
        """What recipe strings may name while questions are asked."""
        values = plans.context(self.recipe, self.place, self.facts, answers.values, self.relay, self.saved)
        values["relay_login"] = relays.login(self.recipe, values)
        values["guided"] = self.driver.guided
        values["secret_kind"] = answers.secret.kind if answers.secret is not None else ""
        return values

    # ------------------------------------------------------------ look

    def look(self) -> None:
        if self.driver.guided:
            self.report.title("Looking around")
        self.facts.update(keyrings.now(self.place, self.system).values)
        probes: dict[str, Callable[[], Found]] = {"this machine": lambda: host.probe(self.place, self.system)}
        if self.driver.guided:
            probes["mailers"] = lambda: mailers.probe(self.place, self.system)
            fixed = self._fixed_relay()
            if fixed and self.options.verify:
                probes["network"] = lambda: network.probe(fixed)
        if self.recipe.relay is not None and self.driver.needs("keyring") and not self.facts["keyring_now"]:
            probes["keyrings"] = lambda: keyrings.probe(self.place, self.system)
        found = look(probes)
        self.facts.update(found.values)
        self.report.document["facts"] = self.facts
        if self.driver.guided:
            for finding in found.findings:
                self.report.finding(finding)
            if waiting := self.facts.get("mailer_waiting"):
                count = f"{waiting} message{'s' if waiting != 1 else ''}"
                raise SetupError(
                    f"{self.facts['mailer']} still holds {count}; nothing was changed",
                    details=[f"  Let it send them first: {self.facts['mailer_flush']}"],
                )
            if fixed and self.options.verify and self.facts.get("open_ports") == []:
                name = self.recipe.provider.name or self.recipe.name
                ports = [relay.port for relay in fixed]
                raise SetupError(
                    f"{name} cannot be reached from here; nothing was changed",
                    details=unreachable(self.place, ports, self.options.words, unresolved=bool(self.facts.get("unresolved"))),
                )

    def look_again(self) -> None:
        """What can be found out only with the answers: whose address it is; whether an earlier run was cut off."""
        address = relays.login(self.recipe, self.context(self.answers))
        if self.driver.guided and self.options.verify and "@" in address:
            for finding in look({"provider": lambda: provider.probe(self.recipe.provider, address)}).findings:
                self.report.finding(finding)
        if any(past.was_cut_off for past in undo.find(self.place, self.system)[:1]):
            self.report.warn("an earlier run was cut off; dma-setup undo takes back what it left, together with what follows now")

    def _fixed_relay(self) -> list[Relay]:
        """The relay with its ports when no answer is needed to know it."""
        relay = self.recipe.relay
        if relay is None or any("{" in text for text in (relay.host, *relay.ports)):
            return []
        values = {**self.context(Answers()), "host": ""}
        try:
            return relays.candidates(self.recipe, values, self.present())
        except SetupError:
            return []

    def present(self) -> config.Config | None:
        """dma.conf as it is now, None when there is none."""
        entry = self.system.look(self.place.at(self.place.dma_conf, follow=True))
        if entry is None:
            return None
        return config.parse(entry.content.decode("utf-8", "surrogateescape"), self.place.dma_conf)

    # ------------------------------------------------------------ ask

    def candidates(self) -> list[Relay]:
        found = relays.candidates(self.recipe, self.context(self.answers), self.present())
        ports = self.facts.get("open_ports")
        return [relay for relay in found if relay.port in ports] if ports else found

    def has_stored(self, answers: Answers) -> bool:
        """Whether auth.conf leads to a password for the relay and login of these answers."""
        self.answers = answers
        try:
            relay = next(iter(self.candidates()), None)
            return relay is not None and bool(relay.login) and password.stored(self.place, self.system, relay, "")[0] is not None
        except SetupError:
            return False

    def load_stored_secret(self) -> None:
        """`{keyring: true}`: the password stored already, wherever auth.conf says it is. Missing: as not answered."""
        answer = self.answers.secret
        if answer is None or answer.kind != KEYRING:
            return
        keyring = self.answers.values.get("keyring", "")
        found, why = password.stored(self.place, self.system, self.candidates()[0], keyring)
        if found is None:
            question = self.recipe.question(self.answers.secret_id)
            assert question is not None
            raise incomplete([question], [], Given(), f"{{keyring: true}}, but {why}")
        self.answers.secret = answer.found(found)

    # ------------------------------------------------------------ try

    def plan(self, candidates: list[Relay]) -> Plan:
        self.relay = candidates[0] if candidates else None
        return plans.make(self.recipe, self.place, self.system, self.facts, self.answers, self.relay, self.more)

    def try_relay(self) -> Plan:
        """Sign in with the planned configuration; the plan for the port that works. Raises SetupError when none does."""
        if self.recipe.relay is None:
            return self.plan([])
        who = self.recipe.provider.name or "the relay"
        self.report.title(f"Trying it with {who}, before writing anything")
        attempt = 1
        while True:
            plan: dict[str, Plan] = {}

            def once(relay: Relay, plan: dict[str, Plan] = plan) -> verify.Tried:
                plan[relay.port] = self.plan([relay])
                secret = self.answers.secret.secret if self.answers.secret is not None else None
                return verify.sign_in(plan[relay.port].config, relay, secret)

            tried = verify.first_that_answers(self.candidates(), once)
            final = tried[-1]
            if final.refusal is None:
                for earlier in tried[:-1]:
                    self.report.warn(f"port {earlier.relay.port} does not answer; using {final.relay.port}")
                self.report.ok(f"connected to {final.relay.host}:{final.relay.port}" + (f", {final.tls}" if final.tls else ""))
                if final.relay.login:
                    self.report.ok(f"signed in as {final.relay.login}")
                self.relay = final.relay
                return plan[final.relay.port]
            again = self.refused(final, final.refusal, who)
            attempt += 1
            question = self.recipe.question(again) if again else None
            if question is None or attempt > ATTEMPTS:
                raise SetupError("signing in did not work; nothing was changed")
            self.report.line()
            if not self.driver.again(self.recipe, question, self.answers, self.context, f"attempt {attempt} of {ATTEMPTS}"):
                raise SetupError("signing in did not work; nothing was changed")

    def refused(self, tried: verify.Tried, outcome: Outcome, who: str) -> str:
        """Say what the relay said and what it means; returns the id of the question to ask again, "" for none."""
        if outcome.stage != "connect" or outcome.code:
            self.report.ok(f"connected to {tried.relay.host}:{tried.relay.port}")
        words = verify.words(outcome)
        meaning = self.recipe.meaning(outcome.code, outcome.status, outcome.text) if outcome.code else None
        if outcome.code and outcome.stage == "AUTH":
            self.report.fail(f"{who[0].upper()}{who[1:]} refused the sign-in: {words}")
        else:
            self.report.fail(words)
        if meaning is not None:
            self.report.advice([meaning.says, *meaning.advice])
            return meaning.again
        if tried.unreachable:
            ports = list(dict.fromkeys(relay.port for relay in self.candidates()))
            advice = unreachable(self.place, ports, self.options.words, unresolved=tried.unresolved)
            self.report.advice([line[2:] for line in advice])
            return self.recipe.host_question()
        if outcome.hint:
            self.report.advice([outcome.hint])
        if outcome.code >= 500 and outcome.stage == "AUTH" and self.recipe.relay is not None:
            return self.recipe.relay.password
        return ""

    # ------------------------------------------------------------ show, apply

    def show(self, plan: Plan) -> None:
        self.report.plan_document(plan)
        if self.driver.guided:
            self.report.line()
        self.report.plan(plan, diff=self.options.diff)

    def apply(self, plan: Plan) -> None:
        if self.driver.confirms:
            self.report.line()
            while (said := self.driver.confirm(plan)) == "diff":
                self.report.diff(plan)
                self.report.line()
            if said != "yes":
                raise Stopped
        if self.driver.guided:
            self.report.title("Applying")
        started = time.monotonic()
        applied = applying.journaled(plan, self.place, self.recipe.name, self.system, lambda: self.read_back(plan))
        self.applied = True
        if any(change.kind == "secret" or getattr(change, "hides", "") for change in applied.made):
            password.tell_owner(self.place)  # mail that was held for the old password leaves now
        count = f"{len(applied.made)} change{'s' if len(applied.made) != 1 else ''}"
        folder = self.place.shown(applied.journal.removeprefix(self.place.root))
        self.report.ok(f"{count} made in {time.monotonic() - started:.1f} s; the old files are in {folder}")
        for warning in applied.warnings:
            self.report.warn(warning)
        for path in applied.old_secrets:
            self.report.warn(f"an old file that holds a password is kept for undo; delete it with: rm {shlex.quote(path)}")
        self.report.document["result"] = {
            "changes": len(applied.made),
            "journal": applied.journal,
            "warnings": applied.warnings,
            "old_secrets": applied.old_secrets,
        }

    def read_back(self, plan: Plan) -> None:
        """The password as the runtime's own reader finds it; otherwise everything is taken back."""
        answer = self.answers.secret
        if self.place.is_live and self.relay is not None and self.relay.login and answer is not None and answer.secret is not None:
            verify.read_back(self.place, self.system, plan.config, self.relay, answer.secret)

    # ------------------------------------------------------------ prove, note

    def prove(self) -> Proof | None:
        """A message through the installed link, followed to the relay's last word."""
        if not self.place.is_live:
            return None
        recipient = self.answers.values.get("root_mail", "") and "root"
        if not recipient:
            recipient = self.answers.values.get("sender", "") or self.place.login
        self.report.title("Proving it")
        proof = proving.run(self.place, self.report, recipient, self.recipe.provider.name)
        code, status = verify.codes(proof.why)
        meaning = self.recipe.meaning(code, status, proof.why, of_a_message=True) if code else None
        if meaning is not None and not proof.reply:
            self.report.advice([meaning.says, *meaning.advice])
        return proof

    def note(self, plan: Plan, proof: Proof | None) -> None:
        if not plan.changes and not self.driver.guided:
            return
        name = self.facts.get("hostname", "this machine")
        self.report.line()
        if proof is not None and not proof.reply:
            what = (
                "the message waits in the queue and is tried again by itself"
                if proof.waits
                else "the relay did not take the message"
            )
            self.report.paragraph(f"Mail is set up, but {what}.")
        elif self.relay is not None:
            sender = self.answers.values.get("sender", "")
            self.report.line(f"Done. {name} sends mail{f' as {sender}' if sender else f' via {self.relay.host}'}.")
        elif plan.config.LOCALONLY:
            self.report.line(f"Done. {name} keeps its mail.")
        else:
            self.report.line(f"Done. {name} delivers mail itself.")
        if not self.driver.guided:
            return
        answers_file = self.place.typed(saved.path_for(self.place.config, self.recipe.name))
        self.report.line("  see the queue      mailq")
        self.report.line(f"  check again        {itself.command(self.place, 'doctor')}")
        self.report.line(f"  undo all of this   {itself.command(self.place, 'undo')}")
        self.report.line("  again, or on another machine, without questions:")
        self.report.line(f"    {itself.command(self.place, self.recipe.name)} --answers {answers_file}")
        if self.answers.secret_id:
            self.report.advice([f"({self.answers.secret_id}: {{keyring: true}} here; {{file: …}} or {{stdin: true}} elsewhere)"])


def unreachable(place: Place, ports: list[str], words: str, *, unresolved: bool) -> list[str]:
    """What to do when no server spoke. `words`: the command."""
    which = f"port {ports[0]}" if len(ports) == 1 else f"the ports {' and '.join(ports)}"
    if unresolved:
        first = ["  Is this machine online, and the name right? Resolvers: /etc/resolv.conf."]
    else:
        first = [f"  Is this machine online? Does a firewall block {which}?"]
    all_the_same = "  To set it up all the same, so that mail waits until the way is free:"
    return [*first, all_the_same, f"    {itself.name(by_root=not place.is_user)} {words} --no-verify --no-test"]


def _saved(place: Place, recipe: Recipe, system: System) -> dict[str, Any]:
    """The answers of the last run, {} when there are none or they cannot be read."""
    entry = system.look(place.at(saved.path_for(place.config, recipe.name), follow=True))
    if entry is None:
        return {}
    try:
        found = yamlfile.load(entry.content.decode("utf-8", "replace"), "").value
    except FileProblem:
        return {}
    return found if isinstance(found, dict) else {}
