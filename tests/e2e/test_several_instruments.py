"""A folder with frames of two instruments that have tables and of two that have none."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from night_lab import Lab, Run, link
from niri_frames import COADDS, SCALE, STARS, WIDTH, NiriNight

from imaging.simulator.truth import NightTruth

pytestmark = pytest.mark.long

EXPOSURE = 30.001


def fluxes(image: Path) -> list[float]:
    """Return measured over true fluxes of the stars in a stack."""
    with fits.open(image) as hdus:
        sci, header = hdus["SCI"].data, hdus["SCI"].header
    y, x = np.mgrid[: sci.shape[0], : sci.shape[1]]
    found = []
    for at_x, at_y, rate in STARS:
        # The reference pixel of a frame without offset is 128.5; each frame has its own offset.
        here = at_x + header["CRPIX1"] - 128.5, at_y + header["CRPIX2"] - 128.5
        distance = np.hypot(x - here[0], y - here[1])
        near, sky = distance < 8, np.median(sci[(distance > 12) & (distance < 18)])
        inside = 1 - np.exp(-(8**2) / (2 * WIDTH**2))
        found.append(float((sci[near] - sky).sum() / (rate * EXPOSURE * COADDS * inside)))
    return found


def test_each_instrument_is_reduced_by_its_own_rules(
    lab: Lab, reduced: Run, night: NightTruth, tmp_path: Path
) -> None:
    folder = link(night.raw_paths(), tmp_path / "both")
    niri = NiriNight(folder)
    niri.darks(4, 1, EXPOSURE)
    niri.darks(4, 2, 2.001)
    niri.flats(4, 3, lamp=True)
    niri.flats(4, 4, lamp=False)
    science = niri.science(6, 5)
    for instrument in ("GSAOI", "GNIRS"):
        alien = folder / f"{instrument}.fits"
        shutil.copy(science[-1], alien)
        fits.setval(alien, "INSTRUME", value=instrument)
    run = lab.reduce(folder, steps={"check": {"shape": None}})

    assert run.report.failures == ()
    assert run.kinds() == sorted(2 * ["bpm", "dark", "flat", "image"])
    for product in run.report.products:
        instruments = {name[0] for name in product.inputs if name.startswith(("S2", "N2"))}
        assert instruments == {"N" if product.label.endswith("NIRI") else "S"}
    # The other instrument changes nothing in the products of this one.
    for kind in ("bpm", "dark", "flat", "image"):
        assert run.product(kind, "F2").recipe_key == reduced.product(kind).recipe_key

    assert "no table describes" in run.reason("GSAOI.fits")
    assert "no table describes" in run.reason("GNIRS.fits")
    first = [one.name for one in run.report.left_out if "first frame of an observation" in one.reason]
    assert len(first) == 5

    image = run.product("image", "NIRI")
    assert image.output is not None
    assert image.metrics["ncombine"] == 6
    assert fluxes(image.output) == pytest.approx([1.0] * len(STARS), abs=0.02)
    header = fits.getheader(image.output, "SCI")
    assert abs(header["CD1_1"]) * 3600 == pytest.approx(SCALE, rel=1e-3)
