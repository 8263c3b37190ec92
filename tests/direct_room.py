"""Run inside a network namespace of its own (`unshare --net --mount`): nsd at port 53, mail exchangers at port 25, and the
real programs with the machine's own resolver. Prints what happened as JSON.

    unshare --net --mount python tests/direct_room.py DIRECTORY

/etc/resolv.conf and /etc/hosts are covered by files of the room; the machine's own are not touched.
"""

import fcntl
import json
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import time

from agent import Agent
from mail_server import MailServer

NSD = "/usr/sbin/nsd"
ZONES = {
    "example.test": """
@        MX 10 dead
@        MX 20 both
@        MX 30 spare
dead     A    127.0.0.9
both     AAAA 2001:db8::25
both     A    127.0.0.2
spare    A    127.0.0.3
""",
    "plain.test": "@ A 127.0.0.3\n",
    "sixth.test": "@ AAAA ::1\n",
    "null.test": "@ MX 0 .\n",
    "alias.test": "@ TXT nothing\nmail CNAME mx\nmx MX 5 host\nhost A 127.0.0.3\n",
    "xn--mller-kva.test": "@ MX 10 mx\nmx CNAME real\nreal A 127.0.0.3\n",
    "half.test": "@ MX 10 nowhere\n",
}
SOA = "$ORIGIN {zone}.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n"
CONF = """
server:
  ip-address: 127.0.0.1@53
  username: ""
  zonesdir: {d}
  database: ""
  pidfile: {d}/nsd.pid
  xfrdfile: ""
  zonelistfile: {d}/zone.list
  logfile: {d}/nsd.log
  server-count: 1
remote-control:
  control-enable: no
"""


def up():
    """The loopback device on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(sock, 0x8913, request))[1]  # SIOCGIFFLAGS
        fcntl.ioctl(sock, 0x8914, struct.pack("16sH14x", b"lo", flags | 1))  # SIOCSIFFLAGS, IFF_UP


def cover(path, text, directory):
    own = directory / path.replace("/", "_")
    own.write_text(text)
    subprocess.run(["mount", "--bind", str(own), path], check=True)


def name_server(directory, zones=ZONES):
    """nsd at port 53 of the loopback device, as soon as it answers."""
    conf = CONF.format(d=directory)
    for zone, text in zones.items():
        (directory / zone).write_text(SOA.format(zone=zone) + text)
        conf += f"zone:\n  name: {zone}\n  zonefile: {zone}\n"
    (directory / "nsd.conf").write_text(conf)
    process = subprocess.Popen([NSD, "-d", "-c", str(directory / "nsd.conf")])
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", 53), 1).close()
            return process
        except OSError:
            time.sleep(0.05)
    raise AssertionError((directory / "nsd.log").read_text())


def listen(host):
    server = MailServer(tls="starttls")
    server.host, server.port = host, 25
    return server.start()


def is_report(message):
    return b"multipart/report" in message.content


def main(directory):
    up()
    cover("/etc/resolv.conf", "nameserver 127.0.0.1\n", directory)
    cover("/etc/hosts", "127.0.0.1 localhost\n", directory)
    names = name_server(directory)
    servers = {host: listen(host) for host in ("127.0.0.2", "127.0.0.3", "::1")}
    agent = Agent(directory)
    said = {}
    try:
        recipients = [
            "a@example.test", "b@plain.test", "c@sixth.test", "d@mail.alias.test", "e@müller.test", "f@[127.0.0.3]",
            "g@null.test", "h@nowhere.test", "i@alias.test", "j@half.test", "k@broken.test",
        ]  # fmt: skip
        begun = time.monotonic()
        ran = agent.run("-D", "-f", "me@plain.test", *recipients, stdin=b"Subject: one\n\nhello\n")
        said["seconds"] = time.monotonic() - begun
        said["log"] = ran.stderr.decode()
        report = None
        deadline = time.monotonic() + 20
        while report is None and time.monotonic() < deadline:
            report = next((m for m in servers["127.0.0.3"].messages if is_report(m)), None)
            time.sleep(0.05)
        said["report"] = report.content.decode() if report is not None else ""
        said["got"] = {
            host: [(m.recipients, bool(m.tls)) for m in server.messages if not is_report(m)] for host, server in servers.items()
        }
        said["queue"] = {one["address"]: one for row in agent.queue() for one in row["recipients"]}
    finally:
        agent.close()
        for server in servers.values():
            server.stop()
        names.terminate()
        names.wait(10)
    print(json.dumps(said))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
    shutil.rmtree(sys.argv[1], ignore_errors=True)
