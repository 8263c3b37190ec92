"""What every test may rely on, and the guards that make the forbidden fail by name.

- No address but loopback and no real name lookup in this process (`NetworkBeyondLoopback`).
- The real keyring is out of reach (`RealKeyring`): HOME and the XDG directories of every test lie in its own folder.
- `DMA_TESTS_COMPLETE=1` (CI) turns a skip for want of a peer or privilege into a failure.
"""

import ipaddress
import os
import pathlib
import socket

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


def pytest_addoption(parser):
    parser.addoption("--campaign", action="store_true", help="run the long fault campaigns too")


def pytest_configure(config):
    config.addinivalue_line("markers", "campaign: a long fault campaign; runs with --campaign (make faults)")
    config.addinivalue_line("markers", "optional(reason): may be skipped in CI too, for a reason that CI cannot mend")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--campaign"):
        items[:] = [item for item in items if "campaign" not in item.keywords]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    complete = os.environ.get("DMA_TESTS_COMPLETE") == "1"
    if complete and report.skipped and not hasattr(report, "wasxfail") and "optional" not in item.keywords:
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be missing: {report.longrepr}"
    return report


class NetworkBeyondLoopback(Exception):
    """A test tried to leave this machine."""


class RealKeyring(Exception):
    """A test tried to use the keyring of whoever runs it."""


def _local(address):
    if not isinstance(address, tuple):
        return True  # AF_UNIX
    host = address[0]
    if host in ("localhost", "", "0.0.0.0", "::"):
        return True
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def guards(monkeypatch, tmp_path_factory):
    """Each guard names itself in the failure it causes."""
    real_connect, real_connect_ex = socket.socket.connect, socket.socket.connect_ex
    real_lookup = socket.getaddrinfo

    def connect(self, address):
        if not _local(address):
            raise NetworkBeyondLoopback(address)
        return real_connect(self, address)

    def connect_ex(self, address):
        if not _local(address):
            raise NetworkBeyondLoopback(address)
        return real_connect_ex(self, address)

    def lookup(host, *arguments, **keywords):
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None and not _local((name,)):
            raise NetworkBeyondLoopback(name)
        return real_lookup(host, *arguments, **keywords)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", lookup)

    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DMA_HANDED_ON", "1")  # a mail agent of the machine that runs the tests gets none of their mail
    for name in ("DMA_CONF", "DBUS_SESSION_BUS_ADDRESS", "PYTHON_KEYRING_BACKEND", "EMAIL", "SSH_AUTH_SOCK"):
        monkeypatch.delenv(name, raising=False)

    keyring = pytest.importorskip("keyring")

    def refuse(*arguments, **keywords):
        raise RealKeyring(arguments[:2])

    for name in ("get_password", "set_password", "delete_password", "get_keyring"):
        monkeypatch.setattr(keyring, name, refuse)


@pytest.fixture
def repository():
    """The root of the checkout."""
    return REPOSITORY
