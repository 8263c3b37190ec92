"""Commands in advice are there to be copied: they name this program as the shell finds it."""

import sys

import pytest
from provisioning import home_place

from dma_setup import itself
from dma_setup import place as places


@pytest.fixture
def program(tmp_path, monkeypatch):
    path = tmp_path / "venv/bin/dma-setup"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(path), "doctor"])
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(itself, "SUDO_PATH", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    return path


def test_found_by_its_name(program, monkeypatch, tmp_path):
    linked = tmp_path / "bin"
    linked.mkdir()
    (linked / "dma-setup").symlink_to(program)
    monkeypatch.setenv("PATH", f"/nowhere:{linked}")
    assert itself.name(by_root=False) == "dma-setup"
    assert itself.name(by_root=True) == str(program), "sudo does not look there"
    monkeypatch.setattr(itself, "SUDO_PATH", str(linked))
    assert itself.name(by_root=True) == "dma-setup"


def test_not_found_by_its_name(program, monkeypatch, tmp_path):
    assert itself.name(by_root=False) == str(program)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert itself.name(by_root=False) == "~/venv/bin/dma-setup"
    other = tmp_path / "other"
    other.mkdir()
    (other / "dma-setup").write_text("#!/bin/sh\n")
    (other / "dma-setup").chmod(0o755)
    monkeypatch.setenv("PATH", str(other))
    assert itself.name(by_root=False) == "~/venv/bin/dma-setup", "another program of that name is not this one"


def test_started_in_another_way(program, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["-c"])
    assert itself.name(by_root=False) == "dma-setup"


def test_with_the_options_of_its_place(program, tmp_path):
    assert itself.command(home_place(tmp_path), "undo") == f"{program} undo --user"
    assert itself.command(places.for_system(), "undo") == f"sudo {program} undo"
    assert itself.command(places.for_system("/an image"), "undo") == f"sudo {program} undo --root '/an image'"
