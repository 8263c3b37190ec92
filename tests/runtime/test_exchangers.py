"""Which hosts take a domain's mail."""

import itertools
import unicodedata

import idna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dma_runtime.policy.exchangers import MOST_HOSTS, NoExchanger, a_labels, choose, literal

NOBODY = frozenset()


def is_odd(character):
    try:
        unseen = idna.uts46_remap(f"a{character}b") == "ab"
    except idna.IDNAError:
        return True
    return unseen or (character != "ς" and "ς" in unicodedata.normalize("NFKC", character.casefold()))


def fixed(*numbers):
    """Dice that fall as told, then start again."""
    return itertools.cycle(numbers or (0.5,)).__next__


class TestChoice:
    def test_the_lowest_preference_comes_first(self):
        records = [(20, "b.test"), (5, "a.test"), (100, "c.test")]
        assert choose("x.test", records, NOBODY, fixed()) == ["a.test", "b.test", "c.test"]

    def test_equal_preference_is_shuffled_by_the_dice(self):
        records = [(10, "a.test"), (10, "b.test"), (10, "c.test"), (5, "first.test")]
        assert choose("x.test", records, NOBODY, fixed(0.7, 0.9, 0.1, 0.5)) == ["first.test", "b.test", "c.test", "a.test"]
        assert choose("x.test", records, NOBODY, fixed(0.7, 0.1, 0.9, 0.5)) == ["first.test", "a.test", "c.test", "b.test"]

    def test_preference_is_a_number_not_a_text(self):
        assert choose("x.test", [(10, "b.test"), (9, "a.test")], NOBODY, fixed()) == ["a.test", "b.test"]

    def test_without_mx_the_domain_is_its_own_host(self):
        assert choose("x.test", [], NOBODY, fixed()) == ["x.test"]

    def test_null_mx_takes_no_mail(self):
        with pytest.raises(NoExchanger, match="takes no mail") as error:
            choose("x.test", [(0, "")], NOBODY, fixed())
        assert error.value.status == "5.1.10"

    def test_a_null_beside_others_means_nothing(self):
        assert choose("x.test", [(0, ""), (10, "a.test")], NOBODY, fixed()) == ["a.test"]

    def test_two_nulls_are_no_record(self):
        assert choose("x.test", [(0, ""), (5, "")], NOBODY, fixed()) == ["x.test"]

    def test_our_own_preference_and_all_above_is_cut(self):
        records = [(10, "a.test"), (20, "us.test"), (20, "b.test"), (30, "c.test")]
        assert choose("x.test", records, frozenset(["us.test"]), fixed()) == ["a.test"]

    def test_being_the_best_is_a_loop(self):
        with pytest.raises(NoExchanger, match="loops back") as error:
            choose("x.test", [(10, "us.test"), (20, "b.test")], frozenset(["us.test"]), fixed())
        assert error.value.status == "5.4.6"

    def test_being_the_implicit_host_is_a_loop(self):
        with pytest.raises(NoExchanger, match="loops back"):
            choose("us.test", [], frozenset(["us.test"]), fixed())

    def test_a_host_named_twice_is_tried_once(self):
        assert choose("x.test", [(10, "a.test"), (20, "a.test")], NOBODY, fixed()) == ["a.test"]

    def test_not_endlessly_many(self):
        records = [(n, f"h{n}.test") for n in range(50)]
        assert choose("x.test", records, NOBODY, fixed()) == [f"h{n}.test" for n in range(MOST_HOSTS)]


class TestLiterals:
    @pytest.mark.parametrize(
        ("text", "address"),
        [
            ("[192.0.2.1]", "192.0.2.1"),
            ("[IPv6:2001:db8::1]", "2001:db8::1"),
            ("[ipv6:2001:DB8:0::1]", "2001:db8::1"),
            ("example.org", ""),
            ("192.0.2.1", ""),  # RFC 5321 4.1.3: an address stands in brackets
        ],
    )
    def test_meaning(self, text, address):
        assert literal(text) == address

    @pytest.mark.parametrize(
        "text", ["[192.0.2.300]", "[192.0.2.1", "[]", "[example.org]", "[2001:db8::1]", "[IPv6:192.0.2.1]"]
    )
    def test_bad_ones_are_final(self, text):
        with pytest.raises(NoExchanger) as error:
            literal(text)
        assert error.value.status == "5.1.3"


class TestLabels:
    @pytest.mark.parametrize(
        ("domain", "name"),
        [
            ("Example.ORG", "example.org"),
            ("example.org.", "example.org"),
            ("müller.example", "xn--mller-kva.example"),
            ("MÜLLER.example", "xn--mller-kva.example"),
            ("mu\u0308ller.example", "xn--mller-kva.example"),  # composed first
            ("straße.example", "xn--strae-oqa.example"),  # not strasse: another domain
            ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
            ("under_score.example", "under_score.example"),
        ],
    )
    def test_names(self, domain, name):
        assert a_labels(domain) == name

    @pytest.mark.parametrize(
        "domain", ["", ".", "a..b", f"{'a' * 64}.test", ".".join(["abcdefgh"] * 40), "\udcff.test", "ü" * 60]
    )
    def test_what_is_no_domain_is_final(self, domain):
        with pytest.raises(NoExchanger) as error:
            a_labels(domain)
        assert error.value.status == "5.1.2"

    @given(st.text(st.characters(categories=["Ll", "Lu", "Lo", "Lm", "Mn", "Nd"]), min_size=1, max_size=20))
    def test_as_the_idna_library_where_that_accepts_the_name(self, label):
        """Invariant: a label that IDNA 2008 with the mapping of UTS 46 accepts becomes the same A-label here.

        But for characters that cannot be seen and other writings of the final sigma, which no registry has.
        """
        if any(is_odd(c) for c in label):
            return
        try:
            wanted = idna.encode(label, uts46=True, transitional=False).decode()
        except (idna.IDNAError, UnicodeError):
            return
        assert a_labels(label) == wanted

    @given(st.text(max_size=80))
    def test_never_anything_but_a_name_or_a_refusal(self, text):
        """Invariant: NoExchanger, or ASCII labels of 1 to 63 characters."""
        try:
            name = a_labels(text)
        except NoExchanger:
            return
        assert name.isascii()
        assert all(0 < len(label) < 64 for label in name.split("."))
