"""Messages of the same text as one line with a count and a list."""

from __future__ import annotations

from imaging.listed import Gathered, counted, gathered, listed


def test_the_same_text_is_one_line() -> None:
    problems = [(f"S{n:04}.fits", "LNRS = 5, expected 1, 4 or 8") for n in range(39)]
    (one,) = gathered([*problems, ("S0003.fits", "LNRS = 5, expected 1, 4 or 8")])
    assert (
        one.label
        == "39 files (S0000.fits, S0001.fits, S0002.fits, S0003.fits, S0004.fits, S0005.fits and 33 more)"
    )
    assert one.text == "LNRS = 5, expected 1, 4 or 8"


def test_a_single_message_keeps_its_name_and_the_order_is_that_of_the_first() -> None:
    found = gathered([("a", "x"), ("b", "y"), ("c", "x")])
    assert found == [Gathered(("a", "c"), "x"), Gathered(("b",), "y")]
    assert found[1].label == "b"


def test_many_texts_that_differ_in_numbers_are_one_line() -> None:
    texts = [
        (f"S{n}.fits", f"truncated: {n * 17} of the 4096 bytes of S{n}.fits are missing") for n in range(1, 6)
    ]
    (one,) = gathered(texts)
    assert len(one.names) == 5
    assert one.text.startswith(texts[0][1])
    assert "S1.fits; the others differ in numbers" in one.text
    assert len(gathered(texts[:3])) == 3


def test_lists_and_counts() -> None:
    assert listed("abcdefg") == "a, b, c, d, e, f, g"
    assert listed("abcdefgh") == "a, b, c, d, e, f and 2 more"
    assert (counted(1, "archive", "archives"), counted(0, "archive", "archives")) == (
        "1 archive",
        "0 archives",
    )
