"""A small mail server for setup's tests: TLS from the start or STARTTLS, AUTH PLAIN and LOGIN, answers as scripted.

`SignOnServer(passwords={"login": "password"}, refusals=["534-5.7.9 …"])`: each refusal is the answer to one wrong sign-in,
the last one to all that follow. `mail` holds what was taken: (sender, recipients, bytes).
"""

import base64
import hashlib
import socket
import ssl
import threading

import trustme


class Certificate:
    """A certificate for `names` from an authority of its own; `authority` is the PEM text to trust."""

    def __init__(self, *names):
        authority = trustme.CA()
        issued = authority.issue_cert(*names)
        self.authority = authority.cert_pem.bytes().decode()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued.configure_cert(self.context)
        pem = issued.cert_chain_pems[0].bytes().decode()
        self.fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


class SignOnServer:
    def __init__(
        self, certificate, *, implicit=False, passwords=None, refusals=(), port=0, final="250 2.0.0 OK 1736671269 - test"
    ):
        self.certificate = certificate
        self.implicit = implicit
        self.passwords = passwords
        self.refusals = list(refusals) or ["535 5.7.8 Username and Password not accepted"]
        self.final = final
        self.mail = []
        self.sign_ins = []
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection):
        try:
            with connection:
                self._dialogue(connection)
        except (OSError, ValueError):
            pass

    def _dialogue(self, connection):
        secured = self.implicit
        if secured:
            connection = self.certificate.context.wrap_socket(connection, server_side=True)
        lines = connection.makefile("rb")

        def say(text):
            connection.sendall(text.encode() + b"\r\n")

        sender, recipients = "", []
        say("220 relay.test ESMTP")
        while line := lines.readline():
            words = line.decode("latin-1").strip()
            verb = words.split(" ")[0].upper()
            if verb in ("EHLO", "HELO"):
                offered = ["relay.test", "8BITMIME", "PIPELINING", "ENHANCEDSTATUSCODES"]
                if not secured:
                    offered.append("STARTTLS")
                elif self.passwords is not None:
                    offered.append("AUTH PLAIN LOGIN")
                say("\r\n".join(f"250{'-' if at < len(offered) - 1 else ' '}{text}" for at, text in enumerate(offered)))
            elif verb == "STARTTLS":
                say("220 2.0.0 go on")
                connection = self.certificate.context.wrap_socket(connection, server_side=True)
                lines = connection.makefile("rb")
                secured = True
            elif verb == "AUTH":
                say(self._auth(words, say, lines))
            elif verb == "MAIL":
                sender, recipients = words.partition("<")[2].partition(">")[0], []
                say("250 2.1.0 OK")
            elif verb == "RCPT":
                recipients.append(words.partition("<")[2].partition(">")[0])
                say("250 2.1.5 OK")
            elif verb == "DATA":
                say("354 go on")
                data = b""
                while (text := lines.readline()) not in (b".\r\n", b""):
                    data += text
                self.mail.append((sender, recipients, data))
                say(self.final)
            elif verb == "QUIT":
                say("221 2.0.0 bye")
                return
            else:
                say("250 2.0.0 OK")

    def _auth(self, words, say, lines):
        parts = words.split(" ")
        if parts[1].upper() == "PLAIN":
            if len(parts) < 3:
                say("334 ")
                parts.append(lines.readline().decode().strip())
            _, user, password = base64.b64decode(parts[2]).decode().split("\0")
        else:
            say("334 VXNlcm5hbWU6")
            user = base64.b64decode(lines.readline()).decode()
            say("334 UGFzc3dvcmQ6")
            password = base64.b64decode(lines.readline()).decode()
        self.sign_ins.append((user, password))
        if (self.passwords or {}).get(user) == password:
            return "235 2.7.0 Accepted"
        return self.refusals.pop(0) if len(self.refusals) > 1 else self.refusals[0]
