"""A night whose groups are small or bad: each is reduced as far as it allows or named, and the others go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from night_lab import Lab, Pixels, Run, altered, link, without_stars
from numpy.typing import NDArray

from imaging.pixels.dq import DQ
from imaging.simulator.truth import NightTruth
from tasks.support.references import ProductRef

pytestmark = pytest.mark.long

#: First file number of each observation.
NUMBERS = {"SINGLE": 300, "PAIR": 320, "BLIND": 340, "CLOUDS": 360, "SKIES": 380, "SHORT": 400, "THREE": 420}


def _observe(
    night: NightTruth, folder: Path, name: str, numbers: range, pixels: Pixels | None = None, **cards: Any
) -> None:
    """Add some frames of the night, changed, as an observation of its own."""
    first = NUMBERS[name]
    cards = {"OBJECT": name, "OBSID": f"GS-2013B-Q-15-{first}"} | cards
    for n in numbers:
        source = night.folder.parent / night.science[n].file
        altered(source, folder / f"S20131121S0{first + n}.fits", pixels, **cards)


def _saturated(adu: NDArray[np.int32]) -> NDArray[np.int32]:
    return adu + 400000


@pytest.fixture(scope="module")
def folder(night: NightTruth, tmp_path_factory: pytest.TempPathFactory) -> Path:
    science = {frame.file for frame in night.science}
    raw = [path for path in night.raw_paths() if path.name not in science]
    folder = link(raw, tmp_path_factory.mktemp("small"))
    _observe(night, folder, "SINGLE", range(1))
    _observe(night, folder, "PAIR", range(2))
    _observe(night, folder, "BLIND", range(3), _saturated)
    _observe(night, folder, "CLOUDS", range(3), without_stars(night, 15.0))
    _observe(night, folder, "SKIES", range(1))
    _observe(night, folder, "SKIES", range(1, 4), POFFSET=400.0, FILTER2="J_G0802")
    _observe(night, folder, "SHORT", range(3), EXPTIME=60.0)
    _observe(night, folder, "THREE", range(1, 4))
    return folder


@pytest.fixture(scope="module")
def small_lab(new_lab: Callable[..., Lab]) -> Lab:
    return new_lab()


@pytest.fixture(scope="module")
def small(small_lab: Lab, folder: Path) -> Run:
    return small_lab.reduce(folder)


def image_of(run: Run, target: str) -> ProductRef:
    return run.product("image", target)


def header(image: ProductRef) -> fits.Header:
    assert image.output is not None
    return fits.getheader(image.output)


def test_a_single_frame_is_reduced_with_its_own_background_and_marked(small: Run, small_lab: Lab) -> None:
    image = image_of(small, "SINGLE")
    assert image.metrics["sky_frames"] == 0
    assert any("smooth background of the frame itself" in text for text in image.warnings)
    cards = header(image)
    assert (cards["NSKY"], cards["NCOMBINE"]) == (0, 1)
    assert any(
        "smooth background of the frame itself" in str(cards[key])
        for key in cards
        if key.startswith("NFWARN")
    )
    product = small_lab.store().get(image.id)
    assert product.status == "candidate"
    assert product.gate["passed"] is False
    with fits.open(image.output) as hdus:
        sci, var, dq = (hdus[name].data for name in ("SCI", "VAR", "DQ"))
        blank = (dq == 0) & (hdus["OBJMASK"].data == 0)
        pull = sci[blank] / np.sqrt(var[blank])
        assert 1.4826 * np.median(np.abs(pull - np.median(pull))) == pytest.approx(1.0, abs=0.04)
        assert (dq & DQ.COSMIC_RAY).any()


def test_each_frame_of_a_pair_is_the_sky_of_the_other_and_the_product_is_marked(small: Run) -> None:
    image = image_of(small, "PAIR")
    assert image.metrics["sky_frames"] == 1
    assert any(text.startswith("sky from 1 frame: the noise is larger") for text in image.warnings)
    assert header(image)["NSKY"] == 1


def test_three_frames_need_no_mark(small: Run) -> None:
    image = image_of(small, "THREE")
    assert image.metrics["sky_frames"] == 2
    assert not any("sky from" in text or "no sky" in text for text in image.warnings)


def test_a_group_whose_frames_are_all_saturated_is_left_out_by_name(small: Run) -> None:
    for n in range(3):
        assert "saturat" in small.reason(f"S20131121S0{NUMBERS['BLIND'] + n}.fits")


def test_cloudy_frames_without_stars_are_named_or_placed_by_their_headers(small: Run) -> None:
    image = image_of(small, "CLOUDS")
    assert image.metrics["seeing"] is None
    lost = {one.name for one in image.left_out}
    assert all("stars" in one.reason for one in image.left_out)
    assert len(lost) + int(image.metrics["ncombine"]) == 3


def test_sky_frames_of_another_filter_are_no_sky(small: Run) -> None:
    image = image_of(small, "SKIES Y")
    assert image.metrics["sky_frames"] == 0
    assert image.inputs == (f"S20131121S0{NUMBERS['SKIES']}.fits",)
    assert "flat" in small.failure("SKIES J")


def test_a_dark_missing_for_one_exposure_time_costs_only_its_frames(small: Run) -> None:
    message = small.failure("SHORT")
    assert "no dark serves" in message
    assert "--allow-missing dark" in message
    assert image_of(small, "THREE").metrics["ncombine"]


def test_masks_that_leave_no_sky_are_named_with_the_parameters_to_change(
    small_lab: Lab, folder: Path, small: Run
) -> None:
    three = [folder / f"S20131121S0{NUMBERS['THREE'] + n}.fits" for n in range(1, 4)]
    run = small_lab.reduce(*three, out="masked", steps={"detect": {"dilation": 400}})
    message = run.failure("THREE")
    assert "its sources cannot be detected: no part of the frame has enough good pixels" in message
    assert "detect.dilation" in message


def test_a_pair_can_be_refused(small_lab: Lab, folder: Path, small: Run) -> None:
    pair = [folder / f"S20131121S0{NUMBERS['PAIR'] + n}.fits" for n in range(2)]
    run = small_lab.reduce(*pair, out="refused", steps={"sky": {"few": "refuse"}})
    assert "1 sky frame, at least 2 are needed (sky.minimum)" in run.failure("PAIR")
