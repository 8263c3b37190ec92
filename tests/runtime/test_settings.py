"""What the owner reads again: defaults of user mode come back when a line goes."""

import os

import pytest

from dma_runtime import config
from dma_runtime.delivery.settings import Settings


class Log(list):
    def warning(self, text):
        self.append(text)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / ".config" / "dma"
    folder.mkdir(parents=True)
    return folder


def settings(folder, text):
    (folder / "dma.conf").write_text(text)
    return Settings(config.find(None, {"HOME": str(folder.parent.parent)}, 1000, 1000), Log())


def change(settings, folder, text):
    (folder / "dma.conf").write_text(text)
    os.utime(folder / "dma.conf", ns=(1, 1))
    return settings.refresh()


def test_a_removed_authpath_is_the_default_again(folder):
    (folder / "auth.conf").write_text("alice|relay.test:secret\n")
    found = settings(folder, f"SMARTHOST relay.test\nAUTHPATH {folder}/elsewhere\n")
    assert "does not exist" in found.auth_problem
    assert change(found, folder, "SMARTHOST relay.test\n")
    assert found.auth_problem == ""
    assert f"{folder}/auth.conf" == found.config.AUTHPATH
    assert [login.user for login in found.logins.logins] == ["alice"]


def test_a_file_that_comes_later_is_read(folder):
    found = Settings(config.load(str(folder / "dma.conf")), Log())
    assert found.config.SMARTHOST is None
    assert not found.refresh()
    assert change(found, folder, "SMARTHOST relay.test\n")
    assert str(found.config.SMARTHOST) == "relay.test"
    assert found.config.source == f"{folder}/dma.conf"


def test_a_file_that_is_gone_leaves_what_was_read(folder):
    """By the defaults mail would leave directly, past the relay."""
    found = settings(folder, "SMARTHOST relay.test\n")
    (folder / "dma.conf").unlink()
    assert not found.refresh()
    assert not found.refresh()
    assert str(found.config.SMARTHOST) == "relay.test"
    assert found.log == [f"{folder}/dma.conf is gone; the configuration read before stays in force"]
    assert change(found, folder, "SMARTHOST other.test\n")
    assert str(found.config.SMARTHOST) == "other.test"


def test_a_file_that_was_just_emptied_is_being_written(folder):
    found = settings(folder, "SMARTHOST relay.test\n")
    (folder / "dma.conf").write_text("# new\n")
    assert not found.refresh()
    assert str(found.config.SMARTHOST) == "relay.test"
    os.utime(folder / "dma.conf", (1, 1))  # nobody writes it any more: it means the defaults
    assert found.refresh()
    assert found.config.SMARTHOST is None


@pytest.mark.parametrize("kind", ["fifo", "device", "directory"])
def test_what_is_no_file_is_a_problem_and_no_wait(folder, kind):
    """A FIFO has nobody who writes to it, a device no end."""
    place = folder / kind
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "directory":
        place.mkdir()
    else:
        place.symlink_to("/dev/zero")
    found = settings(folder, f"SMARTHOST relay.test\nAUTHPATH {place}\nRELAYMAP {place}\n")
    why = "Is a directory" if kind == "directory" else "Not a regular file"
    assert found.auth_problem == f"can not open auth file `{place}': {why}"
    assert found.map_problem == f"can not open relay map `{place}': {why}"


def test_the_queue_does_not_move_meanwhile(folder, tmp_path):
    found = settings(folder, f"SMARTHOST relay.test\nSPOOLDIR {tmp_path}/spool\n")
    assert change(found, folder, "SMARTHOST other.test\n")
    assert f"{tmp_path}/spool" == found.config.SPOOLDIR


@pytest.mark.parametrize("name", ["SPOOLDIR", "SOCKET"])
def test_a_place_that_was_changed_takes_effect_with_the_next_start(folder, tmp_path, name):
    """Read anew, a daemon would accept mail into a spool that nobody delivers from."""
    (folder / "dma.conf").write_text(f"SOCKET {tmp_path}/run/s\n")
    found = Settings(config.load(str(folder / "dma.conf")), Log())
    before = getattr(found.config, name)
    assert change(found, folder, f"SMARTHOST other.test\nSOCKET {tmp_path}/run/s\n{name} {tmp_path}/moved\n")
    assert getattr(found.config, name) == before
    assert found.config.SMARTHOST.name == "other.test"
    assert [line for line in found.log if name in line and "started anew" in line]
    assert found.config.by_socket


def test_a_configuration_without_a_socket_gets_none(folder, tmp_path):
    (folder / "dma.conf").write_text(f"SPOOLDIR {tmp_path}/spool\n")
    found = Settings(config.load(str(folder / "dma.conf")), Log())
    assert not found.config.by_socket
    assert change(found, folder, f"SPOOLDIR {tmp_path}/spool\nSMARTHOST other.test\nSOCKET {tmp_path}/s\n")
    assert not found.config.by_socket


def test_an_auth_file_that_is_empty_all_at_once_holds_the_mail(folder):
    (folder / "auth.conf").write_text("alice|relay.test:secret\n")
    found = settings(folder, "SMARTHOST relay.test\n")
    (folder / "auth.conf").write_text("")
    assert found.refresh()
    assert "empty all at once" in found.auth_problem
    assert change(found, folder, "SMARTHOST relay.test\nPORT 26\n")
    assert "empty all at once" in found.auth_problem
    (folder / "auth.conf").write_text("bob|relay.test:secret\n")
    assert found.refresh()
    assert (found.auth_problem, found.logins.logins[0].user) == ("", "bob")


def test_and_so_does_a_relay_map(folder):
    (folder / "map").write_text("* relay.test\n")
    found = settings(folder, f"RELAYMAP {folder}/map\n")
    (folder / "map").write_text("")
    assert found.refresh()
    assert "empty all at once" in found.map_problem
    (folder / "map").write_text("* other.test\n")
    assert found.refresh()
    assert found.map_problem == ""


def test_one_that_was_empty_from_the_start_is_no_problem(folder):
    (folder / "auth.conf").write_text("")
    (folder / "map").write_text("")
    found = settings(folder, f"RELAYMAP {folder}/map\n")
    assert (found.auth_problem, found.map_problem) == ("", "")


def test_a_file_that_was_corrected_while_the_owner_was_starting(folder):
    """Between reading it and watching it lie a quarter of a second of imports: what was written then was never seen."""
    path = folder / "dma.conf"
    path.write_text("SMARTHOST wrong.test\n")
    read = config.load(str(path))
    path.write_text("SMARTHOST relay.test\n")
    os.utime(path, ns=(1, 1))
    found = Settings(read, Log())
    assert found.refresh()
    assert str(found.config.SMARTHOST) == "relay.test"
    assert not found.refresh()
