"""Questions to real name servers on loopback, and to none."""

import asyncio
import os
import subprocess
import sys
import time

import pytest
from name_server import NameServer

from dma_runtime.system.resolver import AT_ONCE, NoResolver, NoSuchDomain, Resolver, Unanswered

ZONE = """
example.org.       300  MX     20 mx2.example.org.
example.org.       300  MX     10 MX1.Example.org.
mx1.example.org.   300  A      127.0.0.1
plain.test.        300  A      127.0.0.1
null.test.         300  MX     0 .
alias.test.        300  CNAME  example.org.
xn--mller-kva.test. 300 MX     10 mx1.example.org.
_x.example.org.    300  TXT    "one " "record"
short.test.        1    MX     10 mx1.example.org.
"""


@pytest.fixture
def names():
    with NameServer(ZONE) as names:
        yield names


@pytest.fixture
def clock():
    class Clock:
        now = 1000.0

        def __call__(self):
            return self.now

    return Clock()


@pytest.fixture
def resolver(names, tmp_path, clock):
    return Resolver(names.resolv_conf(tmp_path / "resolv.conf"), names.port, lifetime=2, clock=clock)


def mx(resolver, *domains):
    async def ask():
        return [await resolver.mx(domain) for domain in domains]

    found = asyncio.run(ask())
    return [sorted(one) for one in found] if len(domains) > 1 else sorted(found[0])


class TestAnswers:
    def test_exchangers_in_lower_case_without_a_final_dot(self, resolver):
        assert mx(resolver, "example.org") == [(10, "mx1.example.org"), (20, "mx2.example.org")]

    def test_a_domain_without_mx(self, resolver):
        assert mx(resolver, "plain.test") == []

    def test_null_mx(self, resolver):
        assert mx(resolver, "null.test") == [(0, "")]

    def test_through_a_cname(self, resolver):
        assert mx(resolver, "alias.test") == [(10, "mx1.example.org"), (20, "mx2.example.org")]

    def test_a_labels(self, resolver):
        assert mx(resolver, "xn--mller-kva.test") == [(10, "mx1.example.org")]

    def test_text_records_are_joined(self, resolver):
        assert asyncio.run(resolver.txt("_x.example.org")) == [b"one record"]

    def test_an_answer_too_large_for_udp(self, resolver, names):
        names.faults["example.org."] = "TRUNCATED"
        assert len(mx(resolver, "example.org")) == 2
        assert [by for name, _, by in names.asked] == ["udp", "tcp"]


class TestFailures:
    def test_no_such_domain(self, resolver):
        with pytest.raises(NoSuchDomain, match=r"nowhere\.test not found"):
            mx(resolver, "nowhere.test")

    def test_the_search_list_is_not_used(self, names, tmp_path):
        path = tmp_path / "resolv.conf"
        names.resolv_conf(path)
        path.write_text(path.read_text() + "search example.org\noptions ndots:5\n")
        names.add("sub.example.org. 300 MX 10 wrong.test.")
        with pytest.raises(NoSuchDomain):
            mx(Resolver(str(path), names.port), "sub")
        assert {name for name, _, _ in names.asked} == {"sub."}

    @pytest.mark.parametrize("name", ["a" * 70 + ".test", "a..b"])
    def test_what_cannot_be_a_name(self, resolver, name):
        with pytest.raises(NoSuchDomain):
            mx(resolver, name)

    @pytest.mark.parametrize("fault", ["SERVFAIL", "REFUSED", "SILENT"])
    def test_servers_that_work_but_for_this_domain(self, resolver, names, fault):
        names.faults["example.org."] = fault
        with pytest.raises(Unanswered, match=r"example\.org"):
            mx(resolver, "example.org")

    @pytest.mark.parametrize("fault", ["SERVFAIL", "REFUSED", "SILENT"])
    def test_servers_that_answer_nothing(self, resolver, names, fault):
        names.faults["example.org."] = names.faults["."] = fault
        with pytest.raises(NoResolver, match="no name server of"):
            mx(resolver, "example.org")

    def test_nobody_listens(self, tmp_path, names):
        path = names.resolv_conf(tmp_path / "resolv.conf")
        names.close()
        with pytest.raises(NoResolver):
            mx(Resolver(path, names.port, lifetime=1), "example.org")

    @pytest.mark.parametrize(
        "text", ["", "# nothing\n", "search example.org\n", "nameserver \n", "nameserver what\n", "\0\xff"]
    )
    def test_a_resolv_conf_that_names_no_server(self, tmp_path, text):
        path = tmp_path / "resolv.conf"
        path.write_text(text)
        with pytest.raises(NoResolver, match=r"resolv\.conf"):
            mx(Resolver(str(path)), "example.org")

    def test_no_resolv_conf(self, tmp_path):
        with pytest.raises(NoResolver, match="missing"):
            mx(Resolver(str(tmp_path / "missing")), "example.org")

    def test_resolv_conf_that_may_not_be_read(self, tmp_path):
        (tmp_path / "resolv.conf").mkdir()
        with pytest.raises(NoResolver, match=r"resolv\.conf"):
            mx(Resolver(str(tmp_path / "resolv.conf")), "example.org")


