"""`make demo`: from nothing to a sent message, against a real mail server on loopback, in a home directory of its own.

Steps: a mail server with TLS and AUTH; the real `dma-setup smarthost`, unattended; a message through the `sendmail` link
that setup installed; that message as the server received it; `mailq`.

Nothing outside the temporary directory is touched: HOME is there, and PATH names only the folder of the installed links, so
that setup finds no crontab, systemctl or pass of the person who runs this. At the end, also after Ctrl-C, every process that
works for that home is ended and the directory removed. Works as root too, who ignores user-mode files by rule: then
DMA_CONF names the configuration. Exit status 0 when everything happened, 1 with one line when not, 130 after Ctrl-C.
"""

import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SECONDS = 30  # for the message to arrive, and for the queue to be empty

ANSWERS = """\
host: {host}
port: {port}
tls: starttls
fingerprint: {fingerprint}
login: alice
password: {{file: {password}}}
keyring: file
sender: alice@demo.example
root_mail: ""
"""

MESSAGE = """\
To: Bob <bob@example.net>
Subject: Hello from the demo

A program wrote this line to `sendmail -t`, as cron, git or mail would.
.
A line with a single dot is no end, and 8-bit text stays what it is: grüße.
"""


class Stopped(Exception):
    """The demo cannot go on; the text says why."""


def main():
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    started = time.monotonic()
    try:
        with_everything()
    except KeyboardInterrupt:
        return fail("stopped; cleaned up", 130)
    except (Stopped, OSError) as error:
        return fail(str(error), 1)
    except ImportError as error:
        return fail(f"{error}; run `make demo`, which installs what it needs", 1)
    except subprocess.TimeoutExpired as error:
        return fail(f"{os.path.basename(error.cmd[0])} did not end within {error.timeout:.0f} s", 1)
    say(f"\nDone in {time.monotonic() - started:.1f} s. The home and all that worked for it are gone again.")
    return 0


def with_everything():
    """Make the home and the server, show, and take both away again, whatever happens."""
    home = server = None
    try:
        from mail_server import MailServer

        home = folder()
        password = secrets.token_urlsafe(12)
        server = MailServer(tls="starttls", users={"alice": password}).start()
        show(home, server, password)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if home is not None:
            clean(home)
        if server is not None:
            server.stop()


def show(home, server, password):
    environment = {"HOME": str(home), "PATH": f"{home}/.local/bin", "LANG": "C.UTF-8", "TMPDIR": str(home)}
    say(f"A mail server listens on {server.host}:{server.port}: STARTTLS, AUTH, messages are kept and go nowhere.")
    say(f"Everything else lies in {home}, the home directory of this demo.")

    secret = write(home / "password", password + "\n", 0o600)
    answers = ANSWERS.format(host=server.host, port=server.port, fingerprint=server.fingerprint, password=secret)
    write(home / "demo.yml", answers, 0o600)
    head("$ cat demo.yml", answers)

    head("$ dma-setup smarthost --user --answers demo.yml --yes --no-test")
    setup = pathlib.Path(sys.executable).parent / "dma-setup"
    words = [setup, "smarthost", "--user", "--answers", home / "demo.yml", "--yes", "--no-test"]
    # A session of its own: Ctrl-C is ours to answer, and ends it.
    words = [str(word) for word in words]
    done = subprocess.run(words, env=environment, cwd=home, stdin=subprocess.DEVNULL, start_new_session=True, timeout=120)
    if done.returncode != 0:
        raise Stopped("dma-setup failed, see above")
    for name in ("dma.conf", "auth.conf"):
        path = home / ".config" / "dma" / name
        lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
        head(f"$ grep -v '^#' ~/.config/dma/{name}", "\n".join(lines))

    if os.getuid() == 0:
        environment["DMA_CONF"] = f"{home}/.config/dma/dma.conf"
        say("\nroot ignores user-mode files by rule, so here DMA_CONF names them.")
    head("$ sendmail -t -i < message", MESSAGE)
    run(["sendmail", "-t", "-i"], environment, MESSAGE.encode())
    accepted = time.monotonic()
    try:
        (message,) = server.wait(1, SECONDS)
    except TimeoutError:
        raise Stopped(f"the message did not arrive within {SECONDS} s; mailq says: {queue(environment)}") from None
    head(
        f"The server has it {time.monotonic() - accepted:.2f} s later",
        f"from:      {message.sender}\nto:        {', '.join(message.recipients)}\n"
        f"signed in: {message.login}, over {message.tls}\n\n" + message.content.decode("utf-8", "backslashreplace"),
    )

    deadline = time.monotonic() + SECONDS
    while "empty" not in (listed := queue(environment)) and time.monotonic() < deadline:
        time.sleep(0.05)
    head("$ mailq", listed)
    if "empty" not in listed:
        raise Stopped("the queue is not empty")
    wanted = [(message.sender, "alice@demo.example"), (message.recipients, ["bob@example.net"]), (message.login, "alice")]
    if any(found != expected for found, expected in wanted) or not message.tls:
        raise Stopped("the message did not arrive as it was meant to")


