"""A private Exim on loopback: TLS, AUTH, refusals; mail ends in one Maildir. CHUNKING and PIPELINING by the port.

    server = Exim(users={"alice@example.test": "secret"})
    server.refuse("nobody", "550 5.1.1 no such user here")
    with server:
        server.listener = "data"         # one of LISTENERS: what `port` is, at any time
        ...
        message = server.wait(1)[0]      # bytes, as they lie in the Maildir

It has the attributes that `agent.Agent` wants of a server: `port`, `tls`, `users`, `fingerprint`.

Debian's package conflicts with Postfix, so the program alone is run, from the unpacked package: `.ci/run` puts it where
UNPACKED says. It insists on its own user's name: it runs under an /etc/passwd of the test's, in a mount namespace. Needs
root; `missing()` says what is not there.
"""

import base64
import hashlib
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import time

import trustme

UNPACKED = pathlib.Path(os.environ.get("DMA_TESTS_EXIM", "/var/cache/dma-tests/exim"))
PROGRAMS = (pathlib.Path("/usr/sbin/exim4"), UNPACKED / "usr/sbin/exim4")
UID = 993
PASSWD = f"Debian-exim:x:{UID}:{UID}::/nonexistent:/usr/sbin/nologin\n"

LISTENERS = ("bdat", "data", "serial", "implicit")

CONF = r"""
primary_hostname = {name}
spool_directory = {d}/spool
log_file_path = {d}/log/%s
pid_file_path =
local_interfaces = 127.0.0.1
daemon_smtp_ports = {all_ports}
tls_on_connect_ports = {implicit}
tls_advertise_hosts = *
tls_certificate = {d}/server.pem
auth_advertise_hosts = ${{if def:tls_in_cipher {{*}}}}
chunking_advertise_hosts = ${{if or{{{{eq{{$received_port}}{{{bdat}}}}}{{eq{{$received_port}}{{{implicit}}}}}}} {{*}}}}
pipelining_advertise_hosts = ${{if eq{{$received_port}}{{{serial}}} {{}}{{*}}}}
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
smtp_enforce_sync = true
message_size_limit = 100M
smtp_accept_max = 100
smtp_accept_queue = 0
smtp_accept_queue_per_connection = 0
deliver_drop_privilege = true
never_users =
host_lookup =
rfc1413_hosts =
keep_environment =
acl_smtp_auth = auth
acl_smtp_mail = mail
acl_smtp_rcpt = rcpt
acl_smtp_data = accept

begin acl
auth:
{auth}  accept
mail:
{sender}  accept
rcpt:
  deny  !authenticated = *
        message = 530 5.7.0 Authentication required
{recipient}  accept

begin routers
all:
  driver = accept
  transport = box

begin transports
box:
  driver = appendfile
  directory = {d}/mail
  maildir_format
  batch_max = 100
  create_directory
  directory_mode = 0755
  mode = 0644
  envelope_to_add
  return_path_add

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if eq{{$auth3}}{{${{lookup{{$auth2}}lsearch{{{d}/users}}}}}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if eq{{$auth2}}{{${{lookup{{$auth1}}lsearch{{{d}/users}}}}}}}}
  server_set_id = $auth1
"""


def program():
    return next((str(path) for path in PROGRAMS if path.exists()), "")


