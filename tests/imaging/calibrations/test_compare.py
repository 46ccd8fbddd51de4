"""The gate: what noise may do passes, a change of a detector, a lamp or a leak is reported with its figure.

Masters are drawn from a known truth with correct variances, so the figures have values that statistics
gives: the scatter of a difference is the root of the sum of both variances.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from imaging.calibrations.compare import GateParameters, compare, meanings_of
from imaging.calibrations.illumination import Circle, circle_cards, circle_of
from imaging.errors import FrameError
from imaging.frames.facts import FrameFacts
from imaging.pixels.dq import DQ
from imaging.pixels.image import BadPixelMask, Image
from imaging.products.header_cards import Cards, Record
from imaging.products.product_file import ProductFile, write_product

SHAPE = (200, 220)
STAMP = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = GateParameters()
Make = Callable[..., ProductFile]
rng = np.random.default_rng(3)
TRUE_DARK = rng.normal(100.0, 6.0, SHAPE)
TRUE_DARK[rng.random(SHAPE) < 0.002] += 2000.0
TRUE_FLAT = rng.normal(1.0, 0.015, SHAPE)


@pytest.fixture
def make(tmp_path: Path, facts: FrameFacts, extension: fits.Header, primary: fits.Header) -> Make:
    """Write a master whose pixels scatter about a truth according to its variance, times ``pull``."""
    count = 0

    def write(
        kind: str, truth: NDArray[Any], *, sigma: float = 2.5, inputs: int = 10, pull: float = 1.0,
        dq: NDArray[np.uint16] | None = None, seed: int = 0, cards: Cards | None = None,
    ) -> ProductFile:  # fmt: skip
        nonlocal count
        count += 1
        noise = np.random.default_rng(count + 100 * seed).normal(0.0, sigma * pull, truth.shape)
        planes = Image(
            (truth + noise).astype(np.float32), np.full(truth.shape, sigma**2, np.float32),
            np.zeros(truth.shape, np.uint16) if dq is None else dq, extension, primary,
        )  # fmt: skip
        record = Record(
            kind=kind,
            facts=facts,
            inputs=[f"S{n}.fits" for n in range(inputs)],
            stamp=STAMP,
            cards=cards or {},  # type: ignore[arg-type]
        )
        path = tmp_path / f"{kind}{count}.fits"
        write_product(path, planes, record)
        return ProductFile(path)

    return write


@pytest.fixture
def mask(tmp_path: Path, facts: FrameFacts, extension: fits.Header, primary: fits.Header):
    def write(bad: NDArray[np.bool_], name: str, circle: Circle | None = None) -> ProductFile:
        reasons = bad.astype(np.uint8)
        record = Record(kind="bpm", facts=facts, inputs=["S1.fits"], stamp=STAMP)
        header = extension.copy()
        header.update(circle_cards(circle) if circle is not None else {})
        write_product(
            tmp_path / name, BadPixelMask.from_reasons(reasons, header=header, primary=primary), record
        )
        return ProductFile(tmp_path / name)

    return write


def test_two_darks_of_one_detector_differ_by_their_noise(make: Make) -> None:
    done = compare("dark", make("dark", TRUE_DARK), make("dark", TRUE_DARK), LIMITS)
    assert done.passed, done.reasons
    figures = done.figures
    assert figures["expected"] == pytest.approx(np.sqrt(2) * 2.5, rel=1e-6)
    assert figures["scatter"] == pytest.approx(figures["expected"], rel=0.02)
    assert figures["differing"] < 1e-4
    assert abs(figures["level"]) < 0.1
    assert figures["noise"] == pytest.approx(1.0)
    assert figures["hot"] == figures["hot_reference"] == (TRUE_DARK > 1000).sum()
    assert figures["pixels"] == TRUE_DARK.size


def test_the_fraction_is_that_of_a_normal_distribution(make: Make) -> None:
    limits = GateParameters(sigma=2.0, fraction=0.06)
    done = compare("dark", make("dark", TRUE_DARK), make("dark", TRUE_DARK), limits)
    assert done.figures["differing"] == pytest.approx(0.0455, abs=0.004)
    assert done.passed
    tight = compare(
        "dark", make("dark", TRUE_DARK), make("dark", TRUE_DARK), GateParameters(sigma=2.0, fraction=0.04)
    )
    assert "4." in tight.reasons[0]
    assert "at most 4.00% (gate.fraction)" in tight.reasons[0]


def test_a_dark_of_fewer_frames_is_noisier_by_right(make: Make) -> None:
    few, many = make("dark", TRUE_DARK, sigma=2.5 * np.sqrt(10 / 3), inputs=3), make("dark", TRUE_DARK)
    for pair, noise in (((few, many), np.sqrt(10 / 3)), ((many, few), np.sqrt(3 / 10))):
        done = compare("dark", *pair, LIMITS)
        assert done.figures["noise"] == pytest.approx(noise, rel=1e-3)
        assert done.passed, done.reasons


def test_equal_flats_are_equal_whatever_their_frames_are_called(make: Make) -> None:
    """Other software counts the lamp-ons alone in NCOMBINE: 4 where another flat of the same frames has 10."""
    ours = make("flat", TRUE_FLAT, sigma=0.003, inputs=10)
    theirs = make("flat", TRUE_FLAT, sigma=0.003, inputs=4)
    for pair in ((ours, theirs), (theirs, ours)):
        done = compare("flat", *pair, LIMITS)
        assert done.passed, done.reasons
        assert done.figures["noise"] == pytest.approx(1.0)


def test_the_frames_with_light_explain_the_noise_of_a_flat(make: Make) -> None:
    few = make("flat", TRUE_FLAT, sigma=0.003 * np.sqrt(3), inputs=12, cards={"NLAMPON": 2})
    many = make("flat", TRUE_FLAT, sigma=0.003, inputs=6)
    done = compare("flat", few, many, LIMITS)
    assert done.passed, done.reasons
    assert done.figures["noise"] == pytest.approx(np.sqrt(3), rel=1e-3)
    noisy = make("flat", TRUE_FLAT, sigma=0.003 * np.sqrt(3), inputs=12, cards={"NLAMPON": 6})
    (reason,) = compare("flat", noisy, many, LIMITS).reasons
    assert "1.73 times as noisy by its variances, expected 0.67 to 1.50 with 6 and 6 frames" in reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda true: true + 15.0, r"the level is \+15\.\d e- off, at most 10 \(gate\.dark_level\)"),
        (lambda true: true - 15.0, r"the level is -1[45]\.\d e- off"),
        (lambda true: true + np.where(np.arange(SHAPE[1]) < 20, 40.0, 0.0), r"of the pixels differ beyond 5 sigma"),
        (
            lambda true: np.where(np.random.default_rng(1).random(SHAPE) < 0.02, true + 3000, true),
            r"hot pixels, the reference has",
        ),
    ],
)  # fmt: skip
def test_light_in_a_dark_a_drift_and_new_hot_pixels_are_reported(make: Make, change, message: str) -> None:
    done = compare("dark", make("dark", change(TRUE_DARK)), make("dark", TRUE_DARK), LIMITS)
    assert not done.passed
    import re

    assert [reason for reason in done.reasons if re.search(message, reason)], done.reasons


@pytest.mark.parametrize("sigma", [1.0, 6.0])
def test_different_noise_is_reported(make: Make, sigma: float) -> None:
    done = compare("dark", make("dark", TRUE_DARK, sigma=sigma), make("dark", TRUE_DARK), LIMITS)
    assert [reason for reason in done.reasons if "times as noisy" in reason], done.reasons


def test_flags_of_either_keep_a_pixel_out(make: Make) -> None:
    flags = np.zeros(SHAPE, np.uint16)
    flags[:100] = DQ.BAD_PIXEL
    spoilt = TRUE_DARK.copy()
    spoilt[:100] += 5000.0
    for first, second in ((flags, None), (None, flags)):
        done = compare("dark", make("dark", spoilt, dq=first), make("dark", TRUE_DARK, dq=second), LIMITS)
        assert done.passed, done.reasons
        assert done.figures["pixels"] == 100 * SHAPE[1]


def test_two_flats_of_one_detector(make: Make) -> None:
    done = compare("flat", make("flat", TRUE_FLAT, sigma=0.003), make("flat", TRUE_FLAT, sigma=0.003), LIMITS)
    assert done.passed, done.reasons
    assert done.figures["scatter"] == pytest.approx(done.figures["expected"], rel=0.03)
    assert done.figures["expected"] == pytest.approx(np.sqrt(2) * 0.003, rel=0.01)
    assert abs(done.figures["level"]) < 1e-3


def test_usual_changes_of_a_flat_pass_and_dust_is_reported(make: Make) -> None:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    reference = make("flat", TRUE_FLAT, sigma=0.001)
    gentle = make("flat", TRUE_FLAT * (1 + 0.01 * x / SHAPE[1]), sigma=0.001)
    assert compare("flat", gentle, reference, LIMITS).passed
    dust = TRUE_FLAT * np.where((y - 60) ** 2 + (x - 60) ** 2 < 20**2, 0.9, 1.0)
    done = compare("flat", make("flat", dust, sigma=0.001), reference, LIMITS)
    assert "of the pixels differ" in done.reasons[0]
    other = make("flat", np.random.default_rng(9).normal(1.0, 0.03, SHAPE), sigma=0.001)
    assert [r for r in compare("flat", other, reference, LIMITS).reasons if "rms off" in r]


def test_masks(mask) -> None:
    bad = np.random.default_rng(2).random(SHAPE) < 0.01
    same, more, other = bad.copy(), bad.copy(), np.roll(bad, 7, axis=1)
    more[:40] |= np.random.default_rng(4).random((40, SHAPE[1])) < 0.5
    reference = mask(bad, "a.fits")
    done = compare("bpm", mask(same, "b.fits"), reference, LIMITS)
    assert done.passed
    assert (done.figures["flipped"], done.figures["hot"]) == (0, int(bad.sum()))
    grown = compare("bpm", mask(more, "c.fits"), reference, LIMITS)
    assert [r for r in grown.reasons if "bad pixels, the reference has" in r]
    moved = compare("bpm", mask(other, "d.fits"), reference, LIMITS)
    assert moved.figures["differing"] == pytest.approx(2 * bad.mean(), rel=0.1)
    assert "are bad in only one" not in str(moved.reasons)
    assert "differ in only one of the two" in moved.reasons[0]


@pytest.mark.parametrize("ours_knows", [True, False])
def test_masks_are_compared_where_there_is_light(mask, ours_knows: bool) -> None:
    """A mask of other software calls the unlit corners bad, a fifth of the detector."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    circle = Circle(x=109.5, y=99.5, radius=97.0, measured=True)
    unlit = np.hypot(x - circle.x, y - circle.y) > circle.radius
    bad = np.random.default_rng(2).random(SHAPE) < 0.01
    ours = mask(bad & ~unlit, "a.fits", circle if ours_knows else None)
    theirs = mask(bad | unlit, "b.fits")
    lit = np.hypot(x - circle.x, y - circle.y) <= circle.radius - LIMITS.edge
    for number, pair in enumerate(((ours, theirs), (theirs, ours))):
        done = compare("bpm", *pair, LIMITS)
        assert done.passed, done.reasons
        assert done.figures["flipped"] == 0
        assert done.figures["pixels"] == pytest.approx(lit.sum(), rel=0.01)
        assert done.figures["hot"] == pytest.approx((bad & lit).sum(), abs=5), number
    more = bad | (np.random.default_rng(4).random(SHAPE) < 0.03)
    (reason,) = compare("bpm", mask(more | unlit, "c.fits"), ours, GateParameters(hot_floor=10**6)).reasons
    assert "differ in only one of the two" in reason


