"""What a step may do to an image, and what is refused with the reason."""

from __future__ import annotations

import os
from asyncio import CancelledError
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty

from imaging.errors import FrameError
from imaging.header import Header
from imaging.own_steps.applying import Applied, apply_steps
from imaging.own_steps.loading import LoadedStep
from imaging.pixels.image import Image

Load = Callable[..., LoadedStep]
Make = Callable[..., Image]


def applied(image: Image, *steps: LoadedStep) -> Applied:
    return apply_steps("S1.fits", image, [(step, dict(step.arguments)) for step in steps])


def test_a_step_that_does_nothing_changes_nothing(image: Make, loaded: Load) -> None:
    before = image()
    after = applied(image(), loaded(lambda ccd: ccd))
    for name in ("sci", "var", "dq"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
        assert getattr(after, name).flags.writeable
    assert after.masked == (0,)


def test_a_step_gets_the_frame_with_unit_mask_flags_wcs_and_header(image: Make, loaded: Load) -> None:
    def look(ccd: CCDData) -> CCDData:
        assert ccd.unit == units.electron
        assert ccd.mask[0, :4].tolist() == [True, True, False, False]
        assert ccd.flags[0, :4].tolist() == [1, 8, 2, 0]
        assert ccd.wcs.pixel_to_world(31, 23).ra.deg == pytest.approx(150)
        assert ccd.header["EXPTIME"] == 60.0
        with pytest.raises(ValueError, match="read-only"):
            ccd.flags[0, 0] = 0
        return ccd

    assert applied(image(), loaded(look)).masked == (0,)


def test_masked_pixels_get_the_bit_and_no_flag_is_lost(image: Make, loaded: Load) -> None:
    def mask(ccd: CCDData) -> CCDData:
        ccd.mask = np.zeros(ccd.shape, bool)  # unmasks what nirflow had masked: without effect
        ccd.mask[5, :4] = True
        ccd.mask[0, 0] = True
        return ccd

    for bit in (1, 8):
        after = applied(image(), loaded(mask, bit=bit))
        assert after.masked == (4,)
        assert after.dq[5, :5].tolist() == [bit] * 4 + [0]
        assert after.dq[0, :4].tolist() == [1, 8, 2, 0]
        assert after.sci[5, 0] == image().sci[5, 0]


def test_steps_share_one_frame_in_order(image: Make, loaded: Load) -> None:
    def double(ccd: CCDData) -> CCDData:
        ccd.data = ccd.data.astype(np.float64) * 2
        ccd.mask[3, 3] = True
        return ccd

    def check(ccd: CCDData) -> CCDData:
        assert ccd.data.dtype == np.float32
        assert ccd.flags[3, 3] == 1
        assert ccd.mask[0, 0]
        ccd.data += 1
        return ccd

    first, second = loaded(double), loaded(check)
    after = applied(image(), first, second)
    np.testing.assert_array_equal(after.sci, image().sci * 2 + 1)
    assert after.masked == (1, 0)


@pytest.mark.parametrize("kind", [StdDevUncertainty, InverseVariance])
def test_any_uncertainty_becomes_a_variance(image: Make, loaded: Load, kind: Any) -> None:
    def convert(ccd: CCDData) -> CCDData:
        ccd.uncertainty = ccd.uncertainty.represent_as(kind)
        return ccd

    np.testing.assert_allclose(applied(image(), loaded(convert)).var, 100, rtol=1e-6)


def test_values_that_are_no_numbers_are_masked_and_do_not_get_on(image: Make, loaded: Load) -> None:
    def damage(ccd: CCDData) -> CCDData:
        ccd.data[4, 4], ccd.data[4, 5] = np.nan, np.inf
        ccd.uncertainty.array[4, 6], ccd.uncertainty.array[4, 7] = -1, np.nan
        return ccd

    after = applied(image(), loaded(damage))
    assert after.masked == (4,)
    assert after.dq[4, 3:9].tolist() == [0, 1, 1, 1, 1, 0]
    np.testing.assert_array_equal(after.sci, image().sci)
    np.testing.assert_array_equal(after.var, image().var)


def _with(**changes: Any) -> Callable[[CCDData], CCDData]:
    def change(ccd: CCDData) -> CCDData:
        values = {"unit": ccd.unit, "uncertainty": ccd.uncertainty, "mask": ccd.mask, "wcs": ccd.wcs}
        return CCDData(
            changes.get("data", ccd.data), **(values | {k: v for k, v in changes.items() if k != "data"})
        )

    return change


def _in_adu(ccd: CCDData) -> CCDData:
    return CCDData(ccd.data, unit="adu", uncertainty=StdDevUncertainty(np.ones(ccd.shape)), wcs=ccd.wcs)


def _moved(ccd: CCDData) -> CCDData:
    ccd.wcs.wcs.crval[0] += 1
    return ccd


def _with_uncertainty_of_another_unit(ccd: CCDData) -> CCDData:
    ccd.uncertainty.unit = (1000 * units.electron) ** 2
    return ccd


def _interrupted(ccd: CCDData) -> CCDData:
    raise SystemExit(3)


class _Stop(BaseException):
    pass


def _stopping(ccd: CCDData) -> CCDData:
    raise _Stop("enough")


def _failing(ccd: CCDData) -> CCDData:
    return ccd.data[1000, 1000]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda ccd: None, "returned None; it has to return the CCDData"),
        (lambda ccd: ccd.data, "returned an array"),
        (lambda ccd: 3, "returned int, not a CCDData"),
        (lambda ccd: ccd[:8, :8], r"changed the shape from \(48, 64\) to \(8, 8\)"),
        (_in_adu, "changed the unit from electron to adu"),
        (_with(uncertainty=None), "returned no uncertainty"),
        (_with_uncertainty_of_another_unit, "returned a variance in .* for a frame in electron"),
        (_with(wcs=None), "returned a frame without its world coordinates"),
        (_moved, "changed the world coordinates"),
        (_with(data=np.full((48, 64), 1j)), "complex128, not real numbers"),
        (_interrupted, "failed with SystemExit: 3"),
        (_stopping, "failed with _Stop: enough"),
        (_failing, "failed with IndexError: index 1000"),
    ],
)
def test_a_result_that_cannot_be_used_is_refused_with_the_reason(
    image: Make, loaded: Load, function: Callable[..., Any], reason: str
) -> None:
    with pytest.raises(FrameError, match=rf"S1.fits: the step function .*{reason}") as caught:
        applied(image(), loaded(function))
    assert "omit the step" in caught.value.remedy


