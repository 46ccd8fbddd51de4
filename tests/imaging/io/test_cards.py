"""Cards are read one by one: valid ones as by astropy, others repaired with a note, never with an error."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.header import COMMENTARY, Header
from imaging.io.cards import is_valid, read_cards, valid_bytes
from imaging.products.astropy_hdus import fits_header


def header(*cards: str | bytes) -> Header:
    """Return the header of some cards, as text in Latin-1 or as bytes."""
    raw = [card.encode("latin-1") if isinstance(card, str) else card for card in cards]
    assert all(len(card) <= 80 for card in raw)
    return read_cards(b"".join(card.ljust(80) for card in (*raw, b"END")))


@pytest.mark.parametrize(
    ("card", "keyword", "value"),
    [
        ("AIRMASS = 1,05", "AIRMASS", 1.05),
        ("CRVAL1  =             63,4890 / first axis", "CRVAL1", 63.489),
        ("PV1_1   = 0,15", "PV1_1", 0.15),
        ("GAIN    = -4,5E-2", "GAIN", -0.045),
        ("HIERARCH x temp = 1,5 / K", "X TEMP", 1.5),
        ("OBJECT  = 'Barnard's star'", "OBJECT", "Barnard's star"),
        ("OBJECT  = 'Barnard's star' / its name", "OBJECT", "Barnard's star"),
        ("OBJECT  = 'NGC 104", "OBJECT", "NGC 104"),
        ("OBJECT  = 'NGC 104 / its name", "OBJECT", "NGC 104"),
        ('OBJECT  = "NGC 104" / its name', "OBJECT", "NGC 104"),
        ("OBJECT  = NGC 104 / its name", "OBJECT", "NGC 104"),
        ("DATE-OBS= 2013-11-21", "DATE-OBS", "2013-11-21"),
        ("EXPTIME =                120.0 seconds", "EXPTIME", 120.0),
        ("EXPTIME = 120. # s", "EXPTIME", 120.0),
        ("EXPTIME = 1.2D2 s", "EXPTIME", 120.0),
        ("FILTER  = 'Y_G0811 ' name of the filter", "FILTER", "Y_G0811"),
        ("XTENSION= 'IMAGE   '           junk", "XTENSION", "IMAGE"),
        ("EXPTIME = 1.5 2.5", "EXPTIME", "1.5 2.5"),
        ("DATE-OBS= 21 November", "DATE-OBS", "21 November"),
        ("OBJECT  = 'NGC\t104'", "OBJECT", "NGC 104"),
        (b"OBJECT  = 'NGC\x00104'", "OBJECT", "NGC 104"),
        ("OBSERVER= 'Pe\xf1a'", "OBSERVER", "Pe\xf1a"),
        ("OBSERVER= 'Pe\xf1a'".encode(), "OBSERVER", "Pe\xf1a"),
        ("EXPTIME =120.0", "EXPTIME", 120.0),
        ("EXPTIME  120.0 / s", "EXPTIME", 120.0),
        ("OBJECT   'NGC 104'", "OBJECT", "NGC 104"),
        ("exptime = 120.0", "EXPTIME", 120.0),
        ("EXPTIME=  120.0", "EXPTIME", 120.0),
        ("SHUTTER = TRUE", "SHUTTER", True),
        ("SHUTTER = .f.", "SHUTTER", False),
    ],
)
def test_what_a_card_means_is_read_and_noted(card: str | bytes, keyword: str, value: object) -> None:
    found = header(card, "NEXT    = 1")
    assert (found[keyword], type(found[keyword])) == (value, type(value))
    assert len(found.notes) == 1
    assert found.notes[0].startswith(f"{keyword} ")
    assert found["NEXT"] == 1


@pytest.mark.parametrize("value", ["nan", "NaN", "-inf", "+Infinity", "1.#IND", "1E999", "*****", "?"])
def test_a_card_without_a_usable_value_counts_as_missing(value: str) -> None:
    found = header(f"AIRMASS = {value} / mean", "NEXT    = 1")
    assert dict(found) == {"NEXT": 1}
    assert list(found.unreadable) == ["AIRMASS"]
    assert len(found.notes) == 1
    assert found.notes[0].startswith("AIRMASS ")


@pytest.mark.parametrize(
    "card",
    [
        "COMMENT it's 1,5 = nan", "HISTORY \xe9", "", "        some text", "GAIN    = 4.44 / it's",
        "OBSERVER= 'me' / caf\xe9", "A       =", "A       =  / nothing", b"OBJECT  = 'NGC 104' \x00\x00\x00",
    ],
)  # fmt: skip
def test_a_valid_card_or_comment_is_not_noted(card: str | bytes) -> None:
    assert header(card).notes == ()


def test_a_keyword_with_several_values_has_the_first() -> None:
    found = header("FILTER  = 'Y'", "FILTER  = 'J'", "GAIN    = 4", "GAIN    = 4.0")
    assert (found["FILTER"], found["GAIN"]) == ("Y", 4)
    assert found.notes == ("FILTER appears several times with different values; the first is used",)


def test_the_first_value_that_can_be_read_counts() -> None:
    found = header("AIRMASS = nan", "AIRMASS = 1.5")
    assert found["AIRMASS"] == 1.5
    assert found.unreadable == {}


def test_a_text_continues_only_where_it_says_so() -> None:
    found = header("A       = 'one &'", "CONTINUE  'two&' / c", "CONTINUE  'three' / d", "B       = 1")
    assert (found["A"], found.comment("A"), found["B"]) == ("one twothree", "c d", 1)
    assert found.notes == ()
    found = header("A       = 'one'", "CONTINUE  'two'", "B       = 'x&'", "C       = 2")
    assert (found["A"], found["B"], found["C"]) == ("one", "x&", 2)
    assert found.notes == ("CONTINUE is the continuation of a text that does not announce one",)


def test_the_continuation_of_a_repeated_keyword_goes_with_it() -> None:
    cards = ("LONG    = 'first'", "LONG    = 'sec&'", "CONTINUE  'ond&'", "CONTINUE  ' half'", "NEXT    = 1")
    found = read_cards(b"".join(card.encode().ljust(80) for card in cards))
    assert dict(found) == {"LONG": "first", "NEXT": 1}
    assert [note for note in found.notes if "CONTINUE" in note] == []
    assert len(found.notes) == 1


def test_history_written_as_values_is_kept_whole() -> None:
    cards = ("HISTORY = 'one'", "HISTORY = 'two'", "END")
    found = read_cards(b"".join(card.encode().ljust(80) for card in cards))
    assert [card.value for card in found.cards] == ["one", "two"]


def test_a_keyword_outside_of_ascii_can_be_written() -> None:
    found = read_cards("HIERARCH ESO d\xe9t = 5".encode("latin-1").ljust(80))
    assert b"= " in valid_bytes(found, 2880)


def test_problems_are_noted_once_each() -> None:
    found = header(*(f"KEY{n}    = 1,{n}" for n in range(9)), "A       = nan", "B       = inf")
    assert found.notes == (
        "KEY0, KEY1, KEY2, KEY3, KEY4, KEY5 and 3 more have a decimal comma, read as a point",
        "A, B are not a finite number and count as missing",
    )


def test_keywords_are_found_in_any_case_and_comments_together() -> None:
    found = header("EXPTIME = 120.0 / s", "HISTORY one", "HISTORY two")
    assert (found["exptime"], found["HISTORY"], "exptime" in found) == (120.0, "one\ntwo", True)
    found["EXPTIME"] = 60.0
    found["NEW"] = (1, "number")
    assert (found.comment("EXPTIME"), found.comment("NEW"), list(found)) == (
        "s",
        "number",
        ["EXPTIME", "HISTORY", "NEW"],
    )
    del found["HISTORY"]
    assert [card.keyword for card in found.cards] == ["EXPTIME", "NEW"]
    with pytest.raises(KeyError):
        found["HISTORY"]


#: Texts with a quotation mark or a slash, not with both, which astropy misreads.
ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=100).filter(
    lambda text: not {"'", "/"} <= set(text)
)
KEYWORDS = st.from_regex(r"[A-Z][A-Z0-9_-]{0,7}", fullmatch=True).filter(
    lambda k: k not in ("COMMENT", "HISTORY", "CONTINUE", "END", "HIERARCH", "SIMPLE", "XTENSION")
)
VALUES = st.one_of(
    ASCII,
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.none(),
)


#: Comments without quotation marks: astropy reads "A = '' / '" as the text "' /".
COMMENTS = ASCII.map(lambda comment: comment[:20].replace("'", ""))


@given(st.lists(st.tuples(KEYWORDS, VALUES, COMMENTS), max_size=6, unique_by=lambda card: card[0]))
@settings(max_examples=150, deadline=None)
def test_valid_cards_are_read_as_by_astropy_and_written_as_they_are(
    cards: list[tuple[str, Any, str]],
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = fits.Header([fits.Card(*card) for card in cards])
        raw = theirs.tostring()
        theirs = fits.Header.fromstring(raw)
        found = read_cards(raw.encode("ascii"))
        assert fits_header(found.cards).tostring() == raw
    assert found.notes == ()
    assert dict(found) == dict(theirs)
    assert {k: type(v) for k, v in found.items()} == {k: type(v) for k, v in theirs.items()}
    assert [c.comment for c in found.cards] == [c.comment for c in theirs.cards]


def test_the_last_card_may_have_something_behind_it() -> None:
    found = read_cards(b"".join(card.ljust(80) for card in (b"A       = 1", b"END     junk", b"B       = 2")))
    assert dict(found) == {"A": 1}
    assert found.notes[0].startswith("END is not written as FITS prescribes")
    assert dict(header("A       = 1", "END     = 5", "B       = 2")) == {"A": 1, "END": 5, "B": 2}


@given(st.lists(st.binary(min_size=1, max_size=80).map(lambda card: card.ljust(80)), max_size=12))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_and_can_be_written(cards: list[bytes]) -> None:
    check_that_nothing_stumbles(read_cards(b"".join(cards)))


@pytest.mark.parametrize("text", ["A       = 0d0", "A       = 1.5e3", "HIERARCH a b = 1e3"])
def test_an_exponent_in_lower_case_is_read_and_written_as_fits_has_it(text: str) -> None:
    check_that_nothing_stumbles(header(text))


@given(
    KEYWORDS,
    st.sampled_from(["= ", "=", " = ", "  ", "= '", "= \xe9", "=\0"]),
    st.text(st.sampled_from("'\"/,.&nan10-+eEdDTF \t\0\xe9\x7f"), max_size=40),
)
@settings(max_examples=400, deadline=None)
def test_any_odd_card_is_read_and_can_be_written(keyword: str, equals: str, value: str) -> None:
    text = f"{keyword:8}{equals}{value}"
    check_that_nothing_stumbles(header(text[:80], "CONTINUE  'x'", "NEXT    = 1"))


def check_that_nothing_stumbles(found: Header) -> None:
    """Check that every value is finite and printable, and that astropy writes and reads it without complaint."""
    for keyword, value in found.items():
        assert value is None or isinstance(value, (str, bool, int, float))
        if isinstance(value, float):
            assert math.isfinite(value)
        if isinstance(value, str):
            assert all(part.isprintable() for part in value.split("\n"))
        assert keyword in COMMENTARY or found[keyword.lower()] == value
    valid = valid_bytes(found, 2880)
    assert len(valid) == 2880
    repaired = read_cards(valid)
    assert repaired.notes == ()
    assert is_valid(repaired)
    assert {k: v for k, v in repaired.items() if not isinstance(v, str)}.items() <= dict(found).items()
    written = fits_header(found.cards)
    again = fits.Header.fromstring(written.tostring())
    for card in again.cards:
        card.verify("exception")
    kept = [card.keyword for card in found.cards if card.keyword not in COMMENTARY]
    assert [card.keyword for card in again.cards if card.keyword not in COMMENTARY] == kept
