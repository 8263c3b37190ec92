"""Twenty hosts through Ansible: seconds of the first run, the second, and a check; beside the same by `dma-setup` alone.

    python -m tests.bench.fleet [--hosts 20] [--forks 5] [--ssh]

Each host is a tree of its own on this machine, which does the work of all of them: on a real fleet the hosts work side by
side, and what is left is Ansible's own share.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import fleet as fleets

ANSWERS = {"host": "smtp.example.org:587", "login": "web", "sender": "web@example.org", "keyring": "file"}
ANSWERS |= {"root_mail": "ops@example.org"}


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fleet")
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--forks", type=int, default=5, help="Ansible's own default")
    parser.add_argument("--ssh", action="store_true", help="over ssh to a private sshd instead of locally")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dma-fleet-") as directory:
        folder = pathlib.Path(directory)
        made = fleets.Fleet(
            folder,
            {f"host{number:02}": {} for number in range(options.hosts)},
            mail_recipe="smarthost",
            mail_answers=ANSWERS,
            mail_verify=False,
            hidden={"password": "horse-battery"},
        )
        made.forks, made.seconds = options.forks, 900
        if options.ssh:
            with fleets.Sshd(folder) as sshd:
                made.over_ssh(sshd)
                through_ansible(made, options)
        else:
            through_ansible(made, options)
        alone(made)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def through_ansible(made, options):
    way = "ssh" if options.ssh else "local"
    for name, words, changes in (("first run", (), True), ("second run", (), False), ("check", ("--check", "--diff"), False)):
        began = time.monotonic()
        found = made.play(*words)
        seconds = time.monotonic() - began
        counted = sum(result.get("changed", False) for _, result in found.values())
        assert counted == (len(found) if changes else 0), made.output
        print(f"ansible, {way}, {options.hosts} hosts, {options.forks} at once, {name}: {seconds:.1f} s, changed={counted}")


def alone(made):
    """The same by hand: one host after the other."""
    answers = made.folder / "answers.json"
    answers.write_text(json.dumps({**ANSWERS, "password": {"env": "DMA_PW"}}))
    for name, words in (("nothing to change", ("--yes",)), ("check", ("--check",))):
        began = time.monotonic()
        for host in made.hosts:
            command = [str(fleets.BIN / "dma-setup"), "smarthost", "--answers", str(answers), "--no-verify", "--no-test"]
            subprocess.run(
                [*command, "--root", str(made.tree(host)), *words],
                env={**os.environ, "DMA_PW": "horse-battery"},
                capture_output=True,
                check=True,
            )
        each = (time.monotonic() - began) / len(made.hosts)
        print(f"dma-setup alone, {name}: {each:.2f} s a host")


if __name__ == "__main__":
    main()
