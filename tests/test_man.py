"""Man pages and completions are made from the declarations, are current, and are well-formed."""

import importlib.util
import pathlib
import shutil
import subprocess

import pytest

from dma_runtime import config
from dma_runtime.cmd import options

ROOT = pathlib.Path(__file__).resolve().parent.parent
MAN = ROOT / "docs/man"
COMPLETIONS = ROOT / "packaging/completions"


def load(path):
    spec = importlib.util.spec_from_file_location(f"generate_{path.parent.name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load(MAN / "generate.py")


@pytest.mark.parametrize("name", generate.PAGES)
def test_page_is_current(name):
    assert (MAN / name).read_text() == generate.wrapped(generate.PAGES[name]()), "run `make man'"


@pytest.mark.parametrize("name", generate.PAGES)
def test_page_is_clean(name):
    if shutil.which("mandoc") is None:
        pytest.skip("needs mandoc: apt install mandoc")
    said = subprocess.run(["mandoc", "-T", "lint", MAN / name], capture_output=True, text=True, check=False)
    # Our own pages are not installed where the tests run.
    complaints = [line for line in (said.stdout + said.stderr).splitlines() if "referenced manual not found" not in line]
    assert [line for line in complaints if "mandoc.db" not in line] == []


def test_every_key_has_its_place():
    page = (MAN / "dma.conf.5").read_text()
    assert [name for name in config.KEYS if f".It Cm {name}\n" not in page and f".It Cm {name} Ar" not in page] == []


def test_every_letter_has_its_place():
    page = (MAN / "dma.8").read_text()
    letters = set(options.ALONE) | set(options.VALUE) | set(options.ATTACHED)
    # -o is described with -i, -r with -f.
    described = {line.split()[2][0] for line in page.splitlines() if line.startswith(".It Fl ")} | {"o", "r"}
    ignored = {line.split()[1][0] for line in page.splitlines() if line.startswith(".Fl ")}
    assert letters - described - ignored == set()


def test_completions_are_current():
    pytest.importorskip("shtab", reason="needs shtab: pip install shtab")
    for name, text in load(COMPLETIONS / "generate.py").completions().items():
        assert (COMPLETIONS / name).read_text() == text, "run `make man'"


@pytest.mark.parametrize("shell", ["bash"])
def test_completions_parse(shell):
    for path in sorted(COMPLETIONS.glob("*.bash")):
        subprocess.run([shell, "-n", path], check=True)
