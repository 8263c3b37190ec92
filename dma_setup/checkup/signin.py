"""The password as delivery reads it, and the relay as delivery meets it: sign-in, TLS, the life of its certificate."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Iterator

from dma_runtime import authconf, keyrings
from dma_runtime.secret import Secret
from dma_runtime.system import credentials
from dma_setup import password, verify
from dma_setup import recipe as recipes
from dma_setup.checkup.finding import FAIL, OK, WARN, Diagnosis, Patient
from dma_setup.errors import SetupError
from dma_setup.relay import IMPLICIT, NONE, Relay
from dma_setup.stores import Stores
from dma_setup.verbs import service

SECONDS = 10.0
SOON = 14  # days


def check(patient: Patient) -> Iterator[Diagnosis]:
    """Reading the password and signing in with it are one check: the second needs the first."""
    relay = patient.present.relay
    if relay is None:
        return
    found, diagnosis = _password(patient, relay)
    if diagnosis is not None:
        yield diagnosis
    if patient.online and (found is not None or patient.login is None):
        yield _sign_in(patient, relay, found)


def _password(patient: Patient, relay: Relay) -> tuple[Secret | None, Diagnosis | None]:
    login = patient.login
    if login is None:
        if relay.port not in ("465", "587"):
            return None, None
        path = patient.config.AUTHPATH or patient.place.auth_conf
        text = f"there is no login for {relay.host}, though port {relay.port} is for those who sign in"
        return None, Diagnosis("password", WARN, text, f"{patient.place.shown(path)} has no line for it", patient.edit_of(path))
    try:
        found = password.check(patient.present, patient.place, patient.system)
    except SetupError as problem:
        evidence = " ".join(line for line in problem.details if line)
        text = f"the password of {login.user} cannot be read: {problem.text}"
        return None, Diagnosis("password", FAIL, text, evidence, patient.setup("secret set"))
    return found, Diagnosis("password", OK, f"the password of {login.user} can be read ({login.reference!r})")


def _sign_in(patient: Patient, relay: Relay, secret: Secret | None) -> Diagnosis:
    tried = verify.sign_in(patient.config, relay, secret)
    outcome = tried.refusal
    if outcome is None:
        who = f"signed in at {relay.host}:{relay.port} as {relay.login}" if relay.login else f"{relay.host}:{relay.port} answers"
        return Diagnosis("sign-in", OK, who + (f", {tried.tls}" if tried.tls else ""))
    recipe = patient.present.recipe or recipes.read("smarthost")
    meaning = recipe.meaning(outcome.code, outcome.status, outcome.text) if outcome.code else None
    text = meaning.says if meaning is not None else f"{relay.host}:{relay.port} cannot be used"
    command = patient.setup("secret set") if outcome.stage == "AUTH" and outcome.code >= 500 else patient.setup("test")
    return Diagnosis("sign-in", FAIL, text, verify.words(outcome) or outcome.hint, command)


def certificate(patient: Patient) -> Iterator[Diagnosis]:
    """How long the relay's certificate still lives, where it is verified by name."""
    relay = patient.present.relay
    if not patient.online or relay is None or relay.tls == NONE or relay.fingerprint:
        return
    try:
        days = (_expires(relay) - patient.now) / 86400
    except ssl.SSLCertVerificationError as error:
        severity = FAIL if relay.login else WARN
        text = f"the certificate of {relay.host} is not valid: {error.verify_message}"
        yield Diagnosis("certificate", severity, text, "", f"openssl s_client -connect {relay.host}:{relay.port}")
        return
    except (OSError, ssl.SSLError, smtplib.SMTPException, ValueError):
        return  # that the relay cannot be reached is what the sign-in says
    if days < SOON:
        text = f"the certificate of {relay.host} ends in {max(0, int(days))} days"
        command = f"openssl s_client -connect {relay.host}:{relay.port}    # its administrator has to renew it"
        yield Diagnosis("certificate", WARN, text, "", command)
    else:
        yield Diagnosis("certificate", OK, f"the certificate of {relay.host} is good for {int(days)} days")


def _expires(relay: Relay) -> float:
    """When it ends, wall clock seconds. Raises OSError, ssl.SSLError, SMTPException."""
    context = ssl.create_default_context()
    if relay.tls == IMPLICIT:
        with (
            socket.create_connection((relay.host, int(relay.port)), SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=relay.host) as secured,
        ):
            shown = secured.getpeercert()
    else:
        with smtplib.SMTP(relay.host, int(relay.port), local_hostname="localhost", timeout=SECONDS) as session:
            session.starttls(context=context)
            assert isinstance(session.sock, ssl.SSLSocket)
            shown = session.sock.getpeercert()
    return ssl.cert_time_to_seconds(str((shown or {})["notAfter"]))


def other_credentials(patient: Patient) -> Iterator[Diagnosis]:
    """A credential that cannot be decrypted keeps the secret reader from starting, whichever password is asked for."""
    login = patient.login
    if patient.place.is_user or not patient.place.is_live or credentials.Store().foreign_machine():
        return
    mine = keyrings.credential(login.host, login.user) if login is not None else ""
    for name in service.credentials(patient.system.listing(service.LINES)):
        if name != mine and (reason := Stores(patient.system).unreadable(name)):
            yield Diagnosis(
                "credentials",
                FAIL,
                f"the credential {name} cannot be read, and keeps every other password from being read",
                reason,
                patient.setup("secret set"),
            )


def machine_key(patient: Patient) -> Iterator[Diagnosis]:
    """systemd-creds deletes its key, and every password with it, when the machine-id is another one."""
    login = patient.login
    uses = login is not None and login.reference.kind == authconf.KEYRING and patient.config.KEYRING == "systemd-creds"
    if uses and patient.place.is_live and credentials.Store().foreign_machine():
        yield Diagnosis(
            "machine-key",
            FAIL,
            "the key that protects the password was made for another machine-id (a copied machine?)",
            credentials.HOST_KEY,
            f"sudo rm {credentials.HOST_KEY} && {patient.setup('secret set')}    # or put the old {credentials.MACHINE_ID} back",
        )
