"""Where things lie: XDG as the runtime has it, other roots, and what a process needs to find it."""

import pytest

from dma_runtime import config, machineid
from dma_setup import mounts
from dma_setup import place as places
from dma_setup.errors import SetupError


def test_the_ordinary_home():
    place = places.for_user(1234, {"HOME": "/home/alice"})
    assert place.dma_conf == "/home/alice/.config/dma/dma.conf"
    assert place.spool == "/home/alice/.local/state/dma/spool"
    assert place.links == {name: f"/home/alice/.local/bin/{name}" for name in ("sendmail", "mailq", "newaliases")}
    assert place.environment == {}
    assert place.shown(place.dma_conf) == "~/.config/dma/dma.conf"
    assert place.shown("/etc/x") == "/etc/x"


@pytest.mark.parametrize("environ", [{}, {"XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "/s"}])
def test_the_runtime_looks_at_the_same_places(environ):
    environ = {"HOME": "/home/alice", **environ}
    directory, state = config.user_directories(1234, environ)
    place = places.for_user(1234, environ)
    assert (place.config, place.spool) == (directory, state + "/spool")
    # What a timer is given leads the runtime there too.
    assert config.user_directories(1234, {"HOME": "/home/alice", **place.environment}) == (directory, state)


def test_root_must_be_told():
    place = places.for_user(0, {"HOME": "/root"})
    assert place.environment["DMA_CONF"] == "/root/.config/dma/dma.conf"


@pytest.fixture
def mounted(monkeypatch, tmp_path):
    """A table in which the home is on a file system of the given type."""

    def mount(kind, *more):
        table = tmp_path / "mountinfo"
        home = str(tmp_path / "a home").replace(" ", "\\040")
        lines = ["22 1 0:20 / / rw - ext4 /dev/vda rw", f"30 22 0:40 / {home} rw,noatime shared:5 - {kind} server:/home rw"]
        table.write_text("\n".join([*lines, *more, "nonsense", ""]))
        monkeypatch.setattr(mounts, "TABLE", str(table))
        return {"HOME": str(tmp_path / "a home")}

    return mount


class TestAHomeOfSeveralMachines:
    @pytest.mark.parametrize(
        ("kind", "name"), [("nfs4", "spool-%m"), ("fuse.sshfs", "spool-%m"), ("ext4", "spool"), ("nfs4x", "spool")]
    )
    def test_each_has_a_queue_of_its_own(self, mounted, monkeypatch, tmp_path, kind, name):
        monkeypatch.setattr(machineid, "FILES", (str(tmp_path / "id"),))
        (tmp_path / "id").write_text("0123abcd\n")
        place = places.for_user(1234, mounted(kind))
        state = f"{tmp_path}/a home/.local/state/dma/"
        assert (place.spooldir, place.spool) == (state + name, state + name.replace("%m", "0123abcd"))
        (tmp_path / "id").write_text("4567cdef\n")
        assert places.for_user(1234, mounted(kind)).spool == state + name.replace("%m", "4567cdef")

    def test_what_lies_over_it_counts(self, mounted, tmp_path):
        later = [f"31 30 0:41 / {tmp_path}/a\\040home rw - tmpfs tmpfs rw", f"32 22 0:42 / {tmp_path}/a rw - nfs x rw"]
        environ = mounted("nfs4", *later)
        assert places.for_user(1234, environ).spooldir.endswith("/spool")

    def test_a_queue_that_is_there_stays(self, mounted, tmp_path):
        environ = mounted("nfs4")
        (tmp_path / "a home/.local/state/dma/spool").mkdir(parents=True)
        assert places.for_user(1234, environ).spooldir.endswith("/spool")

    def test_nor_below_another_root(self, mounted):
        assert places.for_user(1234, mounted("nfs4"), "/image").spooldir.endswith("/spool")

    def test_without_a_table(self, mounted, monkeypatch, tmp_path):
        environ = mounted("nfs4")
        monkeypatch.setattr(mounts, "TABLE", str(tmp_path / "none"))
        assert places.for_user(1234, environ).spooldir.endswith("/spool")


@pytest.mark.parametrize("environ", [{"HOME": "/h", "XDG_CONFIG_HOME": "relative"}])
def test_a_relative_directory_is_refused(environ):
    with pytest.raises(SetupError, match="not an absolute path"):
        places.for_user(1234, environ)


def test_below_another_root():
    place = places.for_system("/image/")
    assert place.at(place.dma_conf) == "/image/etc/dma/dma.conf"
    assert not place.is_live
    assert not place.is_user
