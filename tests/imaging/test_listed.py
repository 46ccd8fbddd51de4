"""Messages of the same text as one line with a count and a list."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from imaging.listed import Gathered, counted, filled, gathered, listed

ROOT = Path(__file__).parents[2]


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


def test_digits_in_names_of_others_are_kept() -> None:
    texts = (
        "the same frame as S{n}S0000.fits, which is used",
        "made with dark-{n}",
        "of {n}a3f90b1",
        "in night{n}/a",
    )
    for text in texts:
        pairs = [(f"T{n}S0000.fits", text.format(n=n)) for n in range(2, 8)]
        assert [(one.label, one.text) for one in gathered(pairs)] == pairs


@pytest.mark.parametrize(
    "text",
    [
        "a step of +{n} ADU", "DATE-OBS = '2013-11-2{n}'", "taken at 2013-11-21T03:0{n}:12.5", "(LNRS = {n})",
        "{n}.25% of the pixels have no data", "noise {n}.5e-7", "5 sigma above {n}.", "[{n}x512]",
    ],
)  # fmt: skip
def test_numbers_that_stand_alone_are_masked(text: str) -> None:
    (one,) = gathered([(f"T{n}S0000.fits", text.format(n=n)) for n in range(2, 8)])
    assert one.label.startswith("6 files")


def test_lists_and_counts() -> None:
    assert listed("abcdefg") == "a, b, c, d, e, f, g"
    assert listed("abcdefgh") == "a, b, c, d, e, f and 2 more"
    assert (counted(1, "archive", "archives"), counted(0, "archive", "archives")) == (
        "1 archive",
        "0 archives",
    )
    assert (counted(1, "file"), counted(2, "file")) == ("1 file", "2 files")


def test_a_template_counts_things() -> None:
    template = "{time:g} s, {pairs:n read pair}, {coadds:n coadd}"
    assert filled(template, {"time": 20.0, "pairs": 1, "coadds": 2}) == "20 s, 1 read pair, 2 coadds"


#: A part of a list joined, its own plural or its own unit of bytes.
_OWN_WAY = re.compile(
    r"['\"], ['\"]\.join\((?:[^\n]* in )?\[?\*?\w+\[:\w+\]\)?[,)]"
    r"|\{(?:noun|one)\}s\b"
    r"|def (?:plural|counted|size_text)\("
    r"|amount /= 1000"
)


def test_lists_are_cut_and_things_counted_in_one_place() -> None:
    found = [
        str(path.relative_to(ROOT))
        for package in ("imaging", "calib_store", "tasks", "flows", "deployments", "nirflow")
        for path in sorted((ROOT / package).rglob("*.py"))
        if _OWN_WAY.search(path.read_text(encoding="utf-8"))
    ]
    assert found == ["imaging/listed.py", "imaging/machine.py"]
