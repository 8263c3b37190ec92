"""Where things lie: XDG as the runtime has it, other roots, and what a process needs to find it."""

import pytest

from dma_runtime import config
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


@pytest.mark.parametrize("environ", [{"HOME": "/h", "XDG_CONFIG_HOME": "relative"}])
def test_a_relative_directory_is_refused(environ):
    with pytest.raises(SetupError, match="not an absolute path"):
        places.for_user(1234, environ)


def test_below_another_root():
    place = places.for_system("/image/")
    assert place.at(place.dma_conf) == "/image/etc/dma/dma.conf"
    assert not place.is_live
    assert not place.is_user