def test_a_mask_records_its_circle_of_light() -> None:
    circle = Circle(x=1023.5, y=1022.25, radius=1019.0, measured=True)
    header = fits.Header()
    header.update(circle_cards(circle))
    assert (header["LITX"], header["LITY"], header["LITRAD"]) == (1024.5, 1023.25, 1019.0)
    assert circle_of(header) == circle
    assert circle_of(fits.Header()) is None
    assert circle_cards(circle.model_copy(update={"measured": False})) == {}


def test_masks_of_two_places_of_the_detector(mask) -> None:
    first, second = (
        mask(np.zeros(SHAPE, bool), f"{x}.fits", Circle(x=x, y=100, radius=30, measured=True))
        for x in (40, 180)
    )
    with pytest.raises(FrameError, match="no pixel gets light in both masks"):
        compare("bpm", first, second, LIMITS)


def test_every_figure_has_a_meaning(make: Make, mask) -> None:
    pair = (make("dark", TRUE_DARK), make("dark", TRUE_DARK))
    assert set(compare("dark", *pair, LIMITS).figures) == set(meanings_of("dark"))
    flats = (make("flat", TRUE_FLAT, sigma=0.01), make("flat", TRUE_FLAT, sigma=0.01))
    assert set(compare("flat", *flats, LIMITS).figures) == set(meanings_of("flat"))
    masks = (mask(np.ones(SHAPE, bool), "a.fits"), mask(np.ones(SHAPE, bool), "b.fits"))
    assert set(compare("bpm", *masks, LIMITS).figures) == set(meanings_of("bpm"))


def test_what_cannot_be_compared(make: Make) -> None:
    dark = make("dark", TRUE_DARK)
    with pytest.raises(FrameError, match=r"200 x 220 pixels cannot be compared with the 100 x 220"):
        compare("dark", dark, make("dark", TRUE_DARK[:100]), LIMITS)
    with pytest.raises(FrameError, match="products of the kind image are not compared"):
        compare("image", dark, dark, LIMITS)
    flagged = make("dark", TRUE_DARK, dq=np.full(SHAPE, DQ.NO_DATA, np.uint16))
    with pytest.raises(FrameError, match="no pixel is usable"):
        compare("dark", flagged, dark, LIMITS)
