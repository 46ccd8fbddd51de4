"""Directions and scale on a preview are those of the world coordinates."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from imaging.header import Header
from imaging.products.compass import Compass, compass_of, scale_bar
from imaging.products.preview import write_preview

SCALE = 0.179


def header(angle: float, *, flipped: bool, dec: float = -47.0) -> Header:
    """North is ``angle`` degrees from y towards -x; East is to its left, or to its right if flipped."""
    cos, sin, deg = math.cos(math.radians(angle)), math.sin(math.radians(angle)), SCALE / 3600
    sign = -1.0 if flipped else 1.0
    return Header(
        {
            "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 359.9999, "CRVAL2": dec,
            "CRPIX1": 250.0, "CRPIX2": 200.0, "CD1_1": -sign * deg * cos, "CD1_2": -sign * deg * sin,
            "CD2_1": -deg * sin, "CD2_2": deg * cos,
        }
    )  # fmt: skip


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 200.0])
def test_directions_are_those_of_the_wcs(angle: float, flipped: bool) -> None:
    found = compass_of(header(angle, flipped=flipped), (400, 500))
    assert found is not None
    turn = math.radians(angle)
    north = (-math.sin(turn), math.cos(turn))
    east = (-math.cos(turn), -math.sin(turn))
    assert found.north == pytest.approx(north, abs=1e-4)
    assert found.east == pytest.approx(tuple((-1 if flipped else 1) * one for one in east), abs=1e-4)
    assert found.scale == pytest.approx(SCALE, rel=1e-5)


def test_an_image_without_world_coordinates_has_no_directions() -> None:
    assert compass_of(Header(), (400, 500)) is None


@pytest.mark.parametrize(
    ("width", "bar"),
    [(366.0, (60, "1'")), (90.0, (20, '20"')), (22.0, (5, '5"')), (3.0, (0.5, '0.5"')), (1.0, None)],
)
def test_the_scale_bar_is_round_and_fits(width: float, bar: tuple[float, str] | None) -> None:
    assert scale_bar(width) == bar


@pytest.mark.parametrize("north", [(0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-0.6, 0.8)])
def test_arrows_and_bar_are_drawn_in_the_lower_corners(tmp_path: Path, north: tuple[float, float]) -> None:
    compass = Compass(north, (-north[1], north[0]), 0.2)
    noise = np.random.default_rng(1).normal(0, 1, (600, 600)).astype(np.float32)
    with Picture.open(write_preview(tmp_path / "a.png", noise, compass=compass)) as picture:
        drawn = np.asarray(picture.convert("RGB"))
    y, x = np.nonzero((drawn == (255, 225, 90)).all(axis=2))
    assert len(y) > 300
    assert y.min() > 400
    assert 0 < x.min() < x.max() < 599
    assert y.max() < 599
    assert not ((x > 200) & (x < 400)).any()
    bar = x[x > 400]
    assert bar.max() - bar.min() == pytest.approx(30 / 0.2, abs=3)


def test_a_small_picture_has_no_room_for_arrows(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).normal(0, 1, (90, 600)).astype(np.float32)
    plain = write_preview(tmp_path / "a.png", noise).read_bytes()
    assert (
        write_preview(tmp_path / "b.png", noise, compass=Compass((0, 1), (-1, 0), 0.2)).read_bytes() == plain
    )
