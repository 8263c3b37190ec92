"""`secret rotate`: the old password stays until the new one has signed in. Passwords encrypted by ansible-vault."""

import json
import os
import pathlib
import stat
import subprocess
import sys
import time

import pytest
from mail_server import MailServer
from provisioning import tree
from secret_service import end_all
from setup_home import PASSWORD, Home, relay

from dma_setup import vault
from dma_setup.question import Question, Refused
from dma_setup.secret import Sources
from dma_setup.system import System

NEW = "another horse"


@pytest.fixture
def server():
    with MailServer(tls="starttls", users={"alice": PASSWORD}) as server:
        yield server


@pytest.fixture
def home(tmp_path, server):
    home = Home(tmp_path / "home")
    done = home.run("smarthost", "--user", "--answers", home.answers(relay(server)), "--yes", "--no-test")
    assert done.returncode == 0, done.stderr
    yield home
    end_all(tmp_path / "home")


def kept(home):
    (path,) = (home.path / ".config/dma/secrets").iterdir()
    return path.read_text().rstrip("\n")


def test_a_new_password_that_signs_in_replaces_the_old_one(home, server):
    server.users["alice"] = NEW
    done = home.run("secret", "rotate", "--user", given=NEW + "\n")
    assert done.returncode == 0, done.stderr
    assert f"signed in at localhost:{server.port} as alice" in done.stdout
    assert kept(home) == NEW
    assert NEW not in done.stdout + done.stderr
    assert home.run("undo", "--user").returncode == 0
    assert kept(home) == PASSWORD


def test_undo_leaves_no_copy_of_the_old_password(home, server):
    """It is back where it was; the copy that undo needed was in the clear."""
    journals = home.path / ".local/state/dma-setup"

    def copies(secret):
        return [path.name for path in journals.rglob("*") if path.is_file() and secret in path.read_text()]

    server.users["alice"] = NEW
    done = home.run("secret", "rotate", "--user", given=NEW + "\n")
    assert done.returncode == 0, done.stderr
    assert copies(PASSWORD) == ["000.before"]
    assert home.run("undo", "--user").returncode == 0
    assert (copies(PASSWORD), kept(home)) == ([], PASSWORD)

    home.run("secret", "rotate", "--user", given=NEW + "\n")
    (path,) = (home.path / ".config/dma/secrets").iterdir()
    path.write_text("somebody's own\n")
    said = home.run("undo", "--user")
    assert said.returncode == 1
    assert "what was there before is kept in" in " ".join(said.stdout.split())
    assert copies(PASSWORD) == ["000.before"], "that was said"


def test_as_json_and_with_a_yes_out_of_habit(home, server):
    checked = json.loads(home.run("secret", "check", "--user", "--json").stdout)
    path = f"file:{home.path}/.config/dma/secrets/dma.localhost.alice"
    said = {"action": "check", "host": "localhost", "login": "alice", "reference": path, "keyring": "file", "signed_in": True}
    assert checked == {"format": 1, "secret": said, "result": {"status": 0}}
    server.users["alice"] = NEW
    done = home.run("secret", "set", "--user", "--json", "--yes", given=PASSWORD + "\n")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["secret"]["signed_in"] is False
    assert document["error"]["text"].startswith("signing in did not work: 535")
    done = home.run("secret", "set", "--user", "--json", "--yes", given=NEW + "\n")
    assert json.loads(done.stdout)["secret"]["signed_in"] is True
    assert NEW not in done.stdout + done.stderr
    assert home.run("secret", "remove", "--user", "--yes").returncode == 0
    gone = json.loads(home.run("secret", "check", "--user", "--json").stdout)
    assert "cannot be read" in gone["error"]["text"]


def test_a_new_password_that_does_not_sign_in_changes_nothing(home, server):
    before = tree(home.path)
    done = home.run("secret", "rotate", "--user", given=NEW + "\n")
    assert done.returncode == 1
    assert "signing in did not work: 535" in done.stderr
    assert tree(home.path) == before


def test_the_same_password_is_no_rotation(home, server):
    sign_ins = len(server.logins)
    done = home.run("secret", "rotate", "--user", given=PASSWORD + "\n")
    assert (done.returncode, done.stderr) == (1, "dma-setup: that is the password in use already; nothing was changed\n")
    assert len(server.logins) == sign_ins


def test_a_rotation_cannot_skip_the_signing_in(home):
    assert home.run("secret", "rotate", "--user", "--no-verify", given=NEW + "\n").returncode == 2


