"""A private Postfix on loopback: TLS, SASL AUTH by sasldb, answers worded as Gmail words them; mail ends in one Maildir.

    server = Postfix(users={"alice@example.test": "secret"})
    server.refuse("nobody@", GMAIL["no such user"])
    with server:
        ...
        message = server.wait(1)[0]      # email.message.EmailMessage, as it lies in the Maildir
        server.clear()

It has the attributes that `agent.Agent` wants of a server: `port`, `tls`, `users`, `fingerprint`. The machine's own
/etc/postfix is neither read nor written; the instance lives below one directory of its own and is stopped by `stop`.
Needs root (Postfix changes users) and Debian's packages; `missing()` says what is not there.
"""

import email
import email.policy
import hashlib
import os
import pathlib
import pwd
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import textwrap
import time

import trustme

DAEMONS = "/usr/lib/postfix/sbin"
PROGRAMS = {
    "postfix": "postfix",
    "postconf": "postfix",
    "saslpasswd2": "sasl2-bin",
}

# What Gmail's servers say, as Postfix can be made to say it: the reply, and the line a footer adds to it.
GMAIL = {
    "no such user": "550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the "
    "recipient's email address for typos or unnecessary spaces.",
    "over quota": "452 4.2.2 The recipient's inbox is out of storage space. Please direct the recipient to",
    "sending limit": "550 5.4.5 Daily user sending limit exceeded.",
    "too many": "421 4.7.0 Try again later, closing connection.",
    "unauthenticated": "530 5.7.0 Authentication Required. For more information, go to",
}
FOOTERS = r"""
/^535/ Username and Password not accepted. https://support.google.com/mail/?p=BadCredentials a1-20020 - gsmtp
/^5.*does not exist/ https://support.google.com/mail/?p=NoSuchUser a1-20020 - gsmtp
/^4.*out of storage/ https://support.google.com/mail/?p=OverQuotaTemp a1-20020 - gsmtp
/^5.*sending limit/ https://support.google.com/a/answer/166852 a1-20020 - gsmtp
/^530/ https://support.google.com/mail/?p=WantAuthError a1-20020 - gsmtp
"""

# By name, the options of smtpd. `old` offers nothing but STARTTLS and AUTH.
LISTENERS = {
    "starttls": [],
    "implicit": ["smtpd_tls_wrappermode=yes"],
    "old": ["smtpd_discard_ehlo_keywords=chunking,pipelining,8bitmime,size,dsn,smtputf8,enhancedstatuscodes,vrfy,etrn"],
}


