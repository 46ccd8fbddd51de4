"""Previews show what a user looks for: the right way up, the background, no data, the share of bad pixels."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.visualization import ZScaleInterval
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as Picture

from imaging.errors import NirflowError
from imaging.frames.facts import FrameFacts
from imaging.pixels.dq import DQ
from imaging.pixels.image import BadPixelMask, Image, Reason
from imaging.products.captions import CAPTION, caption_of
from imaging.products.header_cards import Record
from imaging.products.preview import (
    block_mean,
    linear_light,
    preview_product,
    write_mask_preview,
    write_preview,
    write_thumbnail,
    zscale,
)
from imaging.products.product_file import ProductFile, write_product

GREY_BLUE = (64, 78, 110)
RED, BLUE, GREEN, AMBER, WHITE = (
    (255, 70, 60),
    (70, 160, 255),
    (90, 220, 110),
    (255, 190, 50),
    (235, 235, 235),
)


def colours(path: Path) -> np.ndarray:
    """The picture as RGB, first row at the top."""
    with Picture.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(2).normal(100, 5, (200, 300)).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "picture"),
    [((200, 300), (300, 200)), ((700, 700), (700, 700)), ((701, 30), (15, 350)), ((2048, 2048), (682, 682))],
)
def test_size(tmp_path: Path, shape: tuple[int, int], picture: tuple[int, int]) -> None:
    path = write_preview(tmp_path / "a.png", np.zeros(shape, np.float32))
    height, width, _ = colours(path).shape
    assert (width, height) == picture


def test_rows_run_upwards(tmp_path: Path, noise: np.ndarray) -> None:
    noise[10:20, 30:60] += 500
    rgb = colours(write_preview(tmp_path / "a.png", noise))
    assert (rgb[180:190, 30:60] == 255).all()
    assert rgb[10:20, 30:60].mean() < 200


def test_no_data_is_no_grey(tmp_path: Path, noise: np.ndarray) -> None:
    noise[:50, :70] = np.nan
    rgb = colours(write_preview(tmp_path / "a.png", noise))
    blue = (rgb == GREY_BLUE).all(axis=2)
    assert blue.sum() == 50 * 70
    assert blue[150:, :70].all()
    greys = rgb[~blue]
    assert (np.ptp(greys.astype(int), axis=1) == 0).all()


def test_the_caption_has_limits_and_unit(tmp_path: Path, noise: np.ndarray) -> None:
    caption = caption_of(write_preview(tmp_path / "a.png", noise, unit="electron"))
    assert caption is not None
    assert caption.limits is not None
    low, high = caption.limits
    assert low < 95 < 105 < high
    assert (caption.shape, caption.block) == ((200, 300), 1)
    assert caption.text == f"black {low:.3g}, white {high:.3g} electron"
    nothing = caption_of(write_preview(tmp_path / "b.png", np.full((9, 9), np.nan, np.float32)))
    assert nothing is not None
    assert nothing.text == "no data"


@pytest.mark.parametrize(
    "note", ["", "{}", '{"shape":[9,9],"block":1,"counts":[{"reason":"x;}","pixels":1}]}', "[" * 9]
)
def test_a_caption_that_is_no_caption_is_not_read(tmp_path: Path, note: str) -> None:
    path = write_thumbnail(tmp_path / "a.png", np.eye(9, dtype=np.float32), notes={CAPTION: note})
    assert caption_of(path) is None
    assert caption_of(write_thumbnail(tmp_path / "b.png", np.eye(9, dtype=np.float32))) is None


def test_the_same_pixels_give_the_same_file(tmp_path: Path, noise: np.ndarray) -> None:
    first = write_preview(tmp_path / "a.png", noise).read_bytes()
    assert write_preview(tmp_path / "a.png", noise).read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("value", [0.0, -3.5, 1e9, np.nan])
def test_an_image_of_one_value(tmp_path: Path, value: float) -> None:
    rgb = colours(write_preview(tmp_path / "a.png", np.full((60, 90), value, np.float32)))
    assert len(np.unique(rgb.reshape(-1, 3), axis=0)) == 1


@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(-100, 100, width=32)
    ),
    st.integers(1, 4),
    st.data(),
)
def test_block_mean_is_the_mean_of_the_finite(array: np.ndarray, factor: int, data: st.DataObject) -> None:
    holes = data.draw(hnp.arrays(bool, array.shape))
    array = np.where(holes, np.float32(np.nan), array)
    got = block_mean(array, factor)
    for (y, x), value in np.ndenumerate(got):
        block = array[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
        finite = block[np.isfinite(block)]
        expected = finite.mean(dtype=float) if finite.size else np.nan
        assert value == pytest.approx(expected, rel=1e-5, abs=1e-3, nan_ok=True)


def test_zscale_agrees_with_astropys(noise: np.ndarray) -> None:
    noise[::17, ::13] += (
        np.random.default_rng(4).exponential(2000, noise[::17, ::13].shape).astype(np.float32)
    )
    low, high = zscale(noise)
    theirs = ZScaleInterval(n_samples=10_000).get_limits(noise)
    # Astropy also drops the neighbours of an outlier, which flattens the line a little.
    assert (low, high) == (pytest.approx(theirs[0], abs=3), pytest.approx(theirs[1], abs=3))


@given(hnp.arrays(np.float32, st.integers(0, 60), elements=st.floats(width=32)))
def test_limits_are_finite_and_apart(values: np.ndarray) -> None:
    values = np.where(np.abs(values) < 1e30, values, np.float32(np.nan))
    low, high = zscale(values)
    assert np.isfinite([low, high]).all()
    assert low < high


@pytest.mark.parametrize(
    ("reason", "colour"),
    [
        (Reason.HOT, RED), (Reason.COLD, BLUE), (Reason.HIGH_RESPONSE, GREEN), (Reason.LOW_RESPONSE, AMBER),
        (Reason.HOT | Reason.LOW_RESPONSE, RED), (0, WHITE),
    ],
)  # fmt: skip
def test_one_bad_pixel_has_its_share_of_light_in_its_colour(
    tmp_path: Path, reason: int, colour: tuple[int, ...]
) -> None:
    bad, reasons = np.zeros((2048, 2048), np.uint8), np.zeros((2048, 2048), np.uint8)
    bad[300, 1500], reasons[300, 1500] = 1, reason
    rgb = colours(write_mask_preview(tmp_path / "a.png", bad, reasons))
    (y,), (x,) = np.nonzero(rgb.any(axis=2))
    assert (y, x) == (rgb.shape[0] - 1 - 300 // 3, 1500 // 3)
    assert linear_light(rgb[y, x]) == pytest.approx(linear_light(np.array(colour)) / 9, abs=0.003)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.3])
def test_a_mask_has_the_light_of_its_share_of_bad_pixels(tmp_path: Path, share: float) -> None:
    """One bad pixel in a thousand looks like one in a thousand."""
    bad = (np.random.default_rng(5).random((2100, 2100)) < share).astype(np.uint8)
    rgb = colours(write_mask_preview(tmp_path / "a.png", bad))
    full = linear_light(np.array(WHITE)).mean()
    assert linear_light(rgb).mean() / full == pytest.approx(bad.mean(), rel=0.02)
    caption = caption_of(tmp_path / "a.png")
    assert caption is not None
    assert caption.text == f"bad {bad.sum()} px ({100 * bad.mean():.2g} %)"


def test_a_dead_region_has_its_full_colour(tmp_path: Path) -> None:
    bad, reasons = np.zeros((1400, 1400), np.uint8), np.full((1400, 1400), Reason.LOW_RESPONSE, np.uint8)
    bad[:20, -30:] = 1
    rgb = colours(write_mask_preview(tmp_path / "a.png", bad, reasons))
    assert (rgb[-10:, -15:] == AMBER).all()
    assert rgb.any(axis=2).sum() == 10 * 15


def test_a_mask_without_bad_pixels(tmp_path: Path) -> None:
    assert (colours(write_mask_preview(tmp_path / "a.png", np.zeros((60, 250), np.uint8))) == 0).all()
    caption = caption_of(tmp_path / "a.png")
    assert caption is not None
    assert caption.text == "no bad pixels"


@pytest.fixture
def record(facts: FrameFacts) -> Record:
    stamp = datetime(2026, 11, 23, tzinfo=UTC)
    return Record(kind="flat", facts=facts, inputs=["S1.fits"], stamp=stamp)


def test_a_products_preview_leaves_out_what_has_no_light(
    tmp_path: Path, record: Record, primary: fits.Header
) -> None:
    sci = np.random.default_rng(3).normal(1, 0.01, (60, 90)).astype(np.float32)
    dq = np.zeros((60, 90), np.uint16)
    dq[:10], dq[10:20], dq[20:30] = DQ.UNILLUMINATED, DQ.NO_DATA, DQ.SATURATED
    write_product(tmp_path / "f.fits", Image(sci, sci, dq, fits.Header(), primary), record)
    with ProductFile(tmp_path / "f.fits") as product:
        rgb = colours(preview_product(tmp_path / "f.png", product))[::-1]
    blue = (rgb == GREY_BLUE).all(axis=2)
    assert blue[:20].all()
    assert not blue[20:].any()


def test_a_masks_preview_has_its_reasons(tmp_path: Path, record: Record, primary: fits.Header) -> None:
    reasons = np.zeros((60, 90), np.uint8)
    reasons[30, 40], reasons[10, 70] = Reason.COLD, Reason.HIGH_RESPONSE
    mask = BadPixelMask.from_reasons(reasons, header=fits.Header(), primary=primary)
    bpm: dict[str, Any] = vars(record) | {"kind": "bpm"}
    write_product(tmp_path / "b.fits", mask, Record(**bpm))
    with ProductFile(tmp_path / "b.fits") as product:
        rgb = colours(preview_product(tmp_path / "b.png", product))[::-1]
    assert tuple(rgb[30, 40]) == BLUE
    assert tuple(rgb[10, 70]) == GREEN
    caption = caption_of(tmp_path / "b.png")
    assert caption is not None
    assert [(one.label, one.pixels) for one in caption.counts or ()] == [("cold", 1), ("high response", 1)]


def test_nowhere_to_write(tmp_path: Path, noise: np.ndarray) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NirflowError, match=r"a\.png could not be written"):
        write_preview(tmp_path / "file" / "a.png", noise)
