"""Texts of others on their way out: nothing in them acts, all of it can be seen, and letters stay letters."""

from __future__ import annotations

import json
import os
import pickle

import pytest
from hostile import HOSTILE, SHOWN, harmful, texts
from hypothesis import given

from imaging.errors import FrameError, NirflowError
from imaging.printable import ascii_text, indented, printable, printable_json, printable_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (HOSTILE, SHOWN),
        ("Größe 東京 ñ e\u0301 \N{NO-BREAK SPACE}☃ 😀", "Größe 東京 ñ e\u0301 \N{NO-BREAK SPACE}☃ 😀"),
        ("", ""),
        ("\t\n\r\0", r"\t\n\r\x00"),
        ("\U000e0001", r"\U000e0001"),
        (os.fsdecode(b"a\xff\x9b.fits"), r"a\xff\x9b.fits"),
        ("a\x9b", r"a\u009b"),
        ("\ud800", r"\ud800"),
        (r"C:\new", r"C:\new"),
    ],
)
def test_what_cannot_be_seen_is_escaped_and_letters_stay(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(texts)
def test_nothing_harmful_is_left_and_a_second_time_changes_nothing(text: str) -> None:
    shown = printable(text)
    assert harmful(shown, breaks="") == set()
    assert printable(shown) == shown
    shown.encode("utf-8")
    assert harmful(printable_lines(text), breaks="\n\t") == set()
    assert printable_lines(text).count("\n") == text.count("\n")
    assert ascii_text(text).isascii()


@given(texts)
def test_json_keeps_the_exact_text(text: str) -> None:
    shown = printable_json(json.dumps({text: [text]}, ensure_ascii=False, indent=2))
    assert harmful(shown) == set()
    assert json.loads(shown) == {text: [text]}


@given(texts, texts, texts)
def test_an_error_is_one_line_besides_its_details(message: str, remedy: str, details: str) -> None:
    error = NirflowError(message, remedy=remedy)
    assert harmful(f"{error} {error.message} {error.remedy}", breaks="") == set()
    error = NirflowError(message, remedy=remedy, details=details)
    assert harmful(f"{error} {error.details}", breaks="\n\t") == set()
    assert error.details.count("\n") == details.count("\n")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.details) == (str(error), error.details)


def test_an_error_of_a_frame_names_it_printable() -> None:
    error = FrameError(HOSTILE, "too \x1b[1mshort", keyword="EXPTIME", found="\x1b", expected=2)
    assert str(error) == rf"{SHOWN}: too \x1b[1mshort (EXPTIME = '\x1b', expected 2)."
    assert error.reason == r"too \x1b[1mshort (EXPTIME = '\x1b', expected 2)"
    assert error.name == HOSTILE


def test_lines_after_the_first_are_indented() -> None:
    assert indented("a\nb\nc") == "a\n    b\n    c"