def missing():
    """Why there can be no Postfix here, "" when there can."""
    if os.geteuid() != 0:
        return "needs root: Postfix changes users"
    for program, package in PROGRAMS.items():
        if shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            return f"needs {program}: apt install {package}"
    if not any(pathlib.Path("/usr/lib").glob("**/sasl2/libplain.so")):
        return "needs SASL mechanisms: apt install libsasl2-modules"
    return ""


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Postfix:
    """`users`: login -> password; nobody else may send. `listener`: which of LISTENERS `port` is, at any time."""

    host = "127.0.0.1"
    name = "smtp.example.test"

    def __init__(self, *, users, listener="starttls", settings=None):
        self.users = users
        self.listener = listener
        self.authority = trustme.CA()
        self._issued = self.authority.issue_cert("localhost", "127.0.0.1", self.name)
        pem = self._issued.cert_chain_pems[0].bytes().decode()
        self.fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
        self.ports = {name: _free_port() for name in LISTENERS}
        self.settings = settings or {}
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="postfix-"))
        self.directory.chmod(0o755)  # Postfix' user enters it
        self.config = self.directory / "etc"
        self.mail = self.directory / "mail"
        self.log = self.directory / "log"
        self._answers = {"sender": [], "recipient": []}

    @property
    def port(self):
        return self.ports[self.listener]

    @property
    def tls(self):
        return "implicit" if self.listener == "implicit" else "starttls"

    def write_authority(self, path):
        """The authority's certificate as PEM, for clients that verify."""
        self.authority.cert_pem.write_to_path(str(path))

    # ------------------------------------------------------------ scripts

    def refuse(self, pattern, reply, *, stage="recipient"):
        """Answer `reply` to every RCPT (or MAIL, with stage="sender") whose address matches `pattern`. Before `start`."""
        self._answers[stage].append((pattern, reply))

    # ------------------------------------------------------------ life

    def start(self):
        owner = pwd.getpwnam("postfix")
        for place in (self.config, self.directory / "queue", self.directory / "data", self.mail, self.config / "sasl"):
            place.mkdir()
        os.chown(self.directory / "data", owner.pw_uid, -1)
        os.chown(self.mail, owner.pw_uid, owner.pw_gid)
        self._certificates()
        self._users(owner)
        (self.config / "footers").write_text(FOOTERS)
        for stage, answers in self._answers.items():
            (self.config / stage).write_text("".join(f"/{pattern}/ {reply}\n" for pattern, reply in answers))
        (self.config / "main.cf").write_text(self._main(owner))
        (self.config / "master.cf").write_text(self._master())
        self._control("start")
        self._wait_for_ports()
        return self

    def _wait_for_ports(self):
        deadline = time.monotonic() + 20
        for port in self.ports.values():
            while True:
                try:
                    socket.create_connection((self.host, port), 1).close()
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)

    def stop(self):
        try:
            self._control("stop")
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def pause(self):
        """Nobody listens any more; what arrived is kept."""
        self._control("stop")

    def resume(self):
        self._control("start")
        self._wait_for_ports()

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *error):
        self.stop()

    def _control(self, verb):
        ran = subprocess.run(
            ["postfix", "-c", str(self.config), verb],
            capture_output=True,
            text=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            timeout=60,
        )
        if verb == "start" and ran.returncode:
            raise RuntimeError(f"postfix start: {ran.stderr} {self.lines()}")

    # ------------------------------------------------------------ what arrived

    def messages(self):
        """What lies in the Maildir, oldest first."""
        found = [*self.mail.glob("inbox/new/*")]
        found.sort(key=lambda path: (path.stat().st_mtime_ns, path.name))
        return [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in found]

    def raw(self):
        """As `messages`, the bytes."""
        return [path.read_bytes() for path in self.mail.glob("inbox/new/*")]

    def clear(self):
        """Forget what arrived."""
        for path in self.mail.glob("inbox/new/*"):
            path.unlink()

    def wait(self, count=1, seconds=20):
        """The messages, as soon as there are `count`. Raises TimeoutError with the log."""
        deadline = time.monotonic() + seconds
        while len(found := self.messages()) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(found)} of {count} messages arrived in {seconds} s; the log says: {self.lines()}")
            time.sleep(0.05)
        return found

    def lines(self):
        """The log."""
        try:
            return self.log.read_text()
        except FileNotFoundError:
            return ""

    def logins(self):
        """The logins that succeeded, in their order: (mechanism, user)."""
        return re.findall(r"sasl_method=(\S+), sasl_username=(\S+)", self.lines())

    # ------------------------------------------------------------ its files

    def _certificates(self):
        path = self.config / "server.pem"
        path.write_bytes(self._issued.private_key_and_cert_chain_pem.bytes())
        path.chmod(0o600)

    def _users(self, owner):
        database = self.config / "sasldb2"
        for login, password in self.users.items():
            user, _, realm = login.partition("@")
            subprocess.run(
                ["/usr/sbin/saslpasswd2", "-p", "-c", "-f", str(database), "-u", realm or self.name, user],
                input=password.encode(),
                check=True,
                capture_output=True,
            )
        os.chown(database, owner.pw_uid, -1)
        (self.config / "sasl" / "smtpd.conf").write_text(
            "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN CRAM-MD5\n"
            f"sasldb_path: {database}\nlog_level: 3\n"
        )

    def _main(self, owner):
        restrictions = (
            f"check_sender_access regexp:{self.config}/sender, check_recipient_access regexp:{self.config}/recipient"
        )
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": self.directory / "queue",
            "data_directory": self.directory / "data",
            "command_directory": "/usr/sbin",
            "daemon_directory": DAEMONS,
            "meta_directory": "/etc/postfix",
            "mail_owner": "postfix",
            "setgid_group": "postdrop",
            "myhostname": self.name,
            "mydomain": "example.test",
            "mydestination": "",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "maillog_file": self.log,
            "maillog_file_prefixes": self.directory,
            "alias_maps": "",
            "local_recipient_maps": "",
            "default_transport": "error:nothing leaves this machine",
            "relay_transport": "error:nothing leaves this machine",
            "virtual_mailbox_domains": "static:all",
            "virtual_mailbox_maps": "static:inbox/",
            "virtual_mailbox_base": self.mail,
            "virtual_uid_maps": f"static:{owner.pw_uid}",
            "virtual_gid_maps": f"static:{owner.pw_gid}",
            "virtual_minimum_uid": "1",
            "mailbox_size_limit": "0",
            "virtual_mailbox_limit": "0",
            "message_size_limit": "104857600",
            "smtpd_tls_chain_files": self.config / "server.pem",
            "smtpd_tls_security_level": "encrypt",
            "smtpd_tls_auth_only": "yes",
            "smtpd_tls_loglevel": "1",
            "smtpd_tls_received_header": "yes",
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_sasl_type": "cyrus",
            "smtpd_sasl_path": "smtpd",
            "cyrus_sasl_config_path": self.config / "sasl",
            "smtpd_sasl_local_domain": self.name,
            "smtpd_sasl_authenticated_header": "yes",
            "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
            "smtpd_recipient_restrictions": f"{restrictions}, permit_sasl_authenticated, reject",
            "smtpd_delay_reject": "no",
            "smtpd_sender_restrictions": f"check_sender_access regexp:{self.config}/sender, permit_sasl_authenticated, "
            f"check_sender_access static:{{{GMAIL['unauthenticated']}}}",
            "smtpd_reject_footer_maps": f"regexp:{self.config}/footers",
            "smtpd_client_connection_rate_limit": "0",
            "smtpd_error_sleep_time": "0",
            "disable_dns_lookups": "yes",
            "smtputf8_enable": "yes",
            **self.settings,
        }
        return "".join(f"{key} = {value}\n" for key, value in settings.items())

    def _master(self):
        listeners = "".join(
            f"127.0.0.1:{port} inet n - n - - smtpd" + "".join(f"\n  -o {option}" for option in LISTENERS[name]) + "\n"
            for name, port in self.ports.items()
        )
        return listeners + textwrap.dedent(
            """\
            cleanup unix n - n - 0 cleanup
            qmgr unix n - n 300 1 qmgr
            tlsmgr unix - - n 1000? 1 tlsmgr
            rewrite unix - - n - - trivial-rewrite
            bounce unix - - n - 0 bounce
            defer unix - - n - 0 bounce
            trace unix - - n - 0 bounce
            verify unix - - n - 1 verify
            proxymap unix - - n - - proxymap
            error unix - - n - - error
            retry unix - - n - - error
            virtual unix - n n - - virtual
            anvil unix - - n - 1 anvil
            postlog unix-dgram n - n - 1 postlogd
            """
        )
