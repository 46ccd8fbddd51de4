"""Products as CCDData: uncertainties, masks and cards as ccdproc and photutils expect them."""

from __future__ import annotations

import dataclasses
from typing import Any

import ccdproc
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty, VarianceUncertainty
from photutils.aperture import CircularAperture, aperture_photometry
from small_products import Write

from imaging.pixels.dq import DQ, UNUSABLE
from imaging.pixels.image import BadPixelMask, Image
from imaging.products.ccd import read_ccd

NEEDED = {"INSTRUME", "OBJECT", "DATE-OBS", "MJD-OBS", "GAIN", "RDNOISE"}
OF_LIGHT = {"EXPTIME", "FILTER", "AIRMASS"}


def test_variance_or_standard_deviation(write: Write, image: Image) -> None:
    path = write()
    variance, deviation = read_ccd(path).uncertainty, read_ccd(str(path), uncertainty="std").uncertainty
    assert isinstance(variance, VarianceUncertainty)
    assert isinstance(deviation, StdDevUncertainty)
    np.testing.assert_array_equal(variance.array, image.var)
    np.testing.assert_allclose(deviation.array, np.sqrt(image.var))
    assert (variance.unit, deviation.unit) == (u.electron**2, u.electron)
    with pytest.raises(ValueError, match="variance or std, not 'error'"):
        read_ccd(path, uncertainty="error")  # type: ignore[arg-type]


@pytest.mark.parametrize("bit", [one for one in DQ if one & UNUSABLE])
def test_an_ignored_bit_does_not_mask(write: Write, image: Image, bit: DQ) -> None:
    flagged = image.dq.copy()
    flagged[5, 5:8] = [bit, bit | DQ.NON_LINEAR, bit | (DQ.SATURATED if bit != DQ.SATURATED else DQ.NO_DATA)]
    path = write(what=dataclasses.replace(image, dq=flagged))
    assert read_ccd(path).mask[5, 5:8].tolist() == [True, True, True]
    for ignore in (bit.name, str(bit.name).lower(), int(bit), (bit,)):
        ccd = read_ccd(path, ignore=ignore)  # type: ignore[arg-type]
        assert ccd.mask[5, 5:8].tolist() == [False, False, True]
        np.testing.assert_array_equal(ccd.flags[5, 5:8], flagged[5, 5:8])
    assert not read_ccd(path, ignore=("SATURATED", 16, bit)).mask[5, 5:8].any()


@pytest.mark.parametrize("wrong", ["SATURATION", -1, 1 << 16, ("SATURATED", "4")])
def test_what_is_no_bit_is_refused(write: Write, wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"not a bit of DQ; the bits are BAD_PIXEL \(1\), NON_LINEAR \(2\)"):
        read_ccd(write(), ignore=wrong)


def test_photutils_uses_the_deviations_and_leaves_out_only_unusable_pixels(
    write: Write, image: Image
) -> None:
    """A non-linear pixel is measured; with a variance, photutils would give no error at all."""
    aperture = CircularAperture((20.0, 20.0), r=6)
    row = aperture_photometry(read_ccd(write(), uncertainty="std"), aperture)[0]
    weights = aperture.to_mask(method="exact").to_image(image.shape)
    weights[(image.dq & np.uint16(UNUSABLE)) != 0] = 0
    assert row["aperture_sum"].value == pytest.approx((weights * image.sci).sum(), rel=1e-5)
    assert row["aperture_sum_err"].value == pytest.approx(np.sqrt((weights * image.var).sum()), rel=1e-5)


@pytest.mark.parametrize("kind", ["dark", "flat", "image"])
def test_one_extension_describes_the_observation(write: Write, kind: str) -> None:
    path = write(kind)
    ccd = CCDData.read(path, hdu="SCI", hdu_uncertainty="VAR", hdu_mask="DQ")
    assert set(ccd.header) >= NEEDED | OF_LIGHT
    assert (ccd.header["EXPTIME"], ccd.header["FILTER"], ccd.header["OBJECT"]) == (
        120.0,
        "Y_G0811",
        "FIELD-A",
    )
    assert ccd.header["AIRMASS"] == fits.getheader(path)["AIRMASS"] == 1.25
    assert ccd.header["DATE-OBS"] == "2013-11-21T02:52:48.000000"
    assert ccd.header["MJD-OBS"] == pytest.approx(56617.12, abs=1e-9)
    assert fits.getheader(path, "SCI")["TIMESYS"] == "UTC"


def test_a_mask_is_an_image_without_a_unit(write: Write, mask: BadPixelMask) -> None:
    ccd = CCDData.read(write("bpm", mask), hdu="SCI")
    assert ccd.unit == u.dimensionless_unscaled
    assert set(ccd.header) >= NEEDED
    assert not OF_LIGHT & set(ccd.header)
    assert ccd.header["OBJECT"] == "BPM"
    np.testing.assert_array_equal(ccd.data, mask.bad)


def test_the_exposure_is_that_of_all_coadds(write: Write, image: Image, facts) -> None:
    two = facts.model_copy(update={"coadds": 2})
    assert fits.getheader(write("dark", facts=two), "SCI")["EXPTIME"] == 240.0


def test_ccdproc_subtracts_a_dark(write: Write, image: Image) -> None:
    read = {"hdu": "SCI", "hdu_uncertainty": "VAR", "hdu_mask": "DQ"}
    dark, frame = CCDData.read(write("dark"), **read), CCDData.read(write("image"), **read)
    frame = ccdproc.subtract_dark(frame, dark, exposure_time="EXPTIME", exposure_unit=u.s)
    np.testing.assert_array_equal(frame.data, np.zeros(image.shape))
    np.testing.assert_allclose(frame.uncertainty.array, 2 * image.var)


def test_only_sci_describes_the_observation(write: Write) -> None:
    path = write()
    assert not {"EXPTIME", "FILTER", "DATE-OBS"} & (
        set(fits.getheader(path, "VAR")) | set(fits.getheader(path, "DQ"))
    )
