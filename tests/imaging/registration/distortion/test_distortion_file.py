"""The file of a distortion: what is read is what was written, and invalid files are refused with what is wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from imaging.calibrations.sanity import check_usable
from imaging.errors import FrameError
from imaging.frames.facts import FrameFacts
from imaging.header import Header
from imaging.products.header_cards import Record
from imaging.products.product_file import ProductFile, write_product
from imaging.registration.distortion.camera_distortion import Distortion
from imaging.registration.distortion.distortion_file import (
    COEFFICIENTS,
    INVERSE,
    displacement_image,
    distortion_cards,
    distortion_tables,
    read_distortion,
)
from imaging.registration.distortion.dithered_distortion import MeasuredDistortion

SHAPE = (60, 80)
MIDDLE, HALF = (39.5, 29.5), 40.0


@pytest.fixture
def distortion() -> Distortion:
    rng = np.random.default_rng(4)
    radial = Distortion.radial(SHAPE, 0.003)
    return Distortion(
        SHAPE, 3, *(tuple(np.array(one) + 0.02 * rng.normal(size=7)) for one in (radial.x, radial.y))
    )


@pytest.fixture
def path(distortion: Distortion, tmp_path: Path) -> Path:
    found = MeasuredDistortion(distortion, np.diag(np.full(14, 1e-4)), 9, 120, 0.03, 3.2, 0.02)
    facts = FrameFacts(
        name="S1.fits", instrument="F2", kind="object", observation_class="science", target="W", filter="Y",
        exposure_time=120.0, coadds=1, read_pairs=1, filter_id="Y", lyot="f", focal_mask="Open",
        disperser="Open", detector="H2", started=datetime(2013, 11, 21, 2, 0, tzinfo=UTC),
    )  # fmt: skip
    primary = Header({"INSTRUME": "F2", "DATE-OBS": "2013-11-21", "EXPTIME": 120.0})
    record = Record(
        kind="distortion", facts=facts, inputs=("S1.fits",), stamp=facts.started,
        cards=distortion_cards(found, "dithered frames"),
    )  # fmt: skip
    write_product(
        tmp_path / "S1_distortion.fits",
        displacement_image(found, primary),
        record,
        tables=distortion_tables(found),
    )
    return tmp_path / "S1_distortion.fits"


def test_it_is_read_as_it_was_written(path: Path, distortion: Distortion) -> None:
    assert read_distortion(path) == distortion
    with ProductFile(path) as product:
        check_usable("distortion", product)
        sci, var = product.rows("SCI"), product.rows("VAR")
        assert product.header["BUNIT"] == "pixel"
        cards = product.primary
    x, y = np.array([0.0]), np.array([59.0])
    there = distortion(x, y)
    assert sci[59, 0] == pytest.approx(np.hypot(there[0] - x, there[1] - y)[0], rel=1e-5)
    u, v = (x[0] - MIDDLE[0]) / HALF, (y[0] - MIDDLE[1]) / HALF
    powers = [u * u, u * v, v * v, u**3, u * u * v, u * v * v, v**3]
    assert var[59, 0] == pytest.approx(1e-4 * np.square(powers).sum(), rel=1e-4)
    assert (cards["DISTCENX"], cards["DISTCENY"], cards["DISTHALF"]) == (40.5, 30.5, 40.0)
    assert (cards["DISTSTAR"], cards["DISTFRAM"], cards["DISTFROM"]) == (120, 9, "dithered frames")


def test_the_tables_alone_describe_it_and_its_inverse(path: Path, distortion: Distortion) -> None:
    """As other software would use them."""

    def added(extension: str, x: float, y: float) -> tuple[float, float]:
        table = fits.getdata(path, extension)
        u, v = (x - MIDDLE[0]) / HALF, (y - MIDDLE[1]) / HALF
        powers = u ** table["power_u"] * v ** table["power_v"]
        return float((powers * table["x"]).sum()), float((powers * table["y"]).sum())

    for x, y in ((3.0, 55.0), (76.0, 4.0), (40.0, 30.0)):
        dx, dy = added(COEFFICIENTS, x, y)
        assert (x + dx, y + dy) == pytest.approx([one[0] for one in distortion(np.array([x]), np.array([y]))])
        back = added(INVERSE, x + dx, y + dy)
        assert (x + dx + back[0], y + dy + back[1]) == pytest.approx((x, y), abs=1e-4)


def _without_table(hdus: fits.HDUList) -> None:
    del hdus[COEFFICIENTS]


def _without_a_term(hdus: fits.HDUList) -> None:
    hdus[COEFFICIENTS].data = hdus[COEFFICIENTS].data[:-1]


def _without_a_column(hdus: fits.HDUList) -> None:
    hdus[COEFFICIENTS].columns.del_col("power_v")


def _of_another_frame(hdus: fits.HDUList) -> None:
    hdus[0].header["DISTCENX"] = 1024.5


def _too_large(hdus: fits.HDUList) -> None:
    hdus[COEFFICIENTS].data["x"] *= 100


def _not_a_number(hdus: fits.HDUList) -> None:
    hdus[COEFFICIENTS].data["y"][2] = np.nan


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (_without_table, "no table DISTORTION"), (_without_a_term, "has 6 rows with powers up to 3"),
        (_without_a_column, "no column power_v"), (_of_another_frame, "DISTCENX = 1024.5, expected 40.5"),
        (_too_large, "expected at most 0.8 px"), (_not_a_number, "displacements of up to nan px"),
    ],
)  # fmt: skip
def test_an_invalid_file_is_refused_with_what_is_wrong(path: Path, change: Any, wrong: str) -> None:
    with fits.open(path, mode="update") as hdus:
        change(hdus)
    with pytest.raises(FrameError, match=wrong) as refused:
        read_distortion(path)
    assert str(refused.value).startswith("S1_distortion.fits: ")
    assert "make it again" in refused.value.remedy
    with ProductFile(path) as product, pytest.raises(FrameError, match=wrong):
        check_usable("distortion", product)
