"""The simulated distortion: stars are where its inverse has them, with the light of flat-fielded pixels."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from imaging.simulator.exposures import distortion_of
from imaging.simulator.parameters import NightParameters
from imaging.simulator.star_field import pixel_position, render

SIZE = 512


def one_star(xi: float, eta: float) -> Table:
    return Table({
        "kind": ["bright"], "xi": [xi], "eta": [eta], "flux": [1e4], "half_light": [0.0], "axis_ratio": [1.0],
        "position_angle": [0.0],
    })  # fmt: skip


def test_a_night_without_distortion_has_none() -> None:
    assert distortion_of(NightParameters(size=SIZE)) is None


@pytest.mark.parametrize("fraction", [0.003, -0.003])
def test_a_star_near_the_edge_moves_and_has_the_light_of_its_pixels(fraction: float) -> None:
    p = NightParameters(size=SIZE, distortion=fraction)
    distortion = distortion_of(p)
    assert distortion is not None
    scale = p.axes.scale
    star = one_star(-0.85 * SIZE / 2 * scale, 0.0)
    kept = {"size": SIZE, "axes": p.axes, "fwhm": 3.0, "beta": 3.5, "exposure_time": 120.0}
    planes = [render(star, (0.0, 0.0), distortion=one, **kept).astype(float) for one in (None, distortion)]
    y, x = np.mgrid[:SIZE, :SIZE]
    (x0, y0), (x1, y1) = (
        ((plane * x).sum() / plane.sum(), (plane * y).sum() / plane.sum()) for plane in planes
    )
    (true_x,), (true_y,) = pixel_position(star, (0.0, 0.0), SIZE, p.axes)
    middle = (SIZE - 1) / 2
    assert np.hypot(x0 - true_x, y0 - true_y) < 0.02
    radius, distorted = np.hypot(x0 - middle, y0 - middle), np.hypot(x1 - middle, y1 - middle)
    # Without distortion a star is farther out by the fraction times the cube of the relative radius.
    assert radius - distorted == pytest.approx(fraction * (distorted / (SIZE / 2)) ** 3 * SIZE / 2, abs=0.01)
    relative = (distorted / (SIZE / 2)) ** 2 * fraction
    assert planes[1].sum() / planes[0].sum() == pytest.approx(
        1 / ((1 + relative) * (1 + 3 * relative)), rel=1e-4
    )
