"""The password of the present relay alone: set, check, remove; nothing else of the configuration is touched.

A new password is tried at the relay before it is stored, stored by journaled changes (so `undo` knows the old one), and
read back by the runtime's own reader. Then the owner of the queue is told, so that held mail leaves at once.
"""

from __future__ import annotations

import os

from dma_runtime import authconf, keyrings
from dma_runtime.secret import Secret
from dma_runtime.system.ownership import ring
from dma_runtime.system.spool import Spool
from dma_setup import apply, plan, reader, verify
from dma_setup import present as presents
from dma_setup.apply import Applied
from dma_setup.changes import Change
from dma_setup.changes.path import HIDE_ALL, messages
from dma_setup.changes.secret import SecretChange
from dma_setup.errors import SetupError
from dma_setup.place import Place
from dma_setup.present import Present
from dma_setup.relay import Relay
from dma_setup.secret import TYPED, SecretAnswer
from dma_setup.stores import MACHINE, NAMES, Stores
from dma_setup.system import System
from dma_setup.verbs import login, secret, service, settings
from dma_setup.verbs.secret import AS_REFERENCE, IN_FILE, file_path
from dma_setup.view import View


def signed_on(present: Present) -> Relay:
    """The relay one signs in at. Raises SetupError when there is none."""
    if present.relay is None:
        raise SetupError("there is no relay, so there is no password: nothing leaves this machine")
    if present.login is None:
        raise SetupError(f"{present.relay.host} is used without a login; there is no password")
    return present.relay


def change(place: Place, system: System, present: Present, new: Secret, keyring: str) -> Applied:
    """Store `new` where the password is, or in `keyring` when that is given."""
    relay = signed_on(present)
    target = keyring or present.keyring
    if target == AS_REFERENCE or not target:
        where = repr(present.login.reference) if present.login is not None else "auth.conf"
        raise SetupError(f"the password comes from {where}; change it there, or say --keyring file or another one")
    view = View(place, system, {"keyring_now": present.keyring}, {}, SecretAnswer(TYPED, "", new), {"keyring": target})
    for made in secret.plan({"keyring": target, "service": f"dma:{relay.host}", "user": relay.login}, view):
        view.add(made)
    if target == MACHINE and place.is_live and any(change.subject.endswith(".conf") for change in view.changes):
        view.add(service.reload())
    for made in login.plan({"path": place.auth_conf, "host": relay.host, "user": relay.login}, view):
        view.add(made)
    named = {"KEYRING": target if target in NAMES else ""}
    if target != present.keyring:
        for made in settings.plan({"path": place.dma_conf, "keys": named, "says": "where the password is kept"}, view):
            view.add(made)
    made_plan = plan.finish(view)
    prove = (lambda: verify.read_back(place, system, made_plan.config, relay, new)) if place.is_live else None
    return apply.journaled(made_plan, place, "secret set", system, prove)


def remove(place: Place, system: System, present: Present) -> Applied:
    """Take the stored password away; mail waits from then on."""
    relay = signed_on(present)
    view = View(place, system, {}, {}, None, {})
    view.add(_removal(place, view, present, relay))
    return apply.journaled(plan.finish(view), place, "secret remove", system)


def _removal(place: Place, view: View, present: Present, relay: Relay) -> Change:
    if present.keyring == IN_FILE:
        return view.path_change(file_path(place, relay.host, relay.login), None, f"password for {relay.login}", hides=HIDE_ALL)
    if present.keyring not in NAMES:
        raise SetupError("the password is not kept by dma-setup; take it away where it is")
    service = keyrings.service(relay.host)
    before = view.stored(present.keyring, service, relay.login)
    kept_as = f"dma-setup:before:{relay.host}:{os.urandom(4).hex()}" if before is not None else ""
    says = f"password for {relay.login}"
    return SecretChange(present.keyring, service, relay.login, before, None, f"{present.keyring} {service}", says, kept_as=kept_as)


def check(present: Present, place: Place, system: System) -> Secret:
    """The password as delivery reads it (below --root: as it will). Raises SetupError with its hint."""
    signed_on(present)
    found = present.login
    assert found is not None
    if found.reference.kind == authconf.FILE and not place.is_live:
        found.reference.value = Secret(place.at(found.reference.value.reveal(), follow=True))
    return reader.read(place, system, present.config, found)


def stored(place: Place, system: System, relay: Relay, keyring: str) -> tuple[Secret | None, str]:
    """The password kept already for (relay, login), wherever auth.conf leads, else in `keyring`; or None and why."""
    nothing = f"no password for {relay.login} at {relay.host} is stored here"
    try:
        found = presents.read(place, system)
        login_now = found.login
        if login_now is not None and (login_now.user, login_now.host) == (relay.login, relay.host):
            return check(found, place, system), ""
    except SetupError as problem:
        nothing = f"{nothing} ({problem.text})"
    if keyring in NAMES:
        try:
            entry = Stores(system).get(keyring, keyrings.service(relay.host), relay.login)
        except SetupError as problem:
            return None, f"{nothing} ({problem.text})"
        return entry, "" if entry is not None else nothing
    return None, nothing


def tell_owner(place: Place) -> bool:
    """Let the owner of the queue read the password again; where mail waits and nobody owns it, somebody is started."""
    if not place.is_live:
        return False
    if place.is_user:
        if ring(Spool(place.spool), b'{"do":"reload"}\n'):
            return True
        if not messages(System(), place.spool):
            return False
    # The machine's daemon reads a password that was refused anew at the next attempt; nobody else opens its spool.
    environment = {name: value for name, value in os.environ.items() if name != "DMA_CONF"} | place.environment
    return System().run([place.launcher, "-q"], environment=environment).status == 0