class TestReadAgain:
    def test_a_changed_file_is_read_and_old_answers_are_forgotten(self, resolver, names):
        mx(resolver, "example.org")
        with NameServer("example.org. 300 MX 1 other.test.", host="127.0.0.2") as second:
            resolver.port = second.port
            second.resolv_conf(type("Path", (), {"write_text": lambda _, text: rewrite(resolver.path, text)})())
            second.add("first.test. 300 MX 2 other.test.")
            assert mx(resolver, "first.test") == [(2, "other.test")]
            assert mx(resolver, "example.org") == [(1, "other.test")]

    def test_a_file_that_appears(self, names, tmp_path):
        path = tmp_path / "resolv.conf"
        resolver = Resolver(str(path), names.port)
        with pytest.raises(NoResolver):
            mx(resolver, "example.org")
        names.resolv_conf(path)
        assert mx(resolver, "example.org")

    def test_a_file_that_goes_away(self, resolver):
        assert mx(resolver, "example.org")
        os.unlink(resolver.path)
        with pytest.raises(NoResolver):
            mx(resolver, "example.org")


def rewrite(path, text):
    with open(path + ".new", "w") as file:
        file.write(text)
    os.replace(path + ".new", path)


class TestKept:
    def test_for_its_time_to_live(self, resolver, names, clock):
        mx(resolver, "short.test", "short.test")
        assert len(names.asked) == 1
        clock.now += 1.1
        mx(resolver, "short.test")
        assert len(names.asked) == 2

    def test_at_most_a_day(self, resolver, names, clock):
        names.add("long.test. 9999999 MX 10 a.test.")
        mx(resolver, "long.test")
        clock.now += 86401
        mx(resolver, "long.test")
        assert len(names.asked) == 2

    def test_not_endlessly_many(self, resolver, names, monkeypatch):
        monkeypatch.setattr("dma_runtime.system.resolver.KEPT", 3)
        domains = ["example.org", "null.test", "alias.test", "short.test"]
        mx(resolver, *domains)
        assert len(resolver._kept) == 3
        before = len(names.asked)
        mx(resolver, "short.test")
        assert len(names.asked) == before
        mx(resolver, "example.org")
        assert len(names.asked) == before + 1

    def test_failures_are_not_kept(self, resolver, names):
        names.faults["example.org."] = "SERVFAIL"
        with pytest.raises(Unanswered):
            mx(resolver, "example.org")
        names.faults.clear()
        assert mx(resolver, "example.org")


def test_many_at_once_wait_for_their_turn(resolver, monkeypatch):
    under_way, most = [], []
    question = resolver._question

    def watched(name, kind):
        under_way.append(name)
        most.append(len(under_way))
        time.sleep(0.05)  # long enough for all of them to be under way at once, if they might
        try:
            return question(name, kind)
        finally:
            under_way.pop()

    monkeypatch.setattr(resolver, "_question", watched)

    async def ask():
        return await asyncio.gather(*(resolver.mx("example.org") for _ in range(2 * AT_ONCE)))

    assert len(asyncio.run(ask())) == 2 * AT_ONCE
    assert 2 <= max(most) <= AT_ONCE


def test_a_deadline_holds_whatever_the_servers_do(resolver, names):
    names.faults["example.org."] = names.faults["."] = "SILENT"
    begun = time.monotonic()
    with pytest.raises(NoResolver):
        mx(resolver, "example.org")
    assert time.monotonic() - begun < 6


class TestImports:
    """dnspython is imported with the first question, also by an interpreter that was started without site."""

    def run(self, names, tmp_path, code, *flags):
        path = names.resolv_conf(tmp_path / "resolv.conf")
        root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
        start = f"import sys; sys.path.insert(0, {root!r}); PATH, PORT = {path!r}, {names.port}\n"
        return subprocess.run([sys.executable, *flags, "-c", start + code], capture_output=True, text=True, timeout=30)

    def test_not_before(self, names, tmp_path):
        code = "import dma_runtime.cmd.daemon; print([m for m in sys.modules if m.split('.')[0] == 'dns'])"
        assert self.run(names, tmp_path, code, "-IS").stdout == "[]\n"

    def test_without_site(self, names, tmp_path):
        code = """
import asyncio
from dma_runtime.system.resolver import Resolver
assert not any("-packages" in entry for entry in sys.path), sys.path
print(asyncio.run(Resolver(PATH, PORT).mx("null.test")))"""
        ran = self.run(names, tmp_path, code, "-IS")
        assert ran.stdout == "[(0, '')]\n", ran.stderr

    def test_without_the_library(self, names, tmp_path):
        code = """
import asyncio, site
site.main = lambda: None
from dma_runtime.system.resolver import NoResolver, Resolver
try:
    asyncio.run(Resolver(PATH, PORT).mx("null.test"))
except NoResolver as error:
    print(error, "|", error.hint)"""
        ran = self.run(names, tmp_path, code, "-IS")
        assert "No module named 'dns'" in ran.stdout, ran.stderr
        assert "install python3-dnspython" in ran.stdout
