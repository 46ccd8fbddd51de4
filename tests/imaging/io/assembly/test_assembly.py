"""Frames assembled from regions: levels subtracted, halves in place whatever their order, noise as VAR states it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from own_cameras import OWL, tables, twin_table, two_arrays

from imaging.detrend.prepare import prepare
from imaging.errors import FrameError, NirflowError
from imaging.frames.find_files import CheckParameters
from imaging.instruments import catalogue
from imaging.instruments.regions import Array, Overscan
from imaging.io.assembly.assembled import assembled, without_overscan
from imaging.io.examine import examine
from imaging.io.raw_file import open_raw, read_layout
from imaging.pixels.dq import DQ

SIZE = 64
CARDS: dict[str, Any] = {
    "CAMERA": "Twin", "IMAGETYP": "Light Frame", "OBJECT": "M 1", "EXPOSURE": 30.0, "NSAMP": 1, "FILTER": "J",
    "DATE-OBS": "2024-05-01T03:12:45.0", "OBJCTRA": "05 34 31.9", "OBJCTDEC": "+22 00 52",
}  # fmt: skip


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[Path]:
    with tables(twin_table(SIZE, tmp_path)):
        yield tmp_path


def light(seed: int = 3, level: float = 500.0) -> np.ndarray:
    """Return the ADU of a frame without an overscan: every pixel differs."""
    return level + np.random.default_rng(seed).normal(0, 11.7 / 4.44, (SIZE, SIZE))


def frame(folder: Path, number: int = 1, **cards: Any) -> Path:
    path = folder / f"twin_{number}.fits"
    two_arrays(path, CARDS | cards, light(number), number)
    return path


@pytest.mark.parametrize("number", [1, 2])
def test_the_halves_are_in_place_whatever_their_order(twin: Path, number: int) -> None:
    with open_raw(frame(twin, number)) as raw:
        pixels = raw.rows()
        assert raw.shape == (SIZE, SIZE)
        assert raw.facts.section == f"[1:{SIZE},1:{SIZE}]"
        np.testing.assert_array_equal(raw.rows(slice(7, 9)), pixels[7:9])
    difference = pixels - light(number)
    assert abs(difference.mean()) < 0.2  # the noise of 128 levels
    assert difference.std() < 1.2  # the noise of a level of 16 pixels, and rounding


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_headers_alone_give_the_same_facts(twin: Path, suffix: str) -> None:
    found = []
    for number in (1, 2):
        path = frame(twin, number)
        if suffix:
            with fits.open(path) as hdus:
                hdus.writeto(path := path.with_name(path.name + suffix))
        layout = read_layout(path)
        assert layout.image is not None
        found.append([layout.image[key] for key in ("NAXIS1", "NAXIS2", "BITPIX", "CHIPID")])
        assert len(layout.images) == 1
        assert "BIASSEC" not in layout.image
        assert "BZERO" not in layout.image
        by_headers, complete = (examine(path, CheckParameters(), pixels=pixels) for pixels in (False, True))
        assert complete.usable, complete.reason
        assert by_headers.facts == complete.facts.model_copy(update={"pixels": None})  # type: ignore[union-attr]
    assert found == [[SIZE, SIZE, -32, "WEST"]] * 2


@pytest.mark.parametrize("statistic", ["mean", "median"])
@pytest.mark.parametrize("degree", [None, 1])
def test_the_variance_holds_the_noise_of_the_level(
    tmp_path: Path, statistic: str, degree: int | None
) -> None:
    table = twin_table(SIZE, tmp_path)
    kept = table.read_text()
    lines = f'statistic = "{statistic}"\n' + ("" if degree is None else f"degree = {degree}\n")
    table.write_text(
        kept.replace("[[detector.arrays]]", f"[detector.overscan]\n{lines}\n[[detector.arrays]]", 1)
    )
    with tables(table):
        detector = catalogue.named("Twin").detector
        facts = open_raw(frame(tmp_path)).facts
        assert facts.readout.read_noise > 11.7
        images, noise = [], 11.7 / 4.44
        rng = np.random.default_rng(5)
        for _ in range(60):
            stored = [
                np.rint(rng.normal(1000.3, noise, one.size)).astype(np.int32) for one in detector.arrays
            ]
            images.append(assembled(stored, detector.arrays, detector.overscan, detector.shape))
        sci, var, dq = zip(*(prepare(one, facts) for one in images), strict=True)
    assert (np.array(dq) == 0).all()
    # Without light, VAR has the shot noise of values above 0, which are noise here.
    floor = np.median(np.array(var)[np.array(sci) < 0])
    measured = np.var(np.array(sci), axis=0, ddof=1).mean()
    expected = {"mean": 1 / 16, "median": np.pi / (30 + np.pi)}[statistic] if degree is None else 0.0
    assert measured == pytest.approx(floor, rel=0.03)
    assert measured == pytest.approx(11.7**2 * (1 + expected) + 4.44**2 / 12, rel=0.03)


def test_gaps_have_no_data(twin: Path) -> None:
    table = twin_table(SIZE, twin)
    table.write_text(table.read_text().replace(f"shape = [{SIZE}, {SIZE}]", f"shape = [{SIZE}, {SIZE + 4}]")
                     .replace("at = [33, 1]", "at = [37, 1]"))  # fmt: skip
    with tables(table), open_raw(frame(twin)) as raw:
        _, _, dq = prepare(raw.rows(), raw.facts)
        seen = examine(raw.path, CheckParameters())
    assert (dq[:, 32:36] == DQ.NO_DATA).all()
    assert (np.delete(dq, np.s_[32:36], axis=1) == DQ.GOOD).all()
    assert seen.usable
    assert seen.facts is not None
    assert seen.facts.pixels is not None
    assert seen.facts.pixels.no_data == pytest.approx(4 / (SIZE + 4))


def test_overscan_rows_serve_columns(tmp_path: Path) -> None:
    array = Array(size=(12, 6), trim="[1:6,5:12]", overscan="[1:6,1:4]")
    stored = np.tile(np.arange(6), (12, 1)) * 100
    stored[4:] += 7
    assert (without_overscan(stored, array, Overscan()) == 7).all()


def test_unread_pixels_stay_unread(twin: Path) -> None:
    path = frame(twin)
    with fits.open(path, mode="update") as hdus:
        hdus[1].data[5, 10:46] = 2050
    with open_raw(path) as raw:
        _, _, dq = prepare(raw.rows(), raw.facts)
    assert np.count_nonzero(dq & DQ.NO_DATA) >= 30


def test_world_coordinates_follow_the_pixels(twin: Path) -> None:
    path = frame(twin)
    wcs = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 83.6, "CRVAL2": 22.0, "CRPIX1": 30.0, "CRPIX2": 20.0,
           "CD1_1": -5e-5, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 5e-5}  # fmt: skip
    with fits.open(path, mode="update") as hdus:
        next(one for one in hdus[1:] if one.header["CHIPID"] == "WEST").header.update(wcs)
    with open_raw(path) as raw:
        assert (raw.extension["CRPIX1"], raw.extension["CRPIX2"]) == (14.0, 20.0)


def test_a_file_without_one_of_the_arrays_is_refused(twin: Path) -> None:
    path = frame(twin)
    with fits.open(path) as hdus:
        hdus[1].header["CHIPID"] = "NORTH"
        hdus.writeto(path, overwrite=True)
    with pytest.raises(FrameError, match=r"detector\.arrays\[\d\]\.when") as caught:
        open_raw(path)
    assert caught.value.keyword == "CHIPID"
    assert "NORTH" in str(caught.value.found)


def test_an_array_of_another_size_is_refused(twin: Path) -> None:
    path = twin / "small.fits"
    two_arrays(path, CARDS, light()[:, :60], 1)
    with pytest.raises(FrameError, match=r"64 x 46, but detector\.arrays\[1\]\.size is 64 x 48"):
        open_raw(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('trim = "[17:48,1:64]"', 'trim = "[17:49,1:64]"', r"arrays\[1\]: trim is \[17:49,1:64\], but the image"),
        ('overscan = "[1:16,1:64]"', 'overscan = "[1:17,1:64]"', r"detector\.arrays\[1\]: overscan is .* overlaps"),
        ('overscan = "[1:16,1:64]"', 'overscan = "[1:16,2:64]"', r"arrays\[1\]: overscan is .* the rows or the"),
        ('trim = "[17:48,1:64]"', 'trim = "17:48"', r"detector\.arrays\[1\]\.trim: '17:48' is not a section"),
        ("at = [33, 1]", "at = [34, 1]", r"detector: arrays\[2\]\.at is \(34, 1\): 65 columns"),
        ("at = [33, 1]", "at = [32, 1]", r"detector: arrays\[2\]\.at is \(32, 1\): it overlaps arrays\[1\]"),
        ('when = { CHIPID = ["EAST"] }\n', "", r"detector: arrays\[2\]\.when is missing"),
        ("[bands]", '[detector.overscan]\nstatistic = "mode"\n[bands]', r"detector\.overscan\.statistic"),
    ],
)  # fmt: skip
def test_wrong_regions_are_refused_with_their_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    table = twin_table(SIZE, tmp_path)
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(NirflowError, match=message):
        catalogue.read_table(table)


def test_products_of_the_camera_are_not_assembled(twin: Path) -> None:
    path = frame(twin, PROCDARK="2024-05-01T04:00:00")
    assert len(read_layout(path).images) == 2


def test_the_table_of_one_hdu_needs_no_regions() -> None:
    assert catalogue.read_table(OWL).detector.noise_without_overscan(5.0, 4.44) == 5.0
