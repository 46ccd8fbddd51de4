"""Positions at another epoch and in another frame."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.reference_catalogue.at_epoch import SkyFrame, from_icrs, julian_year, moved, to_icrs, years_of
from imaging.reference_catalogue.reference_stars import separation

ANGLES = {"ra": st.floats(0, 359.9), "dec": st.floats(-89.9, 89.9)}


@given(**ANGLES, pm=st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), years=st.floats(-50, 50))
def test_a_star_moves_by_its_motion(ra: float, dec: float, pm: tuple[float, float], years: float) -> None:
    there = moved(np.array([ra]), np.array([dec]), np.array(pm)[:, np.newaxis], years)
    away = separation(there[0], there[1], ra, dec)[0] * 3.6e6
    assert away == pytest.approx(np.hypot(*pm) * abs(years), rel=1e-4, abs=0.1)


@settings(deadline=None)
@given(**ANGLES, name=st.sampled_from(["icrs", "fk5", "fk4", "galactic"]))
def test_frames_there_and_back(ra: float, dec: float, name: str) -> None:
    frame = SkyFrame(name, 1950.0 if name == "fk4" else 2000.0)
    there = from_icrs(ra, dec, frame, 2013.9)
    back = to_icrs(np.array([there[0]]), np.array([there[1]]), frame, 2013.9)
    assert separation(back[0], back[1], ra, dec)[0] < 1e-8


def test_epochs_are_years_julian_dates_or_modified_ones() -> None:
    found = years_of(np.array([2016.0, 2451545.0, 51544.5, np.nan, 7.0]))
    np.testing.assert_allclose(found[:3], [2016.0, 2000.0, 2000.0])
    assert np.isnan(found[3:]).all()


def test_the_julian_year_is_that_of_astropy() -> None:
    moment = datetime(2013, 11, 21, 3, 4, 5, tzinfo=UTC)
    assert julian_year(moment) == pytest.approx(Time(moment).jyear, abs=1e-5)
