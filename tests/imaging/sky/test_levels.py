"""Frames with a sky level unlike that of their neighbours in time."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from imaging.sky.choice import SkyParameters
from imaging.sky.levels import SkyLevel, level_problem, odd_levels, odd_structure

START = datetime(2013, 11, 21, 2, 52, 48, tzinfo=UTC)


def night(*levels: float, noise: float = 53.0, exposures: dict[int, float] | None = None) -> list[SkyLevel]:
    """Return frames of 120 s, one every 130 s."""
    times = exposures or {}
    return [
        SkyLevel(f"f{n}", START + n * timedelta(seconds=130), times.get(n, 120.0), level, noise)
        for n, level in enumerate(levels)
    ]


@pytest.mark.parametrize("factor", [0.0, 1 / 8, 0.25, 0.45, 2.3, 3.0, 9.0])
@pytest.mark.parametrize("at", [0, 4, 8])
@pytest.mark.parametrize("n", [4, 5, 9])
def test_one_frame_with_another_level_is_named(factor: float, at: int, n: int) -> None:
    levels = [2800.0 * (1 + 0.03 * (-1) ** k) for k in range(n)]
    at = min(at, n - 1)
    levels[at] *= factor
    (name, reason), *more = odd_levels(night(*levels), SkyParameters()).items()
    assert (name, more) == (f"f{at}", [])
    assert f"{levels[at]:.0f} electrons" in reason


def test_three_of_nine_are_named_and_four_are_not() -> None:
    levels = [2800.0] * 9
    levels[1], levels[4], levels[7] = 300.0, 9000.0, 25_000.0
    assert set(odd_levels(night(*levels), SkyParameters())) == {"f1", "f4", "f7"}
    levels[3] = 10.0
    assert odd_levels(night(*levels), SkyParameters()) == {}


def test_changes_of_the_sky_are_not_odd() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        walk = 2800.0 * np.exp(np.cumsum(rng.normal(0, 0.12, 24)))
        assert odd_levels(night(*walk), SkyParameters()) == {}
    twilight = 30_000.0 * np.exp(-np.arange(12) * 0.15)
    assert odd_levels(night(*twilight), SkyParameters()) == {}


def test_next_to_no_sky_is_never_odd() -> None:
    assert odd_levels(night(5.0, 20.0, 1.0, -3.0, 8.0, noise=9.0), SkyParameters(scaling="add")) == {}


def test_levels_are_compared_for_equal_exposures() -> None:
    frames = night(2800.0, 2800.0, 700.0, 2800.0, 2800.0, exposures={2: 30.0})
    assert odd_levels(frames, SkyParameters()) == {}


def test_few_frames_are_not_compared() -> None:
    assert odd_levels(night(2800.0, 300.0, 2800.0), SkyParameters()) == {}


def test_the_limit_is_a_parameter() -> None:
    frames = night(2800.0, 2800.0, 2800.0, 2800.0, 9000.0)
    assert odd_levels(frames, SkyParameters(level_range=4.0)) == {}


@pytest.mark.parametrize(
    ("level", "scaling", "usable"),
    [(5.0, "multiply", True), (0.0, "multiply", False), (-3.0, "multiply", False), (-3.0, "add", True),
     (math.nan, "add", False)],
)  # fmt: skip
def test_a_level_that_cannot_be_scaled(level: float, scaling: str, usable: bool) -> None:
    assert (level_problem(level, SkyParameters.model_validate({"scaling": scaling})) == "") == usable


def test_one_vignetted_frame_is_named() -> None:
    left = {f"f{n}": (1.5 + 0.1 * n, 2800.0) for n in range(9)} | {"f3": (277.0, 2870.0)}
    (name, reason), *more = odd_structure(left, SkyParameters()).items()
    assert (name, more) == ("f3", [])
    assert "277 electrons, 0.097 of the sky" in reason
    assert odd_structure(left, SkyParameters(max_structure=0.2)) == {}


def test_background_that_all_frames_have_is_not_odd() -> None:
    nebula = {f"f{n}": (200.0 + 10 * n, 2800.0) for n in range(9)}
    calm = {f"f{n}": (2.0, 2800.0) for n in range(9)} | {"f1": (30.0, 2800.0), "f2": (math.nan, 2800.0)}
    few = {"f0": (2.0, 2800.0), "f1": (2.0, 2800.0), "f2": (300.0, 2800.0)}
    half = {f"f{n}": (300.0 if n < 4 else 2.0, 2800.0) for n in range(9)}
    for left in (nebula, calm, few, half):
        assert odd_structure(left, SkyParameters()) == {}
