"""A home to set up; a machine whose programs, keyring and crontab are in memory, so that any step can be made to fail."""

import json
import os
import pathlib
import stat

from dma_setup import answers as given_answers
from dma_setup import place as places
from dma_setup import plan as plans
from dma_setup import recipe as recipes
from dma_setup import relay as relays
from dma_setup.secret import Sources
from dma_setup.system import Ran, System

SECRET = "abcd efgh ijkl mnop"  # as the provider shows it
KEPT = "abcdefghijklmnop"

FACTS = {
    "hostname": "box",
    "login": "alice",
    "git_email": "",
    "root_alias": "",
    "keyring": "",
    "keyring_now": "",
    "systemd_user": False,
    "crontab": False,
    "linger": False,
}

GMAIL = {"address": "alice@gmail.com", "app_password": SECRET, "keyring": "file"}
SMARTHOST = {
    "host": "relay.example.org:587",
    "login": "alice",
    "password": SECRET,
    "keyring": "file",
    "root_mail": "alice@example.org",
}


class Machine(System):
    """Files are real; programs are not. `calls` lists every call that changes something."""

    CHANGES = ("put_file", "put_link", "make_directory", "set_mode", "remove", "remove_directory")

    def __init__(self):
        self.keyring = {}
        self.crontab = None
        self.started = set()
        self.lingering = False
        self.calls = []
        self.fail_at = None  # (number of the call, "before", "within" or "after", what happens there: a callable)

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        return self._counted(name, found) if name in Machine.CHANGES else found

    def _counted(self, name, call):
        def wrapped(*arguments):
            return self._step(f"{name} {arguments[0]}", lambda: call(*arguments))

        return wrapped

    def _step(self, what, act):
        number = len(self.calls)
        self.calls.append(what)
        if self.fail_at is not None and self.fail_at[0] == number:
            _, when, happens = self.fail_at
            if when == "within":
                return self._within(act, happens)
            if when == "after":
                act()
            happens()
        return act()

    @staticmethod
    def _within(act, happens):
        """`happens` when what was written beside its place is about to be put there."""
        rename, os.rename = os.rename, lambda *_: happens()
        try:
            return act()
        finally:
            os.rename = rename

    def run(self, words, given="", seconds=20, environment=None):
        if "dma_setup.keyring_child" in words:
            operation, backend, service, user = words[-4:]
            if "SecretService" not in backend:
                service = f"{backend.split('.')[-2]}/{service}"  # another keyring of the same machine
            if operation == "get":
                found = self.keyring.get((service, user))
                return Ran(1, "", "") if found is None else Ran(0, found, "")
            return self._step(f"{operation} {service}", lambda: self._keyring(operation, service, user, given))
        if words == ["crontab", "-l"]:
            return Ran(1, "", "no crontab for alice") if self.crontab is None else Ran(0, self.crontab, "")
        if words[0] in ("crontab", "systemctl", "loginctl"):
            return self._step(" ".join(words), lambda: self._program(words, given))
        return Ran(127, "", f"{words[0]}: not here")

    def _keyring(self, operation, service, user, given):
        if operation == "set":
            self.keyring[service, user] = given
        elif operation == "delete":
            self.keyring.pop((service, user), None)
        return Ran(0, "", "")

    def _program(self, words, given):
        if words[:2] == ["crontab", "-"]:
            self.crontab = given
        elif words[:2] == ["crontab", "-r"]:
            if self.crontab is None:
                return Ran(1, "", "no crontab for alice")
            self.crontab = None
        elif words[:3] == ["systemctl", "--user", "start"]:
            self.started.add(words[3])
        elif words[:3] == ["systemctl", "--user", "stop"]:
            self.started.discard(words[3])
        elif words[0] == "loginctl":
            self.lingering = words[1] == "enable-linger"
        return Ran(0, "", "")

    def state(self):
        return dict(self.keyring), self.crontab, set(self.started), self.lingering


def home_place(home, **environ):
    return places.for_user(os.getuid(), {"HOME": str(home), **environ})


def plan(recipe, given, place, machine, facts=()):
    """The plan of a recipe with these answers, as the unattended run makes it."""
    found = recipes.read(recipe)
    known = {**FACTS, **dict(facts)}
    sources = Sources(os.environ, "/", stdin_is_taken=True, system=machine)

    def context(answers):
        values = plans.context(found, place, known, answers.values, None, {})
        values["relay_login"] = relays.login(found, values)
        values["secret_kind"] = answers.secret.kind if answers.secret else ""
        return values

    answers = given_answers.collect(found, given_answers.Given(values=dict(given)), sources, context)
    candidates = relays.candidates(found, context(answers), None)
    return plans.make(found, place, machine, known, answers, candidates[0] if candidates else None)


def cut_off(path, folder):
    """The journal at `path` of a run that died while it made the file `folder/x`."""
    begin = {"begin": {"version": 1, "recipe": "gmail", "mode": "user", "root": "", "at": 0}}
    entry = {"kind": "file", "link": "", "mode": "0600", "uid": -1, "gid": -1}
    record = {
        "kind": "path", "path": f"{folder}/x", "root": "", "before": None, "after": entry, "after_digest": "sha256:0",
        "subject": "x", "says": "", "hides": "", "parents": [], "drains": False, "queue": False,
    }  # fmt: skip
    path.write_text(json.dumps(begin) + "\n" + json.dumps({"change": 0, "record": record}) + "\n")


def tree(folder, without=(".local/state/dma-setup",)):
    """What lies below `folder`: path -> kind, mode, content. Directories that only lead to what is left out do not count."""
    folder = pathlib.Path(folder)
    skipped = [folder / name for name in without]
    found = {}
    for path in sorted(folder.rglob("*")):
        if any(path == skip or skip in path.parents for skip in skipped):
            continue
        status = path.lstat()
        if path.is_symlink():
            found[str(path.relative_to(folder))] = ("link", 0, os.readlink(path))
        elif path.is_dir():
            inside = list(path.rglob("*"))
            if inside and all(any(i == s or s in i.parents or i in s.parents for s in skipped) for i in inside):
                continue
            found[str(path.relative_to(folder))] = ("directory", stat.S_IMODE(status.st_mode), "")
        else:
            found[str(path.relative_to(folder))] = ("file", stat.S_IMODE(status.st_mode), path.read_bytes())
    return found
