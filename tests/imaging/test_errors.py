"""Errors show the user what is wrong, where and what to do, also from another process."""

from __future__ import annotations

import pickle

import pytest

from imaging.errors import (
    FrameError,
    GroupError,
    MissingCalibrationError,
    NirflowError,
    StoreError,
)


def test_frame_error_has_name_problem_and_remedy() -> None:
    error = FrameError(
        "a.fits", "keyword is invalid", keyword="EXPTIME", found=-1, expected="a number above 0",
        remedy="Correct the header.",
    )  # fmt: skip
    assert str(error) == (
        "a.fits: keyword is invalid (EXPTIME = -1, expected a number above 0). Correct the header."
    )
    assert (error.name, error.keyword, error.found) == ("a.fits", "EXPTIME", -1)


def test_without_keyword_and_remedy() -> None:
    assert str(FrameError("a.fits", "the file is empty")) == "a.fits: the file is empty."
    assert str(NirflowError("No space.")) == "No space."


@pytest.mark.parametrize("kind", [NirflowError, GroupError, MissingCalibrationError, StoreError])
def test_every_error_survives_pickling(kind: type[NirflowError]) -> None:
    error = kind("Two exposure times: 60 and 120 s.", remedy="Leave a.fits out.")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error) == "Two exposure times: 60 and 120 s. Leave a.fits out."
    assert copy.remedy == error.remedy
    assert isinstance(copy, NirflowError)


def test_a_frame_error_survives_pickling() -> None:
    error = FrameError("a.fits", "odd", keyword="LNRS", found=2, expected="4", remedy="Look.")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
