"""A galaxy whose dithers are too small: the stack names what it loses, where, and the throw that would do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from astropy.io import fits
from night_lab import Lab, Run, link

from benchmarks.skies.judge import galaxy_rows
from imaging.simulator.parameters import NightParameters
from imaging.simulator.simulate import simulate_night
from imaging.simulator.stack_model import read_stack
from imaging.simulator.star_field import FIELD
from imaging.simulator.truth import NightTruth
from tasks.support.references import ProductRef

#: Arcsec: a field of 69.
SCALE, DITHER = 8.0, 7.0
WARNING = re.compile(
    r"RA ([\d.]+), Dec (-[\d.]+) \(x \d+, y \d+\) with a scale length of (\d+) arcsec loses (\d+) % of its light "
    r"at the centre and (\d+) % at 2 scale lengths \(limit 5 %, sky.loss\), because its sky frames contain it: "
)


@pytest.fixture(scope="module")
def galaxy(night: NightTruth, tmp_path_factory: pytest.TempPathFactory) -> NightTruth:
    """Science frames of a galaxy, next to the calibration frames of the small night."""
    science = {frame.file for frame in night.science}
    folder = link(
        [path for path in night.raw_paths() if path.name not in science], tmp_path_factory.mktemp("galaxy")
    )
    changes = {"n_science": 9, "stale_wcs": None, "galaxy": 0.5, "galaxy_scale": SCALE, "dither": DITHER}
    parameters = NightParameters(**night.parameters.model_dump() | changes)
    return simulate_night(folder, parameters, roles=("science",))


@pytest.fixture(scope="module")
def run(new_lab: Callable[..., Lab], galaxy: NightTruth) -> Run:
    return new_lab().reduce(galaxy.folder.parent)


@pytest.fixture(scope="module")
def stack(run: Run) -> ProductRef:
    return run.product("image")


def path_of(stack: ProductRef) -> Path:
    assert stack.output is not None
    return stack.output


def test_the_warning_names_the_losses_within_30_percent_and_the_throw(
    stack: ProductRef, galaxy: NightTruth
) -> None:
    warning = next(text for text in stack.warnings if "extended source" in text)
    found = WARNING.search(warning)
    assert found is not None, warning
    ra, dec, scale, centre, halo = map(float, found.groups())
    assert (ra, dec) == pytest.approx(FIELD, abs=2.0 / 3600)
    assert scale == pytest.approx(SCALE, rel=0.2)
    rows = galaxy_rows(read_stack(path_of(stack)), galaxy, {"metrics": stack.metrics})
    assert (centre, halo) == pytest.approx([row.value for row in rows], rel=0.3)
    assert re.search(r"dithers [\d.]+ times as wide, a median of \d+ arcsec|sky at least \d+ arcsec", warning)


def test_figures_and_cards_have_the_same_losses(stack: ProductRef) -> None:
    cards = fits.getheader(path_of(stack))
    assert cards["SKYLOSSC"] == pytest.approx(stack.metrics["lost_at_centre"])
    assert cards["SKYLOSS"] == pytest.approx(stack.metrics["lost_in_halo"])
    assert cards["SKYTHROW"] == pytest.approx(stack.metrics["needed_throw"])
    assert cards["SKYTHROW"] > 2**0.5 * DITHER
    assert (cards["XSRCRA"], cards["XSRCDEC"]) == pytest.approx(FIELD, abs=2.0 / 3600)
    assert cards["XSRCSIZE"] == pytest.approx(SCALE, rel=0.2)
    assert "extended source" in cards["NFWARN1"]


def test_a_field_of_stars_has_no_such_warning(reduced: Run) -> None:
    image = reduced.product("image")
    assert not any("extended source" in text for text in image.warnings)
    assert image.metrics["lost_in_halo"] is None
    assert not {"SKYLOSS", "SKYLOSSC", "SKYTHROW", "XSRCX"} & set(fits.getheader(path_of(image)))
