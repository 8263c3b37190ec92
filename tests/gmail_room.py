"""A room in which smtp.gmail.com is a server of ours: a mount and network namespace with its own hosts file,
loopback and empty /var/mail.

    unshare -mn python tests/gmail_room.py OPTIONS -- COMMAND…        (root; `unshare -rmn` where users may do that)

OPTIONS is JSON: {"users": {login: password}, "refusals": [reply, …], "ports": {"465": "implicit", "587": "starttls"},
"folder": DIR, "result": FILE, "user": uid to run as, or 0, "path": PATH of the command, "bus": socket of the session bus
that the person of the tests has, if any, "name": another name of the servers, "resolves": false where no name does,
"hangs": a stage at which the servers fall silent}. A port may also be "silent": nothing ever answers, as behind a firewall.
The command inherits the terminal; afterwards `result` holds what the servers saw.
"""

import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys

NAME = "smtp.gmail.com"


def loopback_up():
    """SIOCGIFFLAGS and SIOCSIFFLAGS, netdevice(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = fcntl.ioctl(any_socket, 0x8913, struct.pack("16sh14x", b"lo", 0))
        flags = struct.unpack("16sh14x", request)[1] | 0x1
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", flags))


def own_hosts(folder, name):
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {name}\n127.0.0.1 {socket.gethostname()}\n")
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
    crontabs = pathlib.Path("/var/spool/cron/crontabs")
    if crontabs.is_dir() and os.geteuid() == 0:
        private = folder / "crontabs"
        private.mkdir(exist_ok=True)
        shutil.copystat(crontabs, private)
        os.chown(private, crontabs.stat().st_uid, crontabs.stat().st_gid)
        private.chmod(crontabs.stat().st_mode & 0o7777)
        subprocess.run(["mount", "--bind", str(private), str(crontabs)], check=True)
    empty = folder / "resolv.conf"
    empty.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    subprocess.run(["mount", "--bind", str(empty), os.path.realpath("/etc/resolv.conf")], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=2775", "tmpfs", "/var/mail"], check=True)


def own_bus(uid, socket_path):
    """/run/user/UID/bus leads to a bus of the test's own."""
    people = pathlib.Path("/run/user")
    people.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(people)], check=True)
    (people / str(uid)).mkdir()
    (people / str(uid) / "bus").symlink_to(socket_path)


def never_answering(port):
    """A port whose backlog is full: the kernel drops what comes, as a firewall does."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", port))
    listener.listen(0)
    fill = socket.create_connection(("127.0.0.1", port))
    return listener, fill


def trust(folder, authority):
    """Let the machine's own store of authorities hold this one, for programs whose environment says nothing of it."""
    store = pathlib.Path("/etc/ssl/certs")
    private = folder / "certs"
    shutil.copytree(store, private, symlinks=True)
    words = ["openssl", "x509", "-noout", "-hash", "-in", str(authority)]
    name = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    shutil.copy(authority, private / f"{name}.0")
    subprocess.run(["mount", "--bind", str(private), str(store)], check=True)


def with_postfix(options, command, folder):
    """smtp.gmail.com is a real Postfix, its answers worded as Gmail words them; the result holds what arrived as text."""
    from postfix import GMAIL, Postfix

    class Gmail(Postfix):
        name = NAME

    server = Gmail(users=options["users"], listener="implicit")
    server.ports.update({"implicit": 465, "starttls": 587})
    server.refuse("nobody@", GMAIL["no such user"])
    with server:
        server.write_authority(folder / "ca.pem")
        trust(folder, folder / "ca.pem")
        status = subprocess.run(command, env={**os.environ, "PATH": options["path"]}, check=False).returncode
        arrived = [text.decode("utf-8", "replace") for text in server.raw()]
        logins = server.logins()
    pathlib.Path(options["result"]).write_text(json.dumps({"messages": arrived, "logins": logins}))
    return status


def main():
    options = json.loads(sys.argv[1])
    command = sys.argv[sys.argv.index("--") + 1 :]
    folder = pathlib.Path(options["folder"])
    loopback_up()
    name = options.get("name") or NAME
    own_hosts(folder, name if options.get("resolves", True) else "")
    if options.get("bus"):
        own_bus(options["user"], options["bus"])
    if options.get("postfix"):
        return with_postfix(options, command, folder)
    from mail_server import HANG, Certificate, MailServer

    certificate = Certificate(name)
    certificate.write_authority(folder / "ca.pem")
    servers, silent = [], []
    for port, tls in options["ports"].items():
        if tls == "silent":
            silent.append(never_answering(int(port)))
            continue
        server = MailServer(tls=tls, users=options["users"], certificate=certificate, name="mx.google.com")
        server.port = int(port)
        servers.append(server.start())
        for reply in options["refusals"]:
            server.refuse("AUTH", reply, times=1)
        if options.get("hangs"):
            server.refuse(options["hangs"], HANG)
    if options["user"]:
        # An ordinary user became root only to furnish the room; the command runs as who it was.
        user = options["user"]
        command = [shutil.which("unshare"), "-U", f"--map-user={user}", f"--map-group={user}", *command]
    # The command finds nothing but what it installs: no crontab, no systemctl of the person who runs the tests.
    environment = {**os.environ, "PATH": options["path"], "SSL_CERT_FILE": str(folder / "ca.pem")}
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command
    started = subprocess.Popen(command, env=environment, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    status = started.wait()
    messages = [[message.sender, message.recipients, message.login] for server in servers for message in server.messages]
    logins = [login for server in servers for login in server.logins]
    pathlib.Path(options["result"]).write_text(json.dumps({"messages": messages, "logins": logins}))
    for server in servers:
        server.stop()
    return status


if __name__ == "__main__":
    sys.exit(main())