def test_what_a_step_sets_for_numpy_ends_with_it(image: Make, loaded: Load) -> None:
    def strict(ccd: CCDData) -> CCDData:
        np.seterr(all="raise")
        return ccd

    before = np.geterr()
    applied(image(), loaded(strict))
    assert np.geterr() == before


def test_only_a_user_interrupts_a_run(image: Make, loaded: Load) -> None:
    def interrupt(ccd: CCDData) -> CCDData:
        raise KeyboardInterrupt

    def cancelled(ccd: CCDData) -> CCDData:
        raise CancelledError

    with ThreadPoolExecutor(1) as pool, pytest.raises(FrameError, match="failed with KeyboardInterrupt"):
        pool.submit(applied, image(), loaded(interrupt)).result()
    with pytest.raises(KeyboardInterrupt):  # in the main thread it is the user's
        applied(image(), loaded(interrupt))
    with pytest.raises(CancelledError):
        applied(image(), loaded(cancelled))


def test_no_mask_at_all_keeps_the_mask(image: Make, loaded: Load) -> None:
    def unmasked(ccd: CCDData) -> CCDData:
        ccd.mask = np.ma.nomask
        return ccd

    after = applied(image(), loaded(unmasked))
    assert after.masked == (0,)
    np.testing.assert_array_equal(after.dq, image().dq)


@pytest.mark.filterwarnings(
    "ignore:This process:DeprecationWarning"
)  # threads of libraries: the copy only ends
def test_a_copy_of_the_process_ends_with_the_step(image: Make, loaded: Load, tmp_path: Path) -> None:
    """A copy that went on would reduce the night a second time."""

    def forking(ccd: CCDData) -> CCDData:
        pid = os.fork()
        if pid:
            ccd.header["COPY"] = pid
            (tmp_path / "pid").write_text(str(pid))
        return ccd

    step = loaded(forking)
    parent = os.getpid()
    try:
        applied(image(), step)
    finally:
        if os.getpid() != parent:  # the copy came out of the step
            os._exit(77)
    _, status = os.waitpid(int((tmp_path / "pid").read_text()), 0)
    assert os.waitstatus_to_exitcode(status) == 1


def test_a_frame_without_world_coordinates_stays_without(image: Make, loaded: Load) -> None:
    made = image()
    plain = Image(made.sci, made.var, made.dq, Header({"BUNIT": "electron"}), made.primary)
    assert applied(plain, loaded(lambda ccd: ccd)).masked == (0,)
