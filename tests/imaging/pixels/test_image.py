"""An image checks its planes and opens as astropy's CCDData."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy import units
from astropy.nddata import VarianceUncertainty

from imaging.header import Header
from imaging.pixels.dq import DQ
from imaging.pixels.image import BadPixelMask, Image, Reason
from imaging.pixels.wcs import celestial_wcs
from imaging.products.astropy_hdus import to_ccd


def planes(shape: tuple[int, ...] = (40, 48), **changed: Any) -> dict[str, Any]:
    usual = {
        "sci": np.linspace(0, 9, int(np.prod(shape)), dtype=np.float32).reshape(shape),
        "var": np.full(shape, 4, np.float32),
        "dq": np.zeros(shape, np.uint16),
    }
    return usual | {"header": Header(), "primary": Header()} | changed


@pytest.mark.parametrize(
    ("name", "plane"),
    [
        ("sci", np.zeros((40, 48), np.float64)),
        ("sci", np.zeros((40, 48), ">f4")),
        ("var", np.zeros((40, 48), np.float64)),
        ("dq", np.zeros((40, 48), np.int16)),
    ],
)
def test_types_are_checked(name: str, plane: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} has the type"):
        Image(**planes(**{name: plane}))


@pytest.mark.parametrize("name", ["var", "dq"])
def test_shapes_are_checked(name: str) -> None:
    plane = planes((40, 47))[name]
    with pytest.raises(ValueError, match=rf"{name} has the shape \(40, 47\)"):
        Image(**planes(**{name: plane}))


def test_an_image_has_two_axes() -> None:
    with pytest.raises(ValueError, match="sci has the shape"):
        Image(**planes((1, 4, 4)))


def test_the_mask_is_what_holds_no_measurement() -> None:
    dq = np.array([[0, DQ.NON_LINEAR, DQ.SATURATED], [DQ.BAD_PIXEL | DQ.NON_LINEAR, 8, 64]], np.uint16)
    image = Image(**planes((2, 3), dq=dq))
    np.testing.assert_array_equal(image.mask, [[False, False, True], [True, True, True]])


def test_as_ccddata(extension: Header, primary: Header) -> None:
    dq = np.zeros((40, 48), np.uint16)
    dq[3, 4], dq[5, 6] = DQ.BAD_PIXEL, DQ.NON_LINEAR
    extension["OBJECT"] = "of the extension"
    image = Image(**planes(dq=dq, header=extension, primary=primary))
    ccd = to_ccd(image)
    assert ccd.unit == units.electron
    assert isinstance(ccd.uncertainty, VarianceUncertainty)
    assert ccd.uncertainty.unit == units.electron**2
    np.testing.assert_array_equal(ccd.uncertainty.array, image.var)
    assert ccd.mask.sum() == 1
    assert ccd.mask[3, 4]
    np.testing.assert_array_equal(ccd.flags, dq)
    assert ccd.wcs.array_shape == (40, 48)
    sky = ccd.wcs.pixel_to_world(23.5, 19.5)
    assert (sky.ra.deg, sky.dec.deg) == (pytest.approx(63.48), pytest.approx(-47.85))
    assert ccd.meta["OBJECT"] == "of the extension"
    assert ccd.meta["EXPTIME"] == 120.0
    assert np.shares_memory(ccd.data, image.sci)


def test_errors_propagate_as_variance() -> None:
    ccd = to_ccd(Image(**planes()))
    doubled = ccd.multiply(2.0)
    np.testing.assert_allclose(doubled.uncertainty.array, 16)


def test_a_flat_has_no_unit_and_no_sky() -> None:
    ccd = to_ccd(Image(**planes(header=Header([("BUNIT", "")]))))
    assert ccd.unit == units.dimensionless_unscaled
    assert ccd.wcs is None


def test_wcs_with_old_and_new_keywords_is_the_same(extension: Header) -> None:
    old = celestial_wcs(extension)
    new = celestial_wcs(old.to_header())
    for x, y in ((0, 0), (47, 39)):
        assert old.pixel_to_world(x, y).separation(new.pixel_to_world(x, y)).arcsec < 1e-6
    assert old.wcs.radesys == "FK5"


def test_a_mask_of_reasons() -> None:
    reasons = np.zeros((4, 5), np.uint8)
    reasons[1, 2], reasons[3, 0] = Reason.HOT, Reason.LOW_RESPONSE | Reason.COLD
    mask = BadPixelMask.from_reasons(reasons, header=Header(), primary=Header())
    assert mask.shape == (4, 5)
    assert mask.bad.dtype == np.uint8
    assert mask.bad.sum() == 2
    with pytest.raises(ValueError, match="holds 2"):
        BadPixelMask(mask.bad * np.uint8(2), reasons, mask.header, mask.primary)
    with pytest.raises(ValueError, match="reasons is int64"):
        BadPixelMask(mask.bad, reasons.astype(int), mask.header, mask.primary)  # type: ignore[arg-type]


@pytest.mark.parametrize("gone", ["CTYPE2", "CD"])
def test_half_a_wcs_is_none(extension: Header, gone: str) -> None:
    for keyword in [k for k in extension if k.startswith(gone)]:
        del extension[keyword]
    assert celestial_wcs(extension) is None


def test_distortions_go_with_the_wcs(extension: Header) -> None:
    extension.update({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "A_2_0": 1e-4})
    extension.update({"B_ORDER": 2, "B_0_2": -2e-4})
    wcs = celestial_wcs(extension)
    assert (wcs.sip.a[2, 0], wcs.sip.b[0, 2]) == (1e-4, -2e-4)
