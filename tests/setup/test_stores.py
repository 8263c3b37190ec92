"""Keyrings as setup uses them: what a child that cannot even start means."""

import pytest

from dma_runtime.secret import Secret
from dma_setup.stores import StoreProblem, Stores
from dma_setup.system import Ran, System


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
