"""Direct delivery as it is in the world: nsd answers, exchangers listen at port 25, resolv.conf and the C library decide."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOM = pathlib.Path(__file__).resolve().parents[1] / "direct_room.py"


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    if not os.path.exists("/usr/sbin/nsd"):
        pytest.skip("needs nsd: apt install nsd")
    if os.geteuid() != 0:
        pytest.skip("needs root: a network of its own with ports 25 and 53")
    unshare = ["unshare", "--net", "--mount"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        pytest.skip("needs network and mount namespaces: unshare --net --mount is not allowed here")
    directory = tmp_path_factory.mktemp("room")
    ran = subprocess.run([*unshare, sys.executable, str(ROOM), str(directory)], capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_the_first_exchanger_is_dead_and_the_next_has_no_ipv6(said):
    assert said["got"]["127.0.0.2"] == [[["a@example.test"], True]]


def test_implicit_mx_cname_idna_and_literal(said):
    assert sorted(recipients for recipients, _ in said["got"]["127.0.0.3"]) == [
        ["b@plain.test"],
        ["d@mail.alias.test"],
        ["e@xn--mller-kva.test"],
        ["f@[127.0.0.3]"],
    ]


def test_a_domain_with_ipv6_only(said):
    assert said["got"]["::1"] == [[["c@sixth.test"], True]]


@pytest.mark.parametrize(
    ("recipient", "status", "text"),
    [
        ("g@null.test", "5.1.10", "takes no mail (null MX)"),
        ("j@half.test", "5.4.4", "DNS lookup failure: host nowhere.half.test"),
        ("i@alias.test", "5.4.4", "DNS lookup failure: host alias.test"),
    ],
)
def test_nobody_takes_it(said, recipient, status, text):
    report = said["report"].replace("\r\n", "\n")
    parts = [part for part in report.split("\n\n") if f"Final-Recipient: rfc822; {recipient}" in part]
    (part,) = parts
    assert f"Status: {status}" in part
    assert text in " ".join(report.split())


def test_servers_that_refuse_to_answer_bounce_nothing(said):
    """nsd answers REFUSED for a zone it does not have, and so to every question outside: this machine's trouble."""
    for recipient in ("h@nowhere.test", "k@broken.test"):
        assert said["queue"][recipient]["state"] == "deferred"
        assert "name server" in said["queue"][recipient]["last_error"]


def test_it_takes_no_minute(said):
    assert said["seconds"] < 15
