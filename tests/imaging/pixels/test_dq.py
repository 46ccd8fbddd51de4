"""The bits that other software reads have Gemini's values."""

from __future__ import annotations

import itertools

import numpy as np

from imaging.pixels.dq import DQ, LEVELS, UNUSABLE, gemini_bits


def test_bits_have_the_values_that_gemini_gives_them_and_glow_the_next() -> None:
    assert {flag.name: flag.value for flag in DQ} == {
        "BAD_PIXEL": 1, "NON_LINEAR": 2, "SATURATED": 4, "COSMIC_RAY": 8, "NO_DATA": 16, "OVERLAP": 32,
        "UNILLUMINATED": 64, "GLOW": 128,
    }  # fmt: skip


def test_bits_are_distinct_and_fit_the_plane() -> None:
    assert all(a & b == 0 for a, b in itertools.combinations(DQ, 2))
    assert max(DQ) < 2**16


def test_pixels_that_are_not_linear_or_had_glow_are_usable_and_the_others_are_not() -> None:
    assert int(UNUSABLE) == sum(DQ) - DQ.NON_LINEAR - DQ.GLOW


def test_levels_from_least_bad_to_no_data() -> None:
    assert [int(level) for level in LEVELS] == [8, 32, 1, 64, 16]


def test_other_software_gets_the_bits_that_it_knows() -> None:
    plane = np.array([[0, 128, 64, 192, 255]], np.uint16)
    assert gemini_bits(plane).tolist() == [[0, 0, 64, 64, 127]]
    assert gemini_bits(plane).dtype == np.uint16
