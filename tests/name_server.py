"""A name server on loopback for tests: UDP and TCP on one port, zones as text, faults by name. By dnspython, in threads.

    with NameServer('''
        example.org.      300 MX 10 mx1.example.org.
        nothing.example.  300 MX 0 .
    ''') as names:
        names.resolv_conf(tmp_path / "resolv.conf")

Names that have records exist, and so do the names above them; anything else is NXDOMAIN. `faults[name]` is "SERVFAIL",
"REFUSED", "SILENT" or "TRUNCATED" (over UDP only). `asked` lists (name, type, "udp" or "tcp").
"""

import collections
import socket
import struct
import threading

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset


class NameServer:
    def __init__(self, zone="", host="127.0.0.1"):
        self.host = host
        self.records = collections.defaultdict(list)
        self.faults = {}
        self.asked = []
        self.add(zone)
        self.add(". 3600 NS a.root.test.")
        self._open = True
        while True:
            self._tcp = socket.create_server((host, 0))
            self.port = self._tcp.getsockname()[1]
            self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                self._udp.bind((host, self.port))
                break
            except OSError:  # that number was taken for UDP
                self._tcp.close()
                self._udp.close()
        self._threads = [threading.Thread(target=one, daemon=True) for one in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    def add(self, zone):
        for line in zone.splitlines():
            if line.strip():
                name, ttl, kind, data = line.split(None, 3)
                key = dns.name.from_text(name), dns.rdatatype.from_text(kind)
                self.records[key].append((int(ttl), data))

    def resolv_conf(self, path):
        path.write_text(f"nameserver {self.host}\noptions timeout:1 attempts:1\n")
        return str(path)

    def close(self):
        if not self._open:
            return
        self._open = False
        self._tcp.shutdown(socket.SHUT_RDWR)
        self._tcp.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", (self.host, self.port))
        for thread in self._threads:
            thread.join(5)
        self._udp.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    # ------------------------------------------------------------

    def _serve_udp(self):
        while self._open:
            data, client = self._udp.recvfrom(65535)
            if self._open and (answer := self._answer(data, "udp")) is not None:
                self._udp.sendto(answer, client)

    def _serve_tcp(self):
        while self._open:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                size = struct.unpack("!H", connection.recv(2))[0]
                if (answer := self._answer(connection.recv(size), "tcp")) is not None:
                    connection.sendall(struct.pack("!H", len(answer)) + answer)

    def _answer(self, data, by):
        query = dns.message.from_wire(data)
        (question,) = query.question
        name = dns.name.from_text(question.name.to_text().lower())
        self.asked.append((question.name.to_text(), dns.rdatatype.to_text(question.rdtype), by))
        fault = self.faults.get(question.name.to_text().lower())
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        if fault == "SILENT":
            return None
        if fault in ("SERVFAIL", "REFUSED"):
            answer.set_rcode(dns.rcode.from_text(fault))
        elif fault == "TRUNCATED" and by == "udp":
            answer.flags |= dns.flags.TC
        else:
            self._fill(answer, name, question.rdtype)
        return answer.to_wire()

    def _fill(self, answer, name, kind):
        cname = dns.rdatatype.CNAME
        for _ in range(10):  # a CNAME and what it leads to, as a resolver answers
            if (name, cname) not in self.records or kind == cname:
                break
            ttl, target = self.records[name, cname][0]
            answer.answer.append(dns.rrset.from_text(name, ttl, "IN", "CNAME", target))
            name = dns.name.from_text(target)
        if (name, kind) in self.records:
            ttl = min(ttl for ttl, _ in self.records[name, kind])
            answer.answer.append(dns.rrset.from_text(name, ttl, "IN", kind, *(d for _, d in self.records[name, kind])))
        elif not any(known.is_subdomain(name) for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
