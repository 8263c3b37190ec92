"""The submission's own small `os` means what `os` means."""

import os
import posixpath
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sendmail_program import PYTHON, ROOT

from dma_runtime import posixos

PATHS = st.lists(st.sampled_from(["/", "//", "a", "bc", ".", "..", "é"]), max_size=9).map("".join)


@given(PATHS)
def test_paths(path):
    assert posixos.basename(path) == posixpath.basename(path)
    assert posixos.dirname(path) == posixpath.dirname(path)
    assert posixos.abspath(path) == posixpath.abspath(path)


def test_what_is_there(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    for name in ("file", "nothing", "dangling", "", "nul\0"):
        path = f"{tmp_path}/{name}"
        assert posixos.exists(path) == os.path.exists(path)
        assert posixos.isfile(path) == os.path.isfile(path)


@pytest.mark.parametrize("name", [n for n in dir(posixos) if n.startswith("O_") or n in ("open", "read", "link", "devnull")])
def test_the_rest_is_that_of_os(name):
    assert getattr(posixos, name) == getattr(os, name)


def test_the_environment_is_that_of_os_where_it_is_loaded(monkeypatch):
    monkeypatch.setenv("DMA_TEST", "here")
    assert posixos.environment()["DMA_TEST"] == "here"


@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_bytes_come_through_without_os(locale):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from dma_runtime import posixos\n"
        "assert 'os' not in sys.modules\n"
        "assert posixos.fsencode(posixos.environment()['ODD']) == b'gr\\xfc\\xc3\\xbc', posixos.environment()['ODD']\n"
        "assert posixos.fsencode(sys.argv[1]) == b'\\xff'"
    )
    ran = subprocess.run([PYTHON, "-IS", "-c", code, b"\xff"], env={b"ODD": b"gr\xfc\xc3\xbc", b"LC_ALL": locale.encode()})
    assert ran.returncode == 0


