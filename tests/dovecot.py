"""A private Dovecot that takes mail by LMTP, over TCP on loopback and at a socket; mail lies in one Maildir a user.

    with Dovecot(users=["alice", "full"], full=["full"]) as server:
        server.port, server.socket
        server.mail("alice")            # list of bytes

Mailboxes of `full` have a quota that any message exceeds. Needs root (Dovecot changes users) and Debian's dovecot-lmtpd.
"""

import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import tempfile
import time

DOVECOT = "/usr/sbin/dovecot"
CONF = """
base_dir = {root}/run
state_dir = {root}/state
instance_name = dma-test
log_path = {root}/log
protocols = lmtp
listen = 127.0.0.1
ssl = no
first_valid_uid = 1
default_vsz_limit = 256M
mail_location = maildir:{root}/mail/%n
auth_username_format = %Ln
passdb {{
  driver = passwd-file
  args = username_format=%n {root}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%n {root}/users
}}
service lmtp {{
  inet_listener lmtp {{
    port = {port}
  }}
  unix_listener {root}/lmtp {{
    mode = 0666
  }}
}}
plugin {{
  quota = maildir:User quota
  quota_grace = 0
}}
protocol lmtp {{
  mail_plugins = quota
  postmaster_address = postmaster@here.test
}}
"""


def missing():
    if os.geteuid() != 0:
        return "needs root: Dovecot changes users"
    if not os.path.exists(DOVECOT) or not os.path.exists("/usr/lib/dovecot/lmtp"):
        return "needs dovecot: apt install dovecot-lmtpd"
    return ""


class Dovecot:
    def __init__(self, users, full=()):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="dovecot", dir="/tmp"))
        self.root.chmod(0o755)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.socket = str(self.root / "lmtp")
        owner = pwd.getpwnam("nobody")
        for name in ("run", "state", "mail"):
            (self.root / name).mkdir()
        os.chown(self.root / "mail", owner.pw_uid, owner.pw_gid)
        lines = [
            f"{user}:{{PLAIN}}x:{owner.pw_uid}:{owner.pw_gid}::{self.root}/mail/{user}::"
            + ("userdb_quota_rule=*:bytes=10" if user in full else "")
            for user in users
        ]
        (self.root / "users").write_text("\n".join(lines) + "\n")
        (self.root / "conf").write_text(CONF.format(root=self.root, port=self.port))

    def __enter__(self):
        self._process = subprocess.Popen([DOVECOT, "-F", "-c", str(self.root / "conf")])
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 5) as probe:
                    if probe.recv(100).startswith(b"220"):
                        return self
            except OSError:
                time.sleep(0.05)
        self.__exit__()
        raise AssertionError(self.log)

    def __exit__(self, *error):
        self._process.terminate()
        self._process.wait(20)
        shutil.rmtree(self.root)

    @property
    def log(self):
        return (self.root / "log").read_text() if (self.root / "log").exists() else ""

    def mail(self, user):
        return [path.read_bytes() for path in sorted((self.root / "mail" / user).glob("new/*"))]
