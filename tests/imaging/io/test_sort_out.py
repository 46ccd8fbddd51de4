"""Frames that are unlike the others of a night by their pixels, and what is known of a frame the next time."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from raw_forms import WriteRaw

from imaging.frames.find_files import CheckParameters
from imaging.io.examine import Examination, Known, examine
from imaging.io.sort_out import sort_out

SHAPE = (256, 256)
CHECK = CheckParameters(shape=None)


def frame(number: int, seed: int | None = None) -> NDArray[Any]:
    """Return the pixels of a frame of four quadrants with different offsets."""
    pixels = np.random.default_rng(number if seed is None else seed).normal(900, 12, SHAPE)
    pixels[128:] += 20
    return np.rint(pixels).astype(np.int32)


@pytest.fixture
def look(write_raw: WriteRaw) -> Callable[..., list[Examination]]:
    """Examine frames of one sequence with these pixels, and sort them out."""

    def examined(
        *pixels: NDArray[Any], check: CheckParameters = CHECK, times: Sequence[float] = ()
    ) -> list[Examination]:
        names = [f"S20131121S{n:04}.fits" for n in range(75, 75 + len(pixels))]
        exposures = [{"EXPTIME": time} for time in times] or [{}] * len(pixels)
        paths = [
            write_raw(name, data=data, UTSTART=f"02:{n:02}:00", DATALAB=name, **exposure)
            for n, (name, data, exposure) in enumerate(zip(names, pixels, exposures, strict=True))
        ]
        return sort_out([examine(path, check) for path in paths], {}, check)

    return examined


def test_pixels_under_two_names_are_used_once(look: Callable[..., list[Examination]]) -> None:
    found = look(frame(1), frame(2), frame(3, seed=1))
    assert [one.verdict for one in found] == ["usable", "usable", "odd_pixels"]
    assert (
        found[2].reason
        == "its pixels are those of S20131121S0075.fits, which is another exposure and is used"
    )
    assert not found[2].broken


@pytest.mark.parametrize(
    "where",
    [(slice(128, None), slice(128, None)), (slice(None), slice(128, None)), (slice(128, None), slice(None))],
)
def test_an_odd_quadrant_or_half(look: Callable[..., list[Examination]], where: tuple[slice, slice]) -> None:
    pixels = [frame(n) for n in range(5)]
    pixels[3][where] += 112
    found = look(*pixels)
    assert [one.usable for one in found] == [True, True, True, False, True]
    assert "a quadrant has an offset of its own: a step of +1" in found[3].reason
    assert all(one.usable for one in look_again(found, CheckParameters(shape=None, quadrant_step=20)))


def test_frames_of_one_nominal_exposure_time_are_compared(look: Callable[..., list[Examination]]) -> None:
    pixels = [frame(n) for n in range(5)]
    pixels[3][128:, 128:] += 112
    found = look(*pixels, times=[120.0, 119.996, 120.003, 120.0, 120.004])
    assert [one.usable for one in found] == [True, True, True, False, True]


def look_again(found: list[Examination], check: CheckParameters) -> list[Examination]:
    return sort_out([examine(one.path, check) for one in found], {}, check)


def test_an_unread_quadrant_is_no_odd_one(look: Callable[..., list[Examination]]) -> None:
    pixels = [frame(n) for n in range(5)]
    pixels[3][128:, 128:] = 0
    found = look(*pixels)
    assert all(one.usable for one in found)
    assert "25.00% of the pixels have no data" in found[3].notes[0]


def test_what_was_measured_is_known_the_next_time(look: Callable[..., list[Examination]]) -> None:
    pixels = [frame(n) for n in range(5)]
    pixels[3][128:, 128:] += 112
    first = look(*pixels, frame(9, seed=1))
    known = {
        one.path: Known(one.size, one.changed_ns, str(one.sha256), one.facts)
        for one in first
        if one.facts is not None
    }
    again = sort_out([examine(one.path, CHECK, known=known[one.path]) for one in first], {}, CHECK)
    assert all(one.known for one in again)
    assert [(one.verdict, one.reason, one.notes) for one in again] == [
        (o.verdict, o.reason, o.notes) for o in first
    ]


def test_a_known_frame_meets_the_limits_of_this_run(write_raw: WriteRaw, tmp_path: Path) -> None:
    pixels = frame(1)
    pixels[:100] = 0
    path = write_raw(data=pixels)
    first = examine(path, CHECK)
    assert first.facts is not None
    known = Known(first.size, first.changed_ns, str(first.sha256), first.facts)
    strict = examine(path, CheckParameters(shape=None, no_data_fraction=0.3), known=known)
    assert (strict.verdict, strict.known) == ("faulty", True)
    assert "39% of the pixels have no data" in strict.reason


SUMS = "CHECKSUM of the primary HDU disagrees: its header was changed"


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("before", ["warn", "ignore"])
def test_sums_that_disagree_are_reported_for_a_known_frame(
    write_raw: WriteRaw, tmp_path: Path, suffix: str, before: Literal["warn", "ignore"]
) -> None:
    path = write_raw(data=frame(1), CHECKSUM="0123456789abcdef")
    if suffix:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = path.with_name(f"{path.name}.gz")
    unpacked = tmp_path / "unpacked"
    first = examine(path, CheckParameters(shape=None, checksum=before), unpacked=unpacked)
    assert first.notes == ((SUMS,) if before == "warn" else ())
    assert first.facts is not None
    known = Known(first.size, first.changed_ns, str(first.sha256), first.facts)
    shutil.rmtree(unpacked, ignore_errors=True)  # temporary files are limited at the end of a run

    def again(checksum: Literal["warn", "refuse", "ignore"]) -> Examination:
        check = CheckParameters(shape=None, checksum=checksum)
        return examine(path, check, unpacked=unpacked, known=known)

    found = [again("warn"), again("ignore"), again("refuse")]
    assert all(one.known for one in found)
    assert [one.verdict for one in found] == ["usable", "usable", "faulty"]
    assert [one.notes for one in found[:2]] == [(SUMS,), ()]
    assert found[2].reason == SUMS


def test_a_frame_whose_sums_were_never_compared_is_read_again(write_raw: WriteRaw) -> None:
    path = write_raw(data=frame(1), CHECKSUM="0123456789abcdef")
    first = examine(path, CHECK)
    assert first.facts is not None
    assert first.facts.pixels is not None
    older = first.facts.pixels.model_copy(update={"sums": None})
    facts = first.facts.model_copy(update={"pixels": older})
    again = examine(path, CHECK, known=Known(first.size, first.changed_ns, str(first.sha256), facts))
    assert (again.known, again.notes, again.facts) == (False, (SUMS,), first.facts)
