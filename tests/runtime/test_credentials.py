"""Secrets as systemd credentials: the store, and the backend of the keyring library over it."""

import os
import stat
import tomllib

import pytest
from private_machine import ROOT, PrivateMachine

from dma_runtime import keyring_backend
from dma_runtime.system.credentials import Store, Unusable

NAME = "dma.smtp.example.org.alice@example.org"


@pytest.fixture
def machine(tmp_path):
    return PrivateMachine(tmp_path)


def test_stored_read_replaced_and_deleted(machine):
    said = machine.run(
        f"""
name = {NAME!r}
print(store.get(name), store.names(), store.delete(name))
store.set(name, "geheim ä".encode())
print(store.get(name).decode(), store.names())
store.set(name, b"x" * 70000)
print(store.get(name) == b"x" * 70000, store.delete(name), store.get(name), store.names())
"""
    )
    assert said == f"None [] False\ngeheim ä ['{NAME}']\nTrue True None []\n"
    assert not machine.credentials.exists()


def test_only_root_can_read_the_files_and_they_hold_nothing_readable(machine):
    machine.run(f"import os; os.umask(0); store.set({NAME!r}, b'correct horse')")
    (file,) = machine.credentials.iterdir()
    assert file.name == NAME + ".cred"
    assert (stat.S_IMODE(file.stat().st_mode), file.stat().st_uid) == (0o600, 0)
    assert stat.S_IMODE(machine.credentials.stat().st_mode) == 0o700
    assert b"horse" not in file.read_bytes()
    by_systemd = machine.command("systemd-creds", "decrypt", f"--name={NAME}", str(file), "-")
    assert by_systemd.stdout == "correct horse"
    under_another_name = machine.command("systemd-creds", "decrypt", "--name=dma.other.alice", str(file), "-")
    assert under_another_name.returncode != 0


def test_the_key_is_named_and_never_automatic(machine):
    """A program in systemd-creds' place writes down how it is called."""
    program = machine.folder / "creds"
    for tpm, key in ((1, "host"), (0, "host+tpm2")):
        program.write_text(
            f'#!/bin/sh\necho "$*" >> {machine.folder}/calls\n'
            f'case $1 in has-tpm2) exit {tpm};; encrypt) cat;; decrypt) cat "$3";; esac\n'
        )
        program.chmod(0o755)
        machine.run(f"store._program = {str(program)!r}; store.set('dma.h.a', b'pw')")
        calls = (machine.folder / "calls").read_text().splitlines()
        (machine.folder / "calls").unlink()
        bound = " --tpm2-pcrs=" if tpm == 0 else ""
        assert calls[:2] == ["has-tpm2", f"encrypt --with-key={key}{bound} --name=dma.h.a - -"]
        assert "pw" not in " ".join(calls)


def test_a_copied_machine_loses_nothing(machine):
    """systemd-creds would delete the host key; it is not started, and with the old machine-id all is there again."""
    key = machine.state / "credential.secret"
    machine.run(f"store.set({NAME!r}, b'pw')")
    before = key.read_bytes()
    old = machine.become_another()
    refused = f"""
for act in (lambda: store.get({NAME!r}), lambda: store.set("dma.b.b", b"other")):
    try:
        print(act())
    except Unusable as problem:
        print("refused:", problem)
print(store.foreign_machine())
"""
    said = machine.run(refused).splitlines()
    assert len(said) == 3
    assert all(line.startswith("refused: ") and "another /etc/machine-id" in line for line in said[:2])
    assert said[2] == "True"
    assert key.read_bytes() == before
    machine.machine_id.write_text(old)
    assert machine.run(f"print(store.foreign_machine(), store.get({NAME!r}).decode())") == "False pw\n"


def test_a_damaged_file_is_one_line(machine):
    machine.run(f"store.set({NAME!r}, b'pw')")
    path = machine.credentials / f"{NAME}.cred"
    text = path.read_text()
    path.write_text(text[:40] + ("A" if text[40] != "A" else "B") + text[41:])
    said = machine.run(
        f"""
try:
    print(store.get({NAME!r}))
except Unusable as problem:
    print(problem)
"""
    )
    assert said.startswith("systemd-creds decrypt: ")
    assert said.count("\n") == 1


def test_what_does_not_come_back_replaces_nothing(machine):
    machine.run(f"store.set({NAME!r}, b'old')")
    program = machine.folder / "creds"
    program.write_text("#!/bin/sh\ncase $1 in has-tpm2) exit 1;; *) cat;; esac\necho other\n")
    program.chmod(0o755)
    said = machine.run(
        f"""
real, store._program = store._program, {str(program)!r}
try:
    store.set({NAME!r}, b"new")
except Unusable as problem:
    print(problem)
store._program = real
print(store.get({NAME!r}).decode(), store.names())
"""
    )
    assert said == f"{machine.credentials}/{NAME}.cred: systemd-creds did not give back what was stored\nold ['{NAME}']\n"
    assert len(os.listdir(machine.credentials)) == 1


def test_through_the_keyring_library(machine):
    said = machine.run(
        f"""
import keyring
from keyring.errors import PasswordDeleteError
from dma_runtime.keyring_backend import Keyring
backend = Keyring()
backend.directory = {str(machine.credentials)!r}
keyring.set_keyring(backend)
print(keyring.get_password("dma:H.example", "al:ice"))
keyring.set_password("dma:H.example", "al:ice", "pw ä")
keyring.set_password("dma-setup:before:h:1", "alice", "older")
print(keyring.get_password("dma:h.example.", "al:ice"), store.names())
keyring.delete_password("dma:H.example", "al:ice")
try:
    keyring.delete_password("dma:H.example", "al:ice")
except PasswordDeleteError as problem:
    print(problem)
print(store.names())
"""
    ).splitlines()
    names = ["dma-setup_3Abefore_3Ah_3A1.alice", "dma.h.example.al_3Aice"]
    assert said[:2] == ["None", f"pw ä {names}"]
    assert said[2:] == ["no entry for user al:ice in service dma:H.example", str(names[:1])]


def test_it_is_offered_to_the_library_but_never_chosen_by_itself():
    assert keyring_backend.Keyring.priority < 0
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["keyring.backends"]
    assert points == {"dma": "dma_runtime.keyring_backend"}


@pytest.mark.parametrize("name", ["", "a/b", "../a", ".hidden", "a:b", "x" * 251])
def test_names_that_no_credential_can_have(name, tmp_path):
    with pytest.raises(Unusable, match="cannot be the name of a credential"):
        Store(str(tmp_path)).get(name)


def test_others_than_root_are_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (tmp_path / "dma.h.a.cred").write_text("")
    store = Store(str(tmp_path))
    with pytest.raises(Unusable, match="only root"):
        store.get("dma.h.a")
    with pytest.raises(Unusable, match="only root"):
        store.set("dma.h.a", b"pw")


def test_without_systemd_creds(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(Unusable, match="is missing: this needs systemd 250"):
        Store(str(tmp_path), program="/nowhere/systemd-creds").set("dma.h.a", b"pw")
    assert os.listdir(tmp_path) == []
