"""The products of a night in other software: the recipes of the documents, and real readers."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import fitsio
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table
from night_lab import Lab, Run
from objcat_readers import clip_sources
from pydantic import SecretStr

from calib_store.exchange.adopt import adopt
from calib_store.model.settings import StoreSettings
from calib_store.store import Store
from imaging.errors import FrameError
from imaging.simulator.plans.f2_nights import SKY_SCALE
from imaging.simulator.truth import NightTruth
from nirflow import read_ccd

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
KINDS: Final = ("dark", "bpm", "flat", "image")


def recipes() -> list[str]:
    """Code of the documents that opens products; the rest runs nirflow itself and is tested elsewhere."""
    blocks = [
        block
        for page in PAGES
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
    ]
    return [block for block in blocks if ".fits" in block]


@pytest.fixture
def folder(tmp_path: Path, reduced: Run, night: NightTruth, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the products in `out` and the frames in `night`, as the documents have them."""
    (tmp_path / "out").mkdir()
    for kind in KINDS:
        file = reduced.product(kind).output
        (tmp_path / "out" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "night").symlink_to(night.folder.parent)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def store(reduced_lab: Lab, reduced: Run) -> Iterator[Store]:
    """The store of the night."""
    settings = StoreSettings(data_dir=reduced_lab.data, database_url=SecretStr(reduced_lab.url))
    with Store.open(settings) as opened:
        yield opened


def product(folder: Path, kind: str) -> Path:
    (path,) = folder.glob(f"out/*_{kind}.fits")
    return path


