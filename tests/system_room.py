"""What the tests of a booted machine (`booted_machine`) share: it is set up against a server of the tests, mail is sent in it and
waited for."""

import re
import time

from setup_home import PASSWORD, relay

QUEUE = "/usr/local/lib/dma/dma-queue"


def set_up(machine, server, *more, **answers):
    machine.write("/root/answers.yml", relay(server, keyring=None, **answers), 0o600)
    done = machine.run("dma-setup", "smarthost", "--answers", "/root/answers.yml", "--yes", *more, DMA_PW=PASSWORD, check=False)
    assert done.returncode == 0, done.stdout + done.stderr + machine.log()
    return done


def subjects(server):
    if callable(server.messages):  # Postfix
        return [message["Subject"] for message in server.messages()]
    return [re.search(rb"(?mi)^Subject: (.*?)\r?$", message.content)[1].decode() for message in server.messages]


def wait_for(server, wanted, seconds=30):
    """Until every subject of `wanted` has arrived."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if set(wanted) <= set(subjects(server)):
            return
        time.sleep(0.05)
    raise TimeoutError(f"not arrived: {sorted(set(wanted) - set(subjects(server)))}")


def mail(subject, to="bob@example.org"):
    return f"To: {to}\nSubject: {subject}\n\nbody\n"


def main_process(machine, unit="dma.service"):
    """"0" when there is none."""
    return machine.run("systemctl", "show", "--property=MainPID", "--value", unit).stdout.strip()


def kill_daemon(machine):
    """kill -9 of the daemon, as soon as there is one; its process number."""
    wait_until(machine, lambda: main_process(machine) != "0")
    machine.kill(pid := main_process(machine))
    return pid


def difference(before, after, but="-"):
    """What is not the same, except below `but`."""
    names = {name for name in before.keys() | after.keys() if not name.startswith(but)}
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def wait_until(machine, true, seconds=20):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, machine.log()
        time.sleep(0.2)


def processes(machine):
    """Of the account dma, and what runs its programs."""
    listed = machine.run("sh", "-c", "grep -sl /usr/local/lib/[d]ma/ /proc/[0-9]*/cmdline", check=False).stdout
    return [line for line in listed.split() if "/self/" not in line]
