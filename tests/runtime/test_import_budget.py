"""The submit path is bare: what a submission imports until its message is safe, by name."""

import json
import os
import pwd
import subprocess

from false_daemon import Daemon, accepts
from sendmail_program import PYTHON, ROOT, Sendmail

# Frozen into the interpreter, or small enough.
LIBRARY = {"stat", "_stat", "__future__", "errno", "pwd"}  # not `os`: it is a fifth of a bare interpreter's start
BUILT_IN = {"_socket", "_json", "fcntl", "binascii", "syslog", "grp", "select"}
OURS = {
    "machineid",
    *("errors", "posixos", "shown", "config", "outcome", "address", "envelope", "aliases", "cmd", "cmd.sendmail", "cmd.caller"),
    *(
        "cmd.options",
        "cmd.submit",
        "system",
        "system.maillog",
        "system.trust",
        "system.identity",
        "system.clock",
        "system.fs",
        "system.space",
    ),
    *("system.spool", "system.ownership", "message", "message.headers", "message.intake", "policy", "policy.sender"),
    "policy.recipients",
}
CODE = """
import sys
before = set(sys.modules)
sys.path.insert(0, {library!r})
from dma_runtime.cmd.sendmail import main
status = main(["sendmail", *{words!r}])
after = set(sys.modules) - before
import json
print(json.dumps([status, sorted(after)]))
"""


def imported(mail, *words):
    code = CODE.format(library=str(ROOT), words=list(words))
    ran = subprocess.run(
        [PYTHON, "-IS", "-c", code],
        input=b"Subject: s\nTo: a@x\n\nx\n",
        capture_output=True,
        env=mail.environment,
        timeout=60,
    )
    status, names = json.loads(ran.stdout.splitlines()[-1])
    assert status == 0, ran.stderr
    return set(names)


def test_a_submission_imports_nothing_else(tmp_path):
    names = imported(Sendmail(tmp_path), "-bq", "-t", "b@x.test")
    allowed = LIBRARY | BUILT_IN | {"dma_runtime"} | {f"dma_runtime.{name}" for name in OURS}
    assert names <= allowed, names - allowed
    assert not names & {"_json", "dma_runtime.aliases", "dma_runtime.system.ownership"}  # only where they are needed


def test_local_names_cost_three_modules_more(tmp_path):
    mail = Sendmail(tmp_path, aliases="root: a@x\n")
    remote, local = imported(mail, "-bq", "a@x.test"), {"aliases", "system.aliasfile", "policy.expansion"}
    assert imported(mail, "-bq", "root") - remote <= {f"dma_runtime.{name}" for name in local}
    mail.aliases.write_text("bob: a@x\n")
    mine = imported(mail, "-bq", pwd.getpwuid(os.getuid()).pw_name) - remote
    assert mine <= {f"dma_runtime.{name}" for name in {*local, "system.forward", "system.othermta"}}


def test_a_conversation_imports_its_own_only_when_asked_for(tmp_path):
    mail = Sendmail(tmp_path)
    more = imported(mail, "-bs") - imported(mail, "-bq", "a@x.test")
    own = {"cmd.smtpserver", "smtp", "smtp.server", "smtp.content", "smtp.arguments", "system.held"}
    assert more <= {f"dma_runtime.{name}" for name in own} | {"select"}


def test_handing_over_costs_a_little_more_and_no_library(tmp_path):
    mail = Sendmail(tmp_path, f"SOCKET {tmp_path}/s\n")
    Daemon(f"{tmp_path}/s", accepts)
    ours = {"frames", "request", "cmd.handover", "system.held", "system.daemonline", "system.localsocket"}
    names = imported(mail, "-t", "b@x.test")
    allowed = LIBRARY | BUILT_IN | {"dma_runtime"} | {f"dma_runtime.{name}" for name in OURS | ours}
    assert names <= allowed, names - allowed