def queue(environment):
    return run(["mailq"], environment).decode("utf-8", "backslashreplace").strip()


def run(words, environment, given=b""):
    """Run an installed program as any program would, found on PATH; its output."""
    program = shutil.which(words[0], path=environment["PATH"])
    if program is None:
        raise Stopped(f"dma-setup installed no {words[0]}")
    words = [program, *words[1:]]
    done = subprocess.run(words, env=environment, input=given, stdout=subprocess.PIPE, start_new_session=True, timeout=60)
    if done.returncode != 0:
        raise Stopped(f"{words[0]} ended with status {done.returncode}")
    return done.stdout


def write(path, text, mode):
    path.touch(mode)
    path.chmod(mode)
    path.write_text(text)
    return path


# ---------------------------------------------------------------- a home, and no trace of it


def folder():
    """A new directory (0700) where programs may be started; not every /tmp allows that."""
    for parent in (tempfile.gettempdir(), pathlib.Path.home(), ROOT):
        try:
            if not os.statvfs(parent).f_flag & os.ST_NOEXEC:
                return pathlib.Path(tempfile.mkdtemp(prefix="dma-demo-", dir=parent)).resolve()
        except OSError:
            continue
    raise Stopped("no directory for temporary programs; set TMPDIR")


def clean(home):
    """End what still works for this home, then remove it."""
    deadline = time.monotonic() + 10
    quiet = 0  # looks in a row that found nobody: one may have been just between its birth and its name
    while quiet < 3 and time.monotonic() < deadline:
        pids = working_for(home)
        quiet = 0 if pids else quiet + 1
        for pid in pids:
            try:
                os.kill(pid, signal.SIGTERM if time.monotonic() < deadline - 5 else signal.SIGKILL)
            except OSError:
                pass
        time.sleep(0.05)
    shutil.rmtree(home, ignore_errors=True)
    if home.exists():
        raise Stopped(f"{home} could not be removed")


def working_for(home):
    """Processes whose command line or environment names this home; its name is like no other."""
    needle, found = os.fsencode(home), []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        for name in ("cmdline", "environ"):
            try:
                if pid != os.getpid() and needle in pathlib.Path(f"/proc/{pid}/{name}").read_bytes():
                    found.append(pid)
                    break
            except OSError:
                break
    return found


# ---------------------------------------------------------------- words


def say(text):
    print(text, flush=True)


def head(title, text=""):
    say(f"\n{title}")
    if text:
        say(textwrap.indent(text.replace("\r\n", "\n").rstrip("\n"), "    "))


def fail(text, status):
    sys.stdout.flush()
    print(f"demo: {text}", file=sys.stderr, flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
