"""`dma-setup --system` on a booted machine, killed at its steps: what undo leaves is what was there before.

Killed when a change was written down but not made, and when it was made: accounts, credentials, units that were started. What is
no file in the ordinary run, each line with --campaign.
"""

import json

import pytest
from booted_machine import BootedMachine
from mail_server import MailServer
from setup_home import PASSWORD, relay
from system_room import difference

pytestmark = pytest.mark.timeout(1200)

DIES = """\
#!/usr/bin/python3 -I
# dma-setup that kills itself behind line NUMBER of its journal.
import os, sys
sys.path.insert(0, "/opt/dma")
from dma_setup import cli, journal
number, note = int(sys.argv.pop(1)), journal.Journal.note
def counted(self, line):
    global number
    note(self, line)
    number -= 1
    if number == 0:
        os.kill(os.getpid(), 9)
journal.Journal.note = counted
sys.exit(cli.main())
"""


@pytest.fixture(scope="module")
def server():
    with MailServer(tls="starttls", users={"alice": PASSWORD}) as server:
        yield server


@pytest.fixture(scope="module")
def machine(tmp_path_factory, server):
    machine = BootedMachine(tmp_path_factory.mktemp("machine"))
    with machine:
        machine.write("/usr/local/sbin/dies", DIES, 0o755)
        machine.write("/root/answers.yml", relay(server, keyring=None), 0o600)
        # What the first use leaves for good on any machine: the key of its credentials, the lock of /etc/passwd.
        machine.run("dma-setup", "smarthost", "--answers", "/root/answers.yml", "--yes", "--no-test", DMA_PW=PASSWORD)
        machine.run("dma-setup", "undo")
        yield machine


def killed(machine, number):
    """Whether it got that far."""
    words = ("dies", str(number), "smarthost", "--answers", "/root/answers.yml", "--yes", "--no-verify", "--no-test")
    return machine.run(*words, check=False, DMA_PW=PASSWORD).returncode in (-9, 137)


def leaves_nothing(machine, number):
    before = machine.snapshot()
    if not killed(machine, number):
        return False
    undone = machine.run("dma-setup", "undo", check=False)
    assert undone.returncode == 0, f"line {number}: {undone.stdout}{undone.stderr}"
    assert difference(before, machine.snapshot()) == {}, f"killed behind line {number}"
    units = machine.run("systemctl", "list-units", "--state=active,failed", "dma*", "--no-legend", "--plain", check=False).stdout
    assert units == "", f"killed behind line {number}"
    return True


def lines(machine):
    """The journal of a whole run, line by line."""
    machine.run("dma-setup", "smarthost", "--answers", "/root/answers.yml", "--yes", "--no-verify", "--no-test", DMA_PW=PASSWORD)
    text = machine.run("sh", "-c", "cat $(ls -d /var/lib/dma-setup/*/ | tail -n 1)/journal").stdout
    machine.run("dma-setup", "undo")
    return [json.loads(line) for line in text.splitlines()]


def test_at_what_is_no_file(machine):
    """The account, the password, what systemd is told: written down and not made, and the last of them made."""
    kinds = [line.get("record", {}).get("kind", "") for line in lines(machine)]
    numbers = [at for at, kind in enumerate(kinds, 1) if kind in ("account", "secret", "command")]
    assert len(numbers) >= 5
    for number in (*numbers, numbers[-1] + 1):
        assert leaves_nothing(machine, number)


@pytest.mark.campaign
def test_each_line(machine):
    number = 2
    while leaves_nothing(machine, number):
        number += 1
    assert number > 60
    machine.run("dma-setup", "undo")  # the one that came to its end
