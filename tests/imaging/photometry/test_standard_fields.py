"""Zero points of fields from those of standard fields."""

from __future__ import annotations

import math

import pytest

from imaging.photometry.standard_fields import (
    USUAL_NIGHT,
    StandardZeroPoint,
    scatter_of_night,
    standard_zero_point,
    zero_point_from_standard,
)


def test_exposure_and_extinction_are_those_of_each_field() -> None:
    standard = standard_zero_point(30.0, 0.01, 10.0, 1.2, 0.05)
    assert standard.value == pytest.approx(30.0 - 2.5 + 0.2 * 0.05)
    value, error = zero_point_from_standard(standard, 0.02, exposure=100.0, airmass=1.7, extinction=0.05)
    assert value == pytest.approx(30.0 + 2.5 - 0.5 * 0.05)
    assert error == pytest.approx(math.sqrt(0.01**2 + 0.02**2 + (0.5 * 0.025) ** 2))


def test_the_same_airmass_needs_no_extinction() -> None:
    standard = StandardZeroPoint(26.0, 0.01, 1.3)
    _, error = zero_point_from_standard(standard, 0.02, exposure=1.0, airmass=1.3, extinction=0.2)
    assert error == pytest.approx(math.hypot(0.01, 0.02))


@pytest.mark.parametrize(("one", "other"), [(None, 1.3), (1.3, None), (None, None)])
def test_an_unknown_airmass_makes_the_error_larger(one: float | None, other: float | None) -> None:
    standard = StandardZeroPoint(26.0, 0.01, one)
    value, error = zero_point_from_standard(standard, 0.02, exposure=1.0, airmass=other, extinction=0.1)
    assert math.isfinite(value)
    assert error == pytest.approx(math.sqrt(0.01**2 + 0.02**2 + 0.025**2))


def test_the_scatter_of_a_night_is_that_of_its_standards() -> None:
    several = [StandardZeroPoint(26.0 + off, 0.01, 1.0) for off in (-0.1, 0.0, 0.1)]
    assert scatter_of_night(several) == pytest.approx(0.1)
    assert scatter_of_night(several[:1]) == USUAL_NIGHT
    assert scatter_of_night([several[0], several[0]]) == 0.01
