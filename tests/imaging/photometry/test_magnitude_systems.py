"""Magnitude systems, nominal zero points, zero points of frames, and the brightness of the sky."""

from __future__ import annotations

import math

import numpy as np
import pytest

from imaging.instruments import catalogue
from imaging.photometry.depth import sky_brightness
from imaging.photometry.magnitude_systems import ab_minus_vega, conversion, nominal_zero_point
from imaging.photometry.zero_point import frame_zero_points


def test_conversions_go_there_and_back() -> None:
    assert conversion("Vega", "Vega", "2MASS", "J") == 0
    there, back = conversion("Vega", "AB", "2MASS", "J"), conversion("AB", "Vega", "2MASS", "J")
    assert there is not None
    assert back == -there
    assert there == pytest.approx(0.91)
    assert ab_minus_vega("a catalogue of ours", "Y") == ab_minus_vega("MKO", "Y") == 0.634
    assert conversion("Vega", "AB", "2MASS", "Y") is None


def test_the_nominal_zero_point_is_for_the_electrons_of_the_exposure() -> None:
    assert nominal_zero_point(26.0, 100.0) == pytest.approx(31.0)
    assert nominal_zero_point(26.0, 100.0, extinction=0.05, airmass=2.0) == pytest.approx(30.95)


def test_tables_have_extinction_and_standard_bands() -> None:
    f2, niri = catalogue.named("F2"), catalogue.named("NIRI")
    assert f2.extinction({"filter": "Ks"}) == 0.05
    assert f2.extinction({"filter": "K-red"}) == 0.05
    assert f2.extinction({"filter": "K-long"}) == 0
    assert f2.standard_bands("K-red") == ("K", "Ks")
    assert f2.standard_bands("J") == ("J",)
    assert niri.extinction({"filter": "K", "camera": "f6"}) == 0.033
    assert niri.standard_bands("K(short)") == ("Ks", "K")
    for table in (f2, niri):
        assert all(one.extinction.keys() <= one.values.keys() for one in table.zero_points)


@pytest.mark.parametrize("scaled", [True, False])
def test_the_zero_points_of_frames_follow_from_their_stars(scaled: bool) -> None:
    """A star of magnitude 15 has the same magnitude in the stack and in every frame."""
    fluxes = {"a": (1.0, None), "b": (0.8, 0.01), "c": (0.9, 0.005)}
    scales = {name: 1.0 / flux if scaled else 1.0 for name, (flux, _) in fluxes.items()}
    weights = {"a": 0.5, "b": 0.2, "c": 0.3}
    in_reference = 1e5
    in_stack = sum(weights[n] * scales[n] * fluxes[n][0] * in_reference for n in fluxes)
    zero_point = 15.0 + 2.5 * math.log10(in_stack)
    found = frame_zero_points(zero_point, 0.01, fluxes, scales, weights)
    for name, (flux, _) in fluxes.items():
        assert found[name][0] == pytest.approx(15.0 + 2.5 * math.log10(flux * in_reference))
    assert found["a"][1] == 0.01
    assert found["b"][1] == pytest.approx(math.hypot(0.01, 0.01086), rel=1e-3)


def test_frames_without_flux_or_zero_point_have_none() -> None:
    found = frame_zero_points(31.0, 0.01, {"a": (1.0, None), "b": (math.nan, None)}, {"a": 1.0}, {"a": 1.0})
    assert found["a"][0] == 31.0
    assert np.isnan(found["b"]).all()
    assert np.isnan(frame_zero_points(math.nan, 0.01, {"a": (1.0, None)}, {"a": 1.0}, {"a": 1.0})["a"]).all()


def test_the_sky_is_brighter_where_it_has_more_electrons() -> None:
    assert sky_brightness(100.0, 30.0, 0.5) == pytest.approx(30 - 2.5 * math.log10(400))
    assert math.isnan(sky_brightness(-1.0, 30.0, 0.5))
