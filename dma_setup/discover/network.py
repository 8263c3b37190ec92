"""The hands of discovery: DNS by dnspython, HTTPS with verified certificates, a TLS probe. No credential is ever known here.

Everything is limited: seconds, bytes, redirects. Tests put their own resolver, addresses and authority in place of these.
"""

from __future__ import annotations

import http.client
import smtplib
import socket
import ssl
from typing import Any
from urllib.parse import urljoin, urlsplit

SECONDS = 7.0
LARGEST = 256 << 10
REDIRECTS = 3


class NothingThere(Exception):
    """No answer, or one that is of no use; the text says why."""


class Network:
    def __init__(self) -> None:
        self.context = ssl.create_default_context()

    def resolver(self) -> Any:
        import dns.resolver

        return dns.resolver.Resolver()

    def dial(self, host: str, port: int) -> socket.socket:
        return socket.create_connection((host, port), SECONDS)

    # ------------------------------------------------------------ DNS

    def records(self, name: str, kind: str) -> list[Any]:
        """The records of a name, [] when there are none. Raises NothingThere when nobody can say."""
        import dns.exception
        import dns.resolver

        try:
            return list(self.resolver().resolve(name, kind, lifetime=SECONDS))
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            raise NothingThere(f"DNS: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from None

    # ------------------------------------------------------------ HTTPS

    def get(self, url: str) -> bytes:
        """The body behind an https address, through redirects to https addresses only. Raises NothingThere."""
        for _ in range(REDIRECTS + 1):
            parts = urlsplit(url)
            if parts.scheme != "https" or not parts.hostname:
                raise NothingThere("leads away from https")
            try:
                answer = self._get(parts.hostname, parts.port or 443, parts.path + ("?" + parts.query if parts.query else ""))
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise NothingThere(str(getattr(error, "strerror", "") or error) or type(error).__name__) from None
            status, location, body = answer
            if status in (301, 302, 303, 307, 308) and location:
                url = urljoin(url, location)
                continue
            if status != 200:
                raise NothingThere(f"answers {status}")
            return body
        raise NothingThere("too many redirects")

    def _get(self, host: str, port: int, path: str) -> tuple[int, str, bytes]:
        connection = http.client.HTTPSConnection(host, port, timeout=SECONDS)
        connection.sock = self.context.wrap_socket(self.dial(host, port), server_hostname=host)
        connection.sock.settimeout(SECONDS)
        try:
            connection.request("GET", path or "/", headers={"User-Agent": "dma-setup", "Accept": "text/xml, application/xml"})
            answer = connection.getresponse()
            body = answer.read(LARGEST + 1)
            if len(body) > LARGEST:
                raise ValueError("answers too much")
            return answer.status, answer.getheader("Location") or "", body
        finally:
            connection.close()

    # ------------------------------------------------------------ TLS

    def speaks(self, host: str, port: int, *, implicit: bool) -> bool:
        """Whether a mail server with a valid certificate for `host` takes submissions there: it offers to sign in (AUTH)."""
        try:
            plain = self.dial(host, port)
        except OSError:
            return False
        session = smtplib.SMTP(local_hostname="localhost", timeout=SECONDS)
        try:
            plain.settimeout(SECONDS)
            session.sock = self.context.wrap_socket(plain, server_hostname=host) if implicit else plain
            if session.getreply()[0] != 220:
                return False
            if not implicit:
                session._host = host  # type: ignore[attr-defined]  # what starttls() verifies the certificate by
                session.starttls(context=self.context)
            return session.ehlo()[0] == 250 and session.has_extn("auth")
        except (OSError, smtplib.SMTPException, ValueError):
            return False
        finally:
            session.close()
            plain.close()
