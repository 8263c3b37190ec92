"""Run inside a network namespace of its own (`unshare --net --mount`): nsd at port 53, an HTTPS server at port 443, mail
servers at ports 465 and 587, and the real `dma-setup auto`. Prints what happened as JSON.

    unshare --net --mount python tests/auto_room.py DIRECTORY

/etc/resolv.conf and /etc/hosts are covered by files of the room; the machine's own are not touched.
"""

import http.server
import json
import pathlib
import shutil
import socket
import ssl
import sys
import threading
import time

import trustme
from direct_room import cover, name_server, up
from mail_server import Certificate, MailServer
from secret_service import end_all
from setup_home import PASSWORD, PROGRAM, Home
from virtual_terminal import VirtualTerminal

HERE = "127.0.0.2"
ZONES = {
    "inside.test": f"_submissions._tcp SRV 0 1 465 smtp\nsmtp A {HERE}\n",
    "outside.test": "_submissions._tcp SRV 0 1 465 smtp.provider.test.\n",
    "provider.test": f"smtp A {HERE}\n",
    "blocked.test": f"_submissions._tcp SRV 0 1 4650 smtp\n_submission._tcp SRV 0 1 587 smtp\nsmtp A {HERE}\n",
    "refused.test": "_submissions._tcp SRV 0 0 0 .\n_submission._tcp SRV 0 0 0 .\n",
    "conf.test": f"autoconfig A {HERE}\nsmtp A {HERE}\n",
    "wellknown.test": f"@ A {HERE}\nsmtp A {HERE}\n",
    "hosted.test": "@ MX 10 in1-smtp.messagingengine.com.\n",
    "guess.test": f"smtp A {HERE}\n",
    "none.test": "@ TXT \"v=spf1 -all\"\n",
    "listed.test": f"smtp A {HERE}\n",
    "autoconfig.thunderbird.net": f"@ A {HERE}\n",
}  # fmt: skip
NAMES = ["smtp.inside.test", "smtp.provider.test", "smtp.blocked.test", "smtp.conf.test", "smtp.wellknown.test"]
NAMES += ["smtp.guess.test", "smtp.listed.test", "autoconfig.conf.test", "wellknown.test", "autoconfig.thunderbird.net"]
PEOPLE = ["alice@inside.test", "bob@outside.test", "bea@blocked.test", "carol", "wendy", "grace@listed.test"]

PAGE = """<clientConfig version="1.1"><emailProvider id="x"><outgoingServer type="smtp"><hostname>smtp.{domain}</hostname>
<port>587</port><socketType>STARTTLS</socketType><username>{login}</username><authentication>password-cleartext</authentication>
</outgoingServer></emailProvider></clientConfig>"""
PAGES = {
    ("autoconfig.conf.test", "/mail/config-v1.1.xml"): PAGE.format(domain="conf.test", login="%EMAILLOCALPART%"),
    ("wellknown.test", "/.well-known/autoconfig/mail/config-v1.1.xml"): PAGE.format(
        domain="wellknown.test", login="%EMAILLOCALPART%"
    ),
    ("autoconfig.thunderbird.net", "/v1.1/listed.test"): PAGE.format(domain="listed.test", login="%EMAILADDRESS%"),
}


class Shared(Certificate):
    """A certificate for all names of the room."""

    def __init__(self, authority):
        self.authority = authority
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*NAMES).configure_cert(self.context)
        self.fingerprint = ""


class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        host, path = self.headers["Host"], self.path.partition("?")[0]
        self.server.asked.append(f"{host}{self.path}")
        body = PAGES.get((host, path), "")
        self.send_response(200 if body else 404)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


def web_server(certificate):
    server = http.server.ThreadingHTTPServer((HERE, 443), Web)
    server.socket = certificate.context.wrap_socket(server.socket, server_side=True)
    server.asked = []
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


def mail_server(certificate, tls, port):
    server = MailServer(tls=tls, users=dict.fromkeys(PEOPLE, PASSWORD), certificate=certificate)
    server.host, server.port = HERE, port
    return server.start()


