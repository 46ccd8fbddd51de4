"""Three dithers of a single bright star, in files as odd as those of an old camera: no calibrations, no WCS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from night_lab import Lab, Run
from own_cameras import EXAMPLES, tables

from imaging.io.raw_file import open_raw
from imaging.products.product_file import read_table

SIZE = 512
SCALE = 0.00994
#: Where the star is in each frame, px, and the telescope's offsets, arcsec: nominal and as they really were.
PLACES = ((125.3, 364.1), (369.4, 123.2), (367.9, 363.6))
OFFSETS = ((-1.95, -1.69), (0.47, 0.71), (0.47, -1.69))
FLUX = 3.0e7


def star_frame(path: Path, number: int) -> Path:
    """Write a frame: int32, the header padded with NUL behind END, and one more block behind the pixels."""
    rng = np.random.default_rng(number)
    (x0, y0), (east, north) = PLACES[number], OFFSETS[number]
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    r2 = (x - x0) ** 2 + (y - y0) ** 2
    core, halo = 0.35 + 0.1 * number, 0.65 - 0.1 * number  # the correction of the atmosphere varies
    light = core * np.exp(-r2 / 18.0) / (18.0 * np.pi) + halo * np.exp(-r2 / 800.0) / (800.0 * np.pi)
    electrons = rng.poisson(FLUX * light + 200.0) + rng.normal(0, 380.0, (SIZE, SIZE))
    cards = [
        ("CURRINST", "NIRC2"), ("IMAGETYP", "data"), ("TARGNAME", "STAR"), ("ITIME", 0.053), ("COADDS", 40),
        ("SAMPMODE", 2), ("CAMNAME", "narrow"), ("SLITNAME", "none"), ("GRSNAME", "clear"), ("FWINAME", "H"),
        ("FWONAME", "clear"), ("SHRNAME", "open"), ("DATE-OBS", "2017-07-25"), ("EXPSTART", f"14:18:{number}0.0"),
        ("RA", 10.0 + east / 3600), ("DEC", 4.0 + north / 3600), ("RAOFF", east / 3600), ("DECOFF", north / 3600),
        ("ROTPOSN", 0.7), ("AIRMASS", 1.04),
    ]  # fmt: skip
    header = fits.Header(
        [("SIMPLE", True), ("BITPIX", 32), ("NAXIS", 2), ("NAXIS1", SIZE), ("NAXIS2", SIZE), *cards]
    )
    text = header.tostring(padding=False).encode()
    pixels = np.rint(electrons / 4.0).astype(">i4").tobytes()
    behind = -len(pixels) % 2880
    path.write_bytes(text + b"\0" * (-len(text) % 2880) + pixels + b"\0" * behind + b"\0" * 2880)
    return path


@pytest.fixture(scope="module")
def run(new_lab: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("star")
    files = [star_frame(folder / f"star_{n}.fits", n) for n in range(3)]
    with tables(EXAMPLES / "nirc2.toml"):
        with open_raw(files[0]) as raw:
            assert raw.extension.notes == ()
        lab = new_lab(SIZE)
        return lab.reduce(*files, choice={"allow_missing": ["dark", "flat", "bpm"]})


def test_the_frames_are_aligned_by_the_star_and_stacked(run: Run) -> None:
    assert run.report.failures == ()
    assert run.report.left_out == ()
    stack = run.product("image")
    assert len(stack.inputs) == 3
    table = read_table(stack.output, "ALIGNMENT")
    assert table is not None
    assert sorted(table["found_by"]) == ["few stars", "few stars", "reference"]
    moved = np.array([table["dx"], table["dy"]]).T + np.array(PLACES)
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0], moved.shape), atol=0.1)
    assert any("only 1 star to match, but the telescope's offsets agree" in one for one in stack.warnings)


def test_the_light_of_the_star_is_complete(run: Run) -> None:
    with fits.open(run.product("image").output) as hdus:
        sci = np.array(hdus["SCI"].data)
    y0, x0 = np.unravel_index(np.argmax(sci), sci.shape)
    y, x = np.mgrid[0 : sci.shape[0], 0 : sci.shape[1]]
    assert sci[np.hypot(x - x0, y - y0) < 90].sum() == pytest.approx(FLUX, rel=0.02)
