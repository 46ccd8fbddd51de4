"""What the arguments of a step get: calibrations and products of the store, files of any origin."""

from __future__ import annotations

import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData

from imaging.errors import FrameError
from imaging.own_steps.uses import OwnStepParameters
from imaging.products.ccd import read_any_ccd
from tasks.own_steps.argument_values import values_of
from tasks.own_steps.resolve import resolve_own_steps
from tasks.support.references import Calibrations, RawFrame, ScratchRef
from tasks.support.workspace import Workspace


@pytest.fixture
def value(raw_frame: Callable[..., RawFrame], workspace: Workspace) -> Callable[[str], Any]:
    """Return what one argument of a step gets."""
    frame = ScratchRef(frame=raw_frame(), key="a" * 64, folder=Path("/nowhere"))

    def get(text: str) -> Any:
        own = resolve_own_steps(
            OwnStepParameters(before_stack=[f"ccdproc:flat_correct(flat={text})"]), workspace
        )
        (step,) = own.before_stack
        return values_of(step, dict(step.loaded().arguments), frame, Calibrations(), None, workspace)["flat"]

    return get


def test_numbers_of_the_frame(value: Callable[[str], Any]) -> None:
    assert value("@exposure") == 120.0
    assert value("@gain") == 1.0
    assert 1 < value("@read_noise") < 100
    assert value("@saturation") > 1e4


def test_a_fits_file_is_a_frame_and_any_other_a_path(value: Callable[[str], Any], tmp_path: Path) -> None:
    plain, extension = tmp_path / "plain.fits", tmp_path / "extension.fits"
    data = np.arange(12, dtype=np.float32).reshape(3, 4)
    fits.PrimaryHDU(data).writeto(plain)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(data + 1, fits.Header({"BUNIT": "adu"}))]).writeto(
        extension
    )
    one, other = value(f"@{plain}"), value(f"@{extension}")
    assert isinstance(one, CCDData)
    assert (str(one.unit), str(other.unit)) == ("electron", "adu")
    np.testing.assert_array_equal(one.data, data)
    np.testing.assert_array_equal(other.data, data + 1)
    table = tmp_path / "table.txt"
    table.write_text("1 2 3")
    assert value(f"@{table}") == table
    archived = tmp_path / "plain.fits.xz"
    archived.write_bytes(lzma.compress(plain.read_bytes()))
    np.testing.assert_array_equal(value(f"@{archived}").data, data)


def test_a_list_that_a_step_changes_is_another_one_for_the_next_frame(value: Callable[[str], Any]) -> None:
    value("[1, [2]]")[1].append(3)
    assert value("[1, [2]]") == [1, [2]]


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.fits"
    path.write_text("no FITS at all")
    with pytest.raises(FrameError, match=r"text.fits: it cannot be read as an image"):
        read_any_ccd(path)
