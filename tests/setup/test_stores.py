"""Keyrings as setup uses them: what a child that cannot even start means."""

import os
import pathlib
import subprocess
import sys

import pytest
from provisioning import home_place

from dma_runtime.secret import Secret
from dma_setup.facts import keyrings
from dma_setup.stores import StoreProblem, Stores
from dma_setup.system import Ran, System

ROOT = pathlib.Path(__file__).parent.parent.parent


class Child(System):
    def __init__(self, *ran):
        self.ran = Ran(*ran)

    def run(self, words, given="", seconds=20, environment=None):
        return self.ran


TRACEBACK = "Traceback (most recent call last):\n  ...\nModuleNotFoundError: No module named 'lazy_importer'\n"


@pytest.mark.parametrize("act", ["get", "set", "delete", "prove"])
def test_a_library_that_cannot_be_loaded_is_no_missing_entry(act):
    """Python ends with status 1 then, as the child does where there is no entry; seen: a password stored nowhere."""
    stores = Stores(Child(1, "", TRACEBACK))
    given = {"get": ("s", "u"), "set": ("s", "u", Secret("x")), "delete": ("s", "u"), "prove": ()}[act]
    with pytest.raises(StoreProblem, match="No module named 'lazy_importer'"):
        getattr(stores, act)("secret-service", *given)


def test_no_entry():
    assert Stores(Child(1, "", "")).get("pass", "s", "u") is None
    Stores(Child(1, "", "")).delete("pass", "s", "u")
    with pytest.raises(StoreProblem):
        Stores(Child(1, "", "")).set("pass", "s", "u", Secret("x"))


def test_an_unknown_keyring():
    with pytest.raises(StoreProblem, match="unknown keyring nothing"):
        Stores(Child(0, "", "")).get("nothing", "s", "u")


def test_nothing_is_imported_from_the_current_directory(tmp_path):
    """Root may run dma-setup in /tmp, or in somebody's home."""
    mark = tmp_path / "imported"
    for name in ("dma_setup/__init__.py", "keyring.py", "importlib.py", "sitecustomize.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"open({str(mark)!r}, 'w').close()\n")
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from dma_setup.stores import Stores\nfrom dma_setup.system import System\n"
        "Stores(System()).prove('keyring.backends.null.Keyring')\n"
    )
    words = [sys.executable, "-I", "-c", code]
    ran = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "what was stored did not come back" in ran.stderr, "the child was there"
    assert not mark.exists()


NOT_RUNNING, CLOSED, NONE = "kwallet: KWallet is not running", "kwallet: the wallet is closed", "secret-service: no such service"


@pytest.mark.parametrize(
    ("kwallet", "service", "asked", "chosen", "says"),
    [
        ("", "", ["kwallet"], "kwallet", "KDE's wallet (KWallet)"),
        (NOT_RUNNING, "", ["kwallet", "secret-service"], "secret-service", "your desktop's keyring (Secret Service)"),
        (CLOSED, "", ["kwallet", "secret-service"], "secret-service", "your desktop's keyring (Secret Service)"),
        (NOT_RUNNING, NONE, ["kwallet", "secret-service"], "", "no keyring works here (no such service)"),
    ],
)
def test_a_wallet_that_is_open_is_asked_first(tmp_path, monkeypatch, kwallet, service, asked, chosen, says):
    """It asks nobody anything; a Secret Service may be started by the question, and wait for a person until the time is over."""
    problems, names = {"kwallet": kwallet, "secret-service": service}, []

    def prove(_self, name):
        names.append(name)
        if problems[name]:
            raise StoreProblem(problems[name])

    exists = os.path.exists
    monkeypatch.setattr(Stores, "prove", prove)
    monkeypatch.setattr(os.path, "exists", lambda path: path == f"/run/user/{os.getuid()}/bus" or exists(path))
    found = keyrings.probe(home_place(tmp_path), System())
    assert (names, found.values["keyring"]) == (asked, chosen)
    assert says in found.findings[-1].text