class Room:
    def __init__(self, directory):
        self.directory = directory
        authority = trustme.CA()
        self.bundle = str(directory / "authorities.pem")
        authority.cert_pem.write_to_path(self.bundle)
        certificate = Shared(authority)
        self.names = name_server(directory, ZONES)
        self.web = web_server(certificate)
        self.mail = [mail_server(certificate, "implicit", 465), mail_server(certificate, "starttls", 587)]
        self.plugged = socket.create_server((HERE, 4650))  # takes connections and never says a word
        self.homes = 0

    def home(self):
        self.homes += 1
        home = Home(self.directory / f"home{self.homes}")
        home.environment["SSL_CERT_FILE"] = self.bundle
        return home

    def auto(self, address, *words):
        """What `dma-setup auto ADDRESS` says and what the servers saw of it."""
        home = self.home()
        answers = home.answers("password: {env: DMA_PW}\nkeyring: file\n", f"answers{self.homes}.yml")
        logins = [len(server.logins) for server in self.mail]
        taken = [len(server.messages) for server in self.mail]
        commands = [len(server.commands) for server in self.mail]
        asked = len(self.web.asked)
        began = time.monotonic()
        done = home.run("auto", address, "--user", "--answers", answers, "--yes", *words)
        seconds = time.monotonic() - began
        end_all(home.path)
        both = list(zip(self.mail, logins, taken, commands, strict=True))
        return {
            "status": done.returncode,
            "out": done.stdout,
            "errors": done.stderr,
            "seconds": seconds,
            "logins": [one for server, since, _, _ in both for one in server.logins[since:]],
            "verbs": sorted({verb for server, _, _, since in both for _, verb, _ in server.commands[since:]}),
            "messages": [[m.sender, m.login, m.tls] for server, _, since, _ in both for m in server.messages[since:]],
            "asked": self.web.asked[asked:],
            "written": sorted(str(path.relative_to(home.path)) for path in home.path.rglob("*") if path.is_file()),
        }

    def in_a_terminal(self, address, answer):
        home = self.home()
        logins = sum(len(server.logins) for server in self.mail)
        terminal = VirtualTerminal([str(PROGRAM), "auto", address, "--user"], home.environment, str(self.directory))
        terminal.wait("right server for your password?")
        terminal.type(answer)
        terminal.wait("nothing was changed" if answer == "n" else "Password:")
        screen = terminal.text
        if answer != "n":
            terminal.interrupt()
        terminal.end()
        return {"screen": screen, "logins": sum(len(server.logins) for server in self.mail) - logins}

    def close(self):
        for server in self.mail:
            server.stop()
        self.web.shutdown()
        self.plugged.close()
        self.names.terminate()
        self.names.wait(10)


def main(directory):
    up()
    cover("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n", directory)
    cover("/etc/hosts", "127.0.0.1 localhost\n", directory)
    room = Room(directory)
    try:
        said = {
            "inside": room.auto("alice@inside.test"),
            "outside": room.auto("bob@outside.test"),
            "trusted": room.auto("bob@outside.test", "--trust", "smtp.provider.test"),
            "blocked": room.auto("bea@blocked.test", "--check"),
            "conf": room.auto("carol@conf.test", "--no-ispdb"),
            "wellknown": room.auto("wendy@wellknown.test", "--no-ispdb", "--check"),
            "listed": room.auto("grace@listed.test", "--check"),
            "unlisted": room.auto("grace@listed.test", "--no-ispdb"),
            "hosted": room.auto("dave@hosted.test"),
            "guess": room.auto("erin@guess.test"),
            "refused": room.auto("frank@refused.test"),
            "none": room.auto("frank@none.test"),
            "document": room.auto("alice@inside.test", "--check", "--json"),
            "no": room.in_a_terminal("bob@outside.test", "n"),
            "yes": room.in_a_terminal("bob@outside.test", "y"),
        }
    finally:
        room.close()
    print(json.dumps(said))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
    shutil.rmtree(sys.argv[1], ignore_errors=True)