def test_held_mail_leaves_with_the_new_password(home, server):
    server.users["alice"] = NEW  # changed at the provider first: mail is held from now on
    environment = {**home.environment, "DMA_CONF": str(home.path / ".config/dma/dma.conf")}
    words = [str(home.path / ".local/bin/sendmail"), "-D", "bob@example.org"]
    sent = subprocess.run(words, input="Subject: held\n\nx\n", text=True, capture_output=True, env=environment, timeout=60)
    assert sent.returncode == 0, sent.stderr
    assert server.messages == []
    assert home.run("secret", "rotate", "--user", given=NEW + "\n").returncode == 0
    queue = [str(home.path / ".local/lib/dma/dma-queue"), "run"]
    subprocess.run(queue, capture_output=True, env=environment, timeout=60, check=False)
    (message,) = server.wait(1)
    assert message.login == "alice"


@pytest.mark.parametrize("how", ["secret set", "secret set, and nobody owns the queue", "the recipe again"])
def test_held_mail_leaves_by_itself(home, server, how):
    """Whoever stores the new password need not know of the queue: its owner is told."""
    server.users["alice"] = NEW
    environment = {**home.environment, "DMA_CONF": str(home.path / ".config/dma/dma.conf")}
    words = [str(home.path / ".local/bin/sendmail"), "bob@example.org"]
    sent = subprocess.run(words, input="Subject: held\n\nx\n", text=True, capture_output=True, env=environment, timeout=60)
    assert sent.returncode == 0, sent.stderr
    listing = [str(home.path / ".local/lib/dma/dma-queue"), "list", "--json"]
    deadline = time.monotonic() + 20
    while "535" not in (said := subprocess.run(listing, capture_output=True, text=True, env=environment, timeout=60).stdout):
        assert time.monotonic() < deadline, said
        time.sleep(0.1)
    if "nobody" in how:
        end_all(home.path)
    if how.startswith("secret set"):
        done = home.run("secret", "set", "--user", given=NEW + "\n")
    else:
        done = home.run("smarthost", "--user", "--answers", home.answers(relay(server)), "--yes", "--no-test", DMA_PW=NEW)
    assert done.returncode == 0, done.stderr
    (message,) = server.wait(1)
    assert message.login == "alice"


# ---------------------------------------------------------------- ansible-vault

QUESTION = Question("password", "secret", "Password")


def sources(**environ):
    return Sources(environ, "/", stdin_is_taken=False, system=System())


SEALED = "$ANSIBLE_VAULT;1.1;AES256\n3636\n3737\n"


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(vault, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(Refused, match=r"install dma\[ansible\]"):
        sources().read(QUESTION, SEALED)


@pytest.fixture
def ansible(tmp_path):
    pytest.importorskip("ansible.parsing.vault", reason="needs ansible-core: python tests/install_groups.py test")
    opener = tmp_path / "opener"
    opener.write_text("open sesame\n")
    opener.chmod(0o600)
    return opener


def seal(text, opener):
    from ansible.parsing.vault import VaultLib, VaultSecret

    return VaultLib([("default", VaultSecret(opener.read_bytes().strip()))]).encrypt(text).decode()


def test_a_vault_value_is_opened_by_ansible(ansible):
    found = sources(ANSIBLE_VAULT_PASSWORD_FILE=str(ansible)).read(QUESTION, seal(PASSWORD, ansible))
    assert (found.kind, found.secret.reveal()) == ("vault", PASSWORD)


def test_the_password_may_come_from_a_program(ansible, tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho open sesame\n")
    program.chmod(stat.S_IRWXU)
    assert sources(ANSIBLE_VAULT_PASSWORD_FILE=str(program)).read(QUESTION, seal("x", ansible)).secret.reveal() == "x"


def test_what_cannot_be_opened_says_why_and_shows_nothing(ansible, tmp_path):
    sealed = seal(PASSWORD, ansible)
    with pytest.raises(Refused, match="ANSIBLE_VAULT_PASSWORD_FILE does not say"):
        sources().read(QUESTION, sealed)
    wrong = tmp_path / "wrong"
    wrong.write_text("closed\n")
    for path in (wrong, tmp_path / "missing"):
        with pytest.raises(Refused, match="could not be opened") as refused:
            sources(ANSIBLE_VAULT_PASSWORD_FILE=str(path)).read(QUESTION, sealed)
        assert PASSWORD not in str(refused.value)


def test_vault_in_an_answers_file(home, server, ansible):
    sealed = "".join(f"  {line}\n" for line in seal(PASSWORD, ansible).splitlines())
    answers = home.answers(relay(server, password=None) + "password: !vault |\n" + sealed, "vault.yml")
    words = ("smarthost", "--user", "--answers", answers, "--check", "--json")
    path = os.pathsep.join(entry for entry in sys.path if pathlib.Path(entry, "ansible/release.py").exists())
    done = home.run(*words, ANSIBLE_VAULT_PASSWORD_FILE=str(ansible), PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["plan"]["changes"] == []


def test_other_tags_are_refused_as_before(home):
    done = home.run("gmail", "--user", "--answers", home.answers("address: !vault a@gmail.com\n", "x.yml"))
    assert done.returncode == 2
    assert "a value of type !vault is not understood" in done.stderr