def missing():
    """Why there can be no Exim here, "" when there can."""
    if os.geteuid() != 0:
        return "needs root: Exim changes users"
    if not program():
        return f"needs exim4: apt-get download exim4-daemon-light; dpkg -x exim4-daemon-light_*.deb {UNPACKED}"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode != 0:
        return "needs a mount namespace: unshare --mount is not allowed here"
    return ""


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Exim:
    """`users`: login -> password; nobody else may send."""

    host = "127.0.0.1"
    name = "exim.example.test"

    def __init__(self, *, users, listener="bdat"):
        self.users = users
        self.listener = listener
        self.authority = trustme.CA()
        issued = self.authority.issue_cert("localhost", "127.0.0.1", self.name)
        self.fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())).hexdigest()
        self.ports = {name: _free_port() for name in LISTENERS}
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="exim-"))
        self.directory.chmod(0o755)
        (self.directory / "server.pem").write_bytes(issued.private_key_and_cert_chain_pem.bytes())
        self._rules = {"sender": "", "recipient": "", "auth": ""}
        self._process = None

    @property
    def port(self):
        return self.ports[self.listener]

    @property
    def tls(self):
        return "implicit" if self.listener == "implicit" else "starttls"

    def write_authority(self, path):
        """The authority's certificate as PEM, for clients that verify."""
        self.authority.cert_pem.write_to_path(str(path))

    def refuse(self, local_part, reply, *, stage="recipient"):
        """Answer `reply` to every RCPT (or MAIL, with stage="sender") for such a local part. Before `start`."""
        verb = "deny" if reply.startswith("5") else "defer"
        about = "local_parts" if stage == "recipient" else "senders"
        pattern = local_part if stage == "recipient" else f"^{local_part}@"
        self._rules[stage] += f"  {verb}  {about} = {pattern}\n        message = {reply}\n"

    def refuse_sign_in(self, login, password, reply):
        """Answer `reply` to `AUTH PLAIN` with these two. Before `start`."""
        said = base64.b64encode(f"\0{login}\0{password}".encode()).decode()
        condition = f"${{if eq{{$smtp_command_argument}}{{PLAIN {said}}}}}"
        self._rules["auth"] += f"  deny  condition = {condition}\n        message = {reply}\n"

    # ------------------------------------------------------------ life

    def start(self):
        d = self.directory
        (d / "passwd").write_text(pathlib.Path("/etc/passwd").read_text() + PASSWD)
        (d / "group").write_text(pathlib.Path("/etc/group").read_text() + f"Debian-exim:x:{UID}:\n")
        (d / "users").write_text("".join(f"{user}: {password}\n" for user, password in self.users.items()))
        for name in ("spool", "log", "mail"):
            (d / name).mkdir()
            os.chown(d / name, UID, UID)
        os.chown(d / "server.pem", UID, UID)
        ports = " : ".join(str(port) for port in self.ports.values())
        (d / "conf").write_text(CONF.format(d=d, name=self.name, all_ports=ports, **self.ports, **self._rules))
        cover = f"mount --bind {d}/passwd /etc/passwd && mount --bind {d}/group /etc/group"
        words = f"{cover} && exec {program()} -C {d}/conf -bdf"
        with open(d / "stderr", "wb") as said:
            shell = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", words]
            self._process = subprocess.Popen(shell, stderr=said)
        deadline = time.monotonic() + 20
        for port in self.ports.values():
            while True:
                try:
                    socket.create_connection((self.host, port), 1).close()
                    break
                except OSError:
                    if time.monotonic() > deadline or self._process.poll() is not None:
                        raise AssertionError(self.lines()) from None
                    time.sleep(0.05)
        return self

    def stop(self):
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *error):
        self.stop()

    # ------------------------------------------------------------ what arrived

    def messages(self):
        """What lies in the Maildir, oldest first."""
        found = sorted((self.directory / "mail").glob("new/*"), key=lambda path: (path.stat().st_mtime_ns, path.name))
        return [path.read_bytes() for path in found]

    def clear(self):
        for path in (self.directory / "mail").glob("new/*"):
            path.unlink()

    def wait(self, count=1, seconds=20):
        deadline = time.monotonic() + seconds
        while len(found := self.messages()) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(found)} of {count} messages arrived in {seconds} s; the log says: {self.lines()}")
            time.sleep(0.05)
        return found

    def lines(self):
        """The logs, and what it said."""
        places = [*(self.directory / "log").glob("*"), self.directory / "stderr"]
        return "".join(path.read_text(errors="replace") for path in places if path.exists())
