"""A home in which the real `dma-setup` runs, and answers for the mail server of the tests."""

import json
import pathlib
import subprocess
import sys

PROGRAM = pathlib.Path(sys.executable).parent / "dma-setup"
PASSWORD = "correct horse battery"


class Home:
    """A home in which programs find nothing but what setup installs."""

    def __init__(self, path):
        self.path = path
        path.mkdir()
        programs = path.parent / f"{path.name}-programs"  # where the shell finds dma-setup, and nothing else
        programs.mkdir()
        (programs / "dma-setup").symlink_to(PROGRAM)
        self.environment = {"HOME": str(path), "PATH": f"{path}/.local/bin:{programs}", "LANG": "C.UTF-8", "DMA_PW": PASSWORD}

    def answers(self, text, name="answers.yml"):
        path = self.path.parent / name
        path.write_text(text)
        return str(path)

    def run(self, *words, given="", **environment):
        done = subprocess.run(
            [str(PROGRAM), *words],
            input=given,
            capture_output=True,
            text=True,
            env={**self.environment, **environment},
            cwd=self.path.parent,
            timeout=60,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def queued(self):
        """The queue, as `dma-queue list --json` has it."""
        environment = {**self.environment, "DMA_CONF": str(self.path / ".config/dma/dma.conf")}
        listing = [str(self.path / ".local/lib/dma/dma-queue"), "list", "--json"]
        return json.loads(subprocess.run(listing, capture_output=True, env=environment, timeout=30, check=True).stdout)


def relay(server, **more):
    """An answers file for the server of the tests."""
    values = {
        "host": f"localhost:{server.port}",
        "fingerprint": server.fingerprint,
        "login": "alice",
        "password": "{env: DMA_PW}",
        "keyring": "file",
        "sender": "alice@example.org",
        "root_mail": "bob@example.org",
        **more,
    }
    return "".join(f"{name}: {value}\n" for name, value in values.items() if value is not None)
