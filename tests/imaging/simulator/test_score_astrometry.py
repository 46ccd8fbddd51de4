"""The error of a stack's world coordinates: zero for the true ones, and as large as they are wrong."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from astropy.wcs import WCS

from imaging.simulator.parameters import NightParameters
from imaging.simulator.plans.field import FIELD
from imaging.simulator.score_astrometry import MEASURED, score_astrometry
from imaging.simulator.stack_model import Grid, StackProduct
from imaging.simulator.star_field import make_sources

SIZE = 512


def scored(off: tuple[float, float] = (0.0, 0.0), scale: float = 1.0, stated: float | None = None) -> Any:
    """Return the figure for world coordinates that are off by arcsec East and North, and by a factor in scale."""
    parameters = NightParameters(size=SIZE)
    axes = parameters.axes
    middle = (SIZE - 1) / 2
    one, other = (
        np.array(axes.on_sky(*step)) * axes.scale * scale / 3600 for step in ((1.0, 0.0), (0.0, 1.0))
    )
    wcs = WCS({
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": middle + 1, "CRPIX2": middle + 1,
        "CRVAL1": FIELD[0] + off[0] / 3600 / np.cos(np.radians(FIELD[1])), "CRVAL2": FIELD[1] + off[1] / 3600,
        "CD1_1": one[0], "CD2_1": one[1], "CD1_2": other[0], "CD2_2": other[1], "RADESYS": "ICRS",
    })  # fmt: skip
    plane = np.zeros((SIZE, SIZE))
    stack = StackProduct(plane, plane, plane.astype(int), wcs, "", astrometry_error=stated)
    truth: Any = SimpleNamespace(sources=make_sources(parameters), parameters=parameters)
    return score_astrometry(stack, truth, Grid((middle, middle), axes))


def test_true_world_coordinates_have_no_error() -> None:
    assert scored().value == pytest.approx(0.0, abs=0.01)


def test_an_offset_is_the_error_along_one_axis() -> None:
    assert scored((0.3, 0.4)).value == pytest.approx(500 / np.sqrt(2), rel=1e-3)


def test_a_scale_shows_in_the_corners() -> None:
    assert 5 < scored(scale=1.001).value < 60


def test_the_limit_is_what_the_stack_states() -> None:
    assert scored().ok is None
    good, bad = scored(stated=10.0), scored((0.05, 0.0), stated=10.0)
    assert (good.ok, bad.ok) == (True, False)
    assert good.high == pytest.approx(2 * np.hypot(10.0, MEASURED))
