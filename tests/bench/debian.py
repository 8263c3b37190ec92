"""Debian's mail agents, each in a root tree of its own (`peers.sh` makes them): $BENCH_PEERS/NAME.

Nothing of the machine's own mail is touched: programs run below `chroot`, and are ended by pid, those whose executable
lies in the tree. All speak to a sink on loopback. An agent that is not there is skipped with the reason; so are all when
we are not root.
"""

import os
import pathlib
import shutil
import subprocess
import time

from tests.bench import place

TREES = pathlib.Path(os.environ.get("BENCH_PEERS", "/var/cache/dma-bench/peers"))
USER = 1000  # `bench`, whom peers.sh makes


class Peer:
    name = ""
    tree = ""
    program = ""  # whose presence says that the peer is there
    spool = ()  # directories of the queue
    send = "/usr/sbin/sendmail"
    list = "/usr/bin/mailq"

    def __init__(self, where):
        self.where = where
        self.root = TREES / (self.tree or self.name)

    def missing(self):
        if os.geteuid() != 0:
            return "needs root: peers run in root trees of their own"
        if not (self.root / self.program.lstrip("/")).exists():
            return f"needs {self.root}: tests/bench/peers.sh makes it"
        return ""

    def alone(self):
        """Nothing left of an earlier run, and no name server to be asked: SASL looks up the machine's own name."""
        self.stop()
        self.write("/etc/hosts", f"127.0.0.1 localhost bench.test {os.uname().nodename}\n")
        self.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")

    def write(self, path, text, mode=0o644, owner=""):
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)
        if owner:
            self.run("chown", owner, path)

    def run(self, *words):
        return subprocess.run(["chroot", str(self.root), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def background(self, *words):
        quiet = subprocess.DEVNULL
        return subprocess.Popen(["chroot", str(self.root), *words], stdin=quiet, stdout=quiet, stderr=quiet)

    def fill(self, count, size):
        """By real submissions, four at once."""
        self.submit(count, size, at_once=4)

    def ready(self):
        pass

    def files(self):
        for part in self.spool:
            for directory, _, names in os.walk(self.root / part.lstrip("/")):
                for name in names:
                    yield os.path.join(directory, name)

    def left(self):
        return sum(1 for _ in self.files())

    def clear(self):
        for path in list(self.files()):
            os.unlink(path)

    def submit(self, count, size, at_once=1):
        self.where.message(size, self.root)
        words = [self.send, *self.submit_options, "-i", "-t"]
        return place.start(words, count, stdin=f"/message{size}", root=str(self.root), uid=USER, at_once=at_once)

    submit_options = ()

    def listing(self, count):
        return place.start([self.list], count, root=str(self.root))

    def pids(self):
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    program = os.readlink(f"/proc/{name}/exe")
                except OSError:
                    continue
                if program.startswith(f"{self.root}/"):
                    found.append(int(name))
        return found

    def stop(self):
        place.end(self.pids)


class Dma(Peer):
    name = "dma"
    program = "/usr/sbin/dma"
    spool = ("/var/spool/dma",)
    submit_options = ("-bq",)

    def setup(self, port):
        self.alone()
        self.clear()
        conf = f"SMARTHOST 127.0.0.1\nPORT {port}\nMAILNAME bench.test\n"
        conf += "AUTHPATH /etc/dma/auth.conf\nSECURETRANSFER\nSTARTTLS\n"
        self.write("/etc/dma/dma.conf", conf, 0o640, "root:mail")
        self.write("/etc/dma/auth.conf", "user|127.0.0.1:pass\n", 0o640, "root:mail")

    def fill(self, count, size):
        """Beyond what is quick by submissions: copies of one, under other names."""
        first = min(count, 1000)
        self.submit(first, size, at_once=4)
        queued = next(path for path in self.files() if "/Q" in path)
        text, message = pathlib.Path(queued).read_text(), pathlib.Path(queued.replace("/Q", "/M")).read_text()
        old, kind = os.path.basename(queued)[1:], os.stat(queued)
        for number in range(first, count):
            new = f"{number:x}.55d{number:08x}"
            for letter, data in (("M", message), ("Q", text.replace(old, new))):
                path = self.root / "var/spool/dma" / (letter + new)
                path.write_text(data)
                os.chown(path, kind.st_uid, kind.st_gid)
                path.chmod(0o660)

    def left(self):
        return sum(1 for path in self.files() if "/Q" in path)

    def drain(self):
        self.run("/usr/sbin/dma", "-q")


class Nullmailer(Peer):
    name = "nullmailer"
    program = "/usr/sbin/nullmailer-send"
    spool = ("/var/spool/nullmailer/queue", "/var/spool/nullmailer/tmp", "/var/spool/nullmailer/failed")

    def setup(self, port):
        self.alone()
        self.clear()
        remote = f"127.0.0.1 smtp --port={port} --starttls --insecure --auth-login --user=user --pass=pass\n"
        self.write("/etc/nullmailer/remotes", remote, 0o640, "root:mail")
        for name in ("me", "defaulthost", "defaultdomain", "helohost"):
            self.write("/etc/nullmailer/" + name, "bench.test\n")

    def fill(self, count, size):
        first = min(count, 1000)
        self.submit(first, size, at_once=4)
        one = next(iter(self.files()))
        kind = os.stat(one)
        for number in range(first, count):
            path = self.root / f"var/spool/nullmailer/queue/1795000000.{100000 + number}"
            shutil.copyfile(one, path)
            os.chown(path, kind.st_uid, kind.st_gid)
            path.chmod(kind.st_mode)

    def drain(self):
        as_mail = ("/usr/bin/setpriv", "--reuid=mail", "--regid=mail", "--clear-groups")
        self.background(*as_mail, "/usr/sbin/nullmailer-send")


class Postfix(Peer):
    name = "postfix"
    program = "/usr/sbin/postfix"
    spool = tuple(f"/var/spool/postfix/{part}" for part in ("maildrop", "incoming", "active", "deferred"))
    reuse = False

    SERVICES = """\
pickup    unix  n  -  n  60    1  pickup
cleanup   unix  n  -  n  -     0  cleanup
qmgr      unix  n  -  n  300   1  qmgr
tlsmgr    unix  -  -  n  1000? 1  tlsmgr
rewrite   unix  -  -  n  -     -  trivial-rewrite
bounce    unix  -  -  n  -     0  bounce
defer     unix  -  -  n  -     0  bounce
trace     unix  -  -  n  -     0  bounce
flush     unix  n  -  n  1000? 0  flush
proxymap  unix  -  -  n  -     -  proxymap
smtp      unix  -  -  n  -     -  smtp
relay     unix  -  -  n  -     -  smtp
showq     unix  n  -  n  -     -  showq
error     unix  -  -  n  -     -  error
retry     unix  -  -  n  -     -  error
discard   unix  -  -  n  -     -  discard
scache    unix  -  -  n  -     1  scache
tlsproxy  unix  -  -  n  -     0  tlsproxy
"""

    def setup(self, port):
        self.alone()
        self.settings = {
            "compatibility_level": "3.6", "myhostname": "bench.test", "mydestination": "",
            "inet_interfaces": "loopback-only", "inet_protocols": "ipv4", "relayhost": f"[127.0.0.1]:{port}",
            "smtp_host_lookup": "native", "smtp_tls_security_level": "encrypt", "smtp_sasl_auth_enable": "yes",
            "smtp_sasl_password_maps": "static:user:pass", "smtp_sasl_security_options": "noanonymous",
            "message_size_limit": "104857600", "smtp_tls_connection_reuse": "yes" if self.reuse else "no",
        }  # fmt: skip
        self.write("/etc/postfix/master.cf", self.SERVICES)
        self._configure()
        self.run("newaliases")
        self.run("/usr/sbin/postsuper", "-d", "ALL")
        self.start()

    def _configure(self, held=True):
        settings = {**self.settings, "defer_transports": "smtp" if held else ""}
        self.write("/etc/postfix/main.cf", "".join(f"{name} = {value}\n" for name, value in settings.items()))

    def start(self):
        self.run("/usr/sbin/postfix", "start")
        time.sleep(1)

    def fill(self, count, size):
        first = min(count, 1000)
        self.submit(first, size, at_once=4)
        place.wait_until(lambda: self.in_queues("deferred") >= first, 120, 0.05)
        if count == first:
            return
        deferred = self.root / "var/spool/postfix/deferred"
        one = next(path for directory, _, names in os.walk(deferred) for path in [os.path.join(directory, n) for n in names])
        data, kind, later = pathlib.Path(one).read_bytes(), os.stat(one), time.time() + 100000
        for number in range(first, count):
            name = f"{number * 7919 % 0xFFFFF:05X}{0x2000000 + number:X}"
            directory = deferred / name[0]
            directory.mkdir(exist_ok=True)
            os.chown(directory, kind.st_uid, kind.st_gid)
            directory.chmod(0o700)
            path = directory / name
            path.write_bytes(data)
            os.chown(path, kind.st_uid, kind.st_gid)
            path.chmod(0o700)
            os.utime(path, (later, later))

    def in_queues(self, *names):
        return sum(1 for path in self.files() if any(f"/{name}/" in path for name in names))

    def ready(self):
        self._configure(held=False)
        self.run("/usr/sbin/postfix", "reload")
        time.sleep(1.5)

    def drain(self):
        self.run("/usr/sbin/postqueue", "-f")


class PostfixReuse(Postfix):
    """With TLS connections reused, which is off as shipped."""

    name = "postfix, reuse on"
    tree = "postfix"
    reuse = True