def run(recipe: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(compile(recipe, "recipe", "exec"), found)  # noqa: S102
    return found


def with_(*words: str) -> str:
    (recipe,) = [one for one in recipes() if all(word in one for word in words)]
    return recipe


def test_every_recipe_is_tried() -> None:
    tried = [
        with_("ccd = read_ccd"),
        with_("mask = CCDData.read"),
        with_("import ccdproc"),
        with_("photutils"),
        with_("reproject"),
        with_("MAGZERO"),
    ]
    assert sorted([*tried, with_("checksum=True")]) == sorted(recipes())


def test_read_ccd_opens_the_stack(folder: Path) -> None:
    ccd = run(with_("ccd = read_ccd"))["ccd"]
    assert (ccd.unit, ccd.uncertainty.uncertainty_type, ccd.wcs.celestial.naxis) == (u.electron, "var", 2)
    assert ccd.meta["OBSTYPE"] == "OBJECT"


def test_magnitudes_follow_from_fluxes_and_the_zero_point(folder: Path) -> None:
    found = run(with_("MAGZERO"))
    sources, magnitude, error = found["sources"], found["magnitude"], found["error"]
    measured = np.isfinite(sources["MAG_AUTO"])
    assert measured.sum() > 5
    np.testing.assert_allclose(magnitude[measured], sources["MAG_AUTO"][measured], atol=1e-4)
    assert (error[measured] >= found["cards"]["MAGZERR"]).all()


def test_ccddata_reads_the_products(folder: Path) -> None:
    found = run(with_("mask = CCDData.read"))
    image, mask = found["image"], found["mask"]
    assert (image.unit, image.uncertainty.uncertainty_type) == (u.electron, "var")
    assert mask.unit == u.dimensionless_unscaled
    assert image.wcs.celestial.pixel_n_dim == 2
    with fits.open(product(folder, "image")) as hdus:
        np.testing.assert_array_equal(image.data, hdus["SCI"].data)
        np.testing.assert_array_equal(image.uncertainty.array, hdus["VAR"].data)
        assert image.header["EXPTIME"] == hdus[0].header["EXPTIME"] == 120.0
        assert image.header["FILTER"] == hdus[0].header["FILTER"] == "Y_G0811"
        assert image.header["AIRMASS"] == hdus[0].header["AIRMASS"]
        assert image.header["DATE-OBS"].startswith(f"{hdus[0].header['DATE-OBS']}T02:52:48")


def test_ccdproc_reduces_a_frame_with_dark_and_flat(folder: Path) -> None:
    """The sky of a frame is what the simulated frame has, where the flat has a value."""
    found = run(with_("import ccdproc"))
    frame = found["frame"]
    assert frame.unit == u.electron
    dark, flat = read_ccd(product(folder, "dark")), read_ccd(product(folder, "flat"))
    with fits.open(folder / "night" / "S20131121S0075.fits") as raw:
        expected = (raw[1].data[0] * 4.44 / 8 - dark.data) / flat.data
    good = ~frame.mask
    assert good.mean() > 0.6
    np.testing.assert_allclose(frame.data[good], expected[good], rtol=1e-4, atol=0.1)


def test_photutils_takes_errors_and_mask(folder: Path, night: NightTruth) -> None:
    found = run(with_("photutils"))
    photometry, bright = found["photometry"], found["bright"]
    assert len(bright) >= 3
    assert photometry["aperture_sum"].unit == u.electron
    image = read_ccd(product(folder, "image"))
    header = fits.getheader(product(folder, "image"))
    for row, star, error in zip(photometry, bright, photometry["error"], strict=True):
        y, x = np.indices(image.shape)
        inside = np.hypot(x - star["x"], y - star["y"]) < 8
        variance = image.uncertainty.array[inside & ~image.mask].sum() * header["NCORR"] ** 2
        variance += (header.get("BGERR", 0) * inside.sum()) ** 2
        assert error == pytest.approx(np.sqrt(variance), rel=0.05)
        if not star["problems"]:
            assert row["aperture_sum"].value == pytest.approx(star["flux"], rel=0.1)


def test_reproject_reads_both_ways(folder: Path) -> None:
    found = run(with_("reproject"))
    np.testing.assert_allclose(found["moved"], found["same"], rtol=1e-5, atol=0.01)
    inside = np.isfinite(found["moved"])
    assert inside.mean() > 0.9
    np.testing.assert_allclose(found["moved"][inside], found["image"].data[inside], atol=0.1)


def by_astrodata(path: Path, copy: Path, change: str = "pass") -> None:
    """Write a copy by astrodata, in a process of its own because it leaves files open."""
    code = f"import sys, astrodata; ad = astrodata.open(sys.argv[1]); {change}; ad.write(sys.argv[2])"
    subprocess.run([sys.executable, "-c", code, str(path), str(copy)], check=True)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unchanged_copy_by_astrodata_is_the_same_product(
    folder: Path, reduced: Run, store: Store, kind: str
) -> None:
    """It has the checksums of SCI in every plane, and integers as uint16."""
    copy = folder / "copy.fits"
    by_astrodata(product(folder, kind), copy)
    assert copy.read_bytes() != product(folder, kind).read_bytes()
    assert adopt(store, copy).id == reduced.product(kind).uuid


def test_changed_pixels_are_refused_until_the_remedy_is_followed(folder: Path, store: Store) -> None:
    by_astrodata(product(folder, "dark"), folder / "changed.fits", "ad[0].data[5, 5] = 77")
    with pytest.raises(FrameError, match="SCI do not add up to the DATASUM") as refused:
        adopt(store, folder / "changed.fits")
    assert "fits.open(FILE).writeto(COPY, checksum=True)" in refused.value.remedy
    run(with_("checksum=True"))
    with warnings.catch_warnings(), fits.open(folder / "out/with_checksums.fits", checksum=True) as hdus:
        warnings.simplefilter("error")
        assert hdus["SCI"].data[5, 5] == 77
    added = adopt(store, folder / "out/with_checksums.fits")
    assert (added.kind, added.algorithm_version) == ("dark", "adopted")


@pytest.mark.parametrize("kind", KINDS)
def test_every_image_of_a_product_can_be_read_alone(folder: Path, kind: str) -> None:
    path = product(folder, kind)
    with fits.open(path, checksum=True) as hdus:
        hdus.verify("exception")
        names = [hdu.name for hdu in hdus if isinstance(hdu, fits.ImageHDU)]
        shapes = {name: hdus[name].shape for name in names}
    for name in names:
        ccd = CCDData.read(path, hdu=name)
        assert ccd.data.shape == shapes[name]
        with fitsio.FITS(path) as other:
            np.testing.assert_array_equal(other[name].read(), ccd.data)


@pytest.mark.parametrize("kind", KINDS)
def test_every_table_of_a_product_can_be_read_and_written(folder: Path, kind: str) -> None:
    """A unit that FITS does not have would be lost, with a warning."""
    path = product(folder, kind)
    with fits.open(path) as hdus:
        names = [hdu.name for hdu in hdus if isinstance(hdu, fits.BinTableHDU)]
    assert {"HISTORY", "PROVENANCE", "LINEAGE"} <= set(names)
    for name in names:
        table = Table.read(path, hdu=name)
        table.write(folder / f"{name}.fits")
        assert Table.read(folder / f"{name}.fits").colnames == table.colnames
        with fitsio.FITS(path) as other:
            assert other[name].get_nrows() == len(table)
            assert other[name].get_colnames() == table.colnames


@pytest.mark.parametrize("kind", KINDS)
def test_the_primary_header_alone_describes_the_observation(folder: Path, kind: str) -> None:
    header = fits.getheader(product(folder, kind), 0)
    needed = {
        "INSTRUME",
        "OBJECT",
        "OBSTYPE",
        "DATE-OBS",
        "UT",
        "MJD-OBS",
        "EXPTIME",
        "FILTER",
        "AIRMASS",
        "RA",
        "DEC",
    }
    assert needed - set(header) == set()


def test_the_columns_that_dragons_reads_are_those_of_the_stars(folder: Path, night: NightTruth) -> None:
    path = product(folder, "image")
    catalogue = Table.read(path, hdu="OBJCAT")
    header = fits.getheader(path, "SCI")
    stars = clip_sources(catalogue, header)
    assert len(stars) >= 3
    seeing = np.median(stars["isofwhm_arcsec"])
    assert seeing == pytest.approx(np.median(stars["isofwhm"]) * SKY_SCALE, rel=0.01)
    assert np.median(stars["fwhm_arcsec"]) == pytest.approx(seeing, rel=0.15)
    assert np.median(stars["ee50d_arcsec"]) == pytest.approx(seeing, rel=0.25)
    assert (stars["ellipticity"] < 0.2).all()


def test_world_and_pixel_positions_agree(folder: Path) -> None:
    path = product(folder, "image")
    catalogue, image = Table.read(path, hdu="OBJCAT"), read_ccd(path)
    x, y = image.wcs.all_world2pix(catalogue["X_WORLD"], catalogue["Y_WORLD"], 1)
    np.testing.assert_allclose(x, catalogue["X_IMAGE"], atol=1e-4)
    np.testing.assert_allclose(y, catalogue["Y_IMAGE"], atol=1e-4)
    np.testing.assert_allclose(catalogue["x"] + 1, catalogue["X_IMAGE"])
    star = catalogue[catalogue["FLAGS"] == 0][0]
    column, row = round(star["x"]), round(star["y"])
    around = image.data[row - 3 : row + 4, column - 3 : column + 4]
    assert np.unravel_index(around.argmax(), around.shape) == pytest.approx((3, 3), abs=1)
