"""Sorting out a night: hostile files, frames in quarantine, and what is read again."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from sqlalchemy import select

from calib_store.tables.schema import frames
from imaging.frames.find_files import CheckParameters
from imaging.io import examine as module
from tasks.support.references import Survey
from tasks.support.workspace import Workspace
from tasks.survey import survey_frames

SHAPE = (40, 48)
DARK: dict[str, Any] = {
    "INSTRUME": "F2", "OBJECT": "Dark", "OBSTYPE": "DARK", "OBSCLASS": "dayCal", "EXPTIME": 120.0, "COADDS": 1,
    "LNRS": 8, "NREADS": 8, "FILTER2": "DK_G0807", "DATE-OBS": "2013-11-21", "UTSTART": "02:52:48",
}  # fmt: skip
PIXELS = np.arange(SHAPE[0] * SHAPE[1], dtype=np.int32).reshape(SHAPE)

Look = Callable[..., Survey]


def write(path: Path, pixels: Any = PIXELS, **cards: Any) -> Path:
    """Write a small dark; its last pixel follows the name, so that no two are the same."""
    if pixels is PIXELS:
        pixels = PIXELS.copy()
        pixels[-1, -1] += zlib.crc32(os.fsencode(path.name)) % 10_000
    primary = fits.PrimaryHDU(header=fits.Header(list((DARK | {"DATALAB": path.stem} | cards).items())))
    fits.HDUList([primary, fits.ImageHDU(pixels)]).writeto(path)
    return path


def overwrite(path: Path, old: bytes, new: bytes) -> Path:
    """Replace the first occurrence of some bytes by as many others."""
    raw = path.read_bytes()
    assert old in raw
    assert len(old) == len(new)
    path.write_bytes(raw.replace(old, new, 1))
    return path


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def look(workspace: Workspace) -> Look:
    """Survey some files; parameters of the check by keyword."""

    def survey(*paths: Path, **check: Any) -> Survey:
        parameters = CheckParameters(**({"shape": SHAPE} | check))
        return survey_frames.fn(list(paths), "night", parameters, workspace)

    return survey


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of the names of files, filled as their bytes are hashed."""
    names: list[str] = []
    original = module.unpack

    def unpack(path: Path, folder: Path) -> tuple[Path, str]:
        names.append(path.name)
        return original(path, folder)

    monkeypatch.setattr(module, "unpack", unpack)
    return names


def quarantined(workspace: Workspace) -> dict[str, str | None]:
    """Reasons of the frames in the store, by name; None for a usable one."""
    with workspace.store().database.engine.connect() as connection:
        found = connection.execute(select(frames.c.name, frames.c.quarantine))
        return {row.name: row.quarantine for row in found}


def test_one_hostile_file_never_ends_the_night(look: Look, tmp_path: Path) -> None:
    good = write(tmp_path / "good.fits")
    hostile = [
        write(tmp_path / "coadds.fits", COADDS=10**12),
        write(tmp_path / "coadds2.fits", COADDS=1e300),
        write(tmp_path / "future.fits", **{"DATE-OBS": "9999-12-31"}),
        write(tmp_path / "past.fits", **{"DATE-OBS": "0001-01-01"}),
        overwrite(
            write(tmp_path / "gcount.fits"), b"GCOUNT  = " + b"1".rjust(20), b"GCOUNT  = " + b"-1".rjust(20)
        ),
        overwrite(
            write(tmp_path / "naxis.fits"), b"NAXIS   = " + b"2".rjust(20), b"NAXIS   = " + b"-1".rjust(20)
        ),
        overwrite(
            write(tmp_path / "axis.fits"), b"NAXIS1  =                   48", b"NAXIS1  = " + b"9" * 20
        ),
        overwrite(
            write(tmp_path / "card.fits"),
            b"EXPTIME =                120.0",
            b"EXPTIME =              'x 120.",
        ),
    ]
    seen = look(good, *hostile)
    assert [frame.name for frame in seen.frames] == ["good.fits"]
    assert {one.name for one in seen.left_out} == {path.name for path in hostile}
    assert all(one.reason and not one.expected for one in seen.left_out)


@pytest.mark.parametrize("kind", [ValueError, TypeError, OverflowError, KeyError])
def test_an_unexpected_error_excludes_only_one_file(
    look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    good, odd = write(tmp_path / "good.fits"), write(tmp_path / "odd.fits")
    original = module.read_layout

    def read_layout(path: Path) -> Any:
        if path == odd:
            raise kind("a strange card")
        return original(path)

    monkeypatch.setattr(module, "read_layout", read_layout)
    seen = look(good, odd)
    assert [frame.name for frame in seen.frames] == ["good.fits"]
    (left_out,) = seen.left_out
    assert left_out.name == "odd.fits"
    assert kind.__name__ in left_out.reason
    assert "a strange card" in left_out.reason
    assert left_out.remedy


def test_a_programming_error_is_not_blamed_on_the_file(
    look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_layout(_: Path) -> Any:
        raise AttributeError("a mistake")

    monkeypatch.setattr(module, "read_layout", read_layout)
    with pytest.raises(AttributeError, match="a mistake"):
        look(write(tmp_path / "good.fits"))


@pytest.mark.parametrize("packed", [False, True])
def test_a_known_frame_is_not_hashed_again_but_its_shape_is_checked(
    look: Look, tmp_path: Path, hashed: list[str], packed: bool
) -> None:
    path = write(tmp_path / "a.fits")
    if packed:
        plain, path = path, tmp_path / "a.fits.bz2"
        path.write_bytes(bz2.compress(plain.read_bytes()))
    first = look(path)
    assert look(path) == first
    assert hashed == [path.name]
    seen = look(path, shape=(48, 40))
    assert seen.frames == ()
    assert "the shape 40 x 48, expected 48 x 40" in seen.left_out[0].reason
    assert look(path, shape=None).frames == first.frames
    assert hashed == [path.name]


def test_a_frame_without_a_measurement_is_refused_every_time(
    look: Look, workspace: Workspace, tmp_path: Path, hashed: list[str]
) -> None:
    dead = write(tmp_path / "dead.fits", np.full(SHAPE, 7, np.int32))
    good = write(tmp_path / "good.fits")
    first = look(dead, good)
    assert hashed.count("dead.fits") == 1
    assert [frame.name for frame in first.frames] == ["good.fits"]
    assert "all pixels have the value 7" in first.left_out[0].reason
    assert quarantined(workspace) == {"dead.fits": first.left_out[0].reason, "good.fits": None}
    assert look(dead, good) == first
    assert hashed.count("good.fits") == 1


def test_a_frame_leaves_quarantine_when_it_passes_the_check(
    look: Look, workspace: Workspace, tmp_path: Path
) -> None:
    pixels = PIXELS.copy()
    pixels[:24] += 10_000_000  # 0.6 of the frame is saturated
    path = write(tmp_path / "bright.fits", pixels)
    assert "saturated" in look(path).left_out[0].reason
    assert "saturated" in str(quarantined(workspace)["bright.fits"])
    assert [frame.name for frame in look(path, saturated_fraction=0.9).frames] == ["bright.fits"]
    assert quarantined(workspace) == {"bright.fits": None}


def test_a_product_is_not_a_frame_and_is_not_quarantined(
    look: Look, workspace: Workspace, tmp_path: Path
) -> None:
    seen = look(write(tmp_path / "dark.fits", PROCDARK="2026-11-23T00:00:00"))
    assert "a processed dark" in seen.left_out[0].reason
    assert quarantined(workspace) == {}


def test_a_frame_that_is_refused_early_is_quarantined_too(
    look: Look, workspace: Workspace, tmp_path: Path
) -> None:
    """By its shape, a missing keyword, truncation or emptiness: all before its bytes are read."""
    packed = tmp_path / "packed.fits.bz2"
    packed.write_bytes(bz2.compress(write(tmp_path / "p.fits").read_bytes())[:-40])
    small = write(tmp_path / "small.fits", PIXELS[:20])
    bare = write(tmp_path / "bare.fits")
    with fits.open(bare, mode="update") as hdus:
        del hdus[0].header["EXPTIME"]
    piece = write(tmp_path / "piece.fits")
    piece.write_bytes(piece.read_bytes()[:3000])
    (empty := tmp_path / "empty.fits").touch()
    seen = look(packed, small, bare, piece, empty)
    reported = {one.name: one.reason for one in seen.left_out}
    noted = quarantined(workspace)
    assert {name.removesuffix(".bz2"): reason for name, reason in reported.items()} == noted
    store = workspace.store()
    frames_ = {frame.name: frame for name in noted for frame in store.frames.named(name)}
    assert frames_["small.fits"].facts is not None
    assert all(frames_[name].facts is None for name in ("bare.fits", "piece.fits", "empty.fits"))
    assert store.frames.header_of(frames_["bare.fits"].sha256)["DATALAB"] == "bare"
    assert all(frame.paths for frame in frames_.values())


def test_a_frame_of_an_unknown_instrument_is_not_judged(
    look: Look, workspace: Workspace, tmp_path: Path
) -> None:
    seen = look(write(tmp_path / "gmos.fits", INSTRUME="GMOS-S"))
    assert "GMOS-S" in seen.left_out[0].reason
    assert quarantined(workspace) == {}


def test_a_usable_frame_stays_usable_if_only_this_run_refuses_it(
    look: Look, workspace: Workspace, tmp_path: Path
) -> None:
    path = write(tmp_path / "good.fits")
    look(path)
    refused = look(path, shape=(7, 7))
    assert refused.frames == ()
    assert refused.refused == {sha256_of(path)}
    assert quarantined(workspace) == {"good.fits": None}


# One exposure in several files

LABELLED = {"DATALAB": "GS-CAL20131121-1-001"}


def doubled(folder: Path) -> tuple[Path, Path]:
    """Return an exposure, and the same with another header."""
    first = write(folder / "S20131121S0075.fits", **LABELLED)
    return first, write(folder / "S20131121S0075_fixhead.fits", OBSERVER="fixed by hand", **LABELLED)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_one_of_two_files_of_an_exposure_is_used(look: Look, tmp_path: Path, order: tuple[int, ...]) -> None:
    other = write(
        tmp_path / "S20131121S0076.fits", UTSTART="02:55:00", **LABELLED
    )  # a wrong label: not the same
    paths = (*doubled(tmp_path), other)
    seen = look(*(paths[n] for n in order))
    assert [frame.name for frame in seen.frames] == ["S20131121S0075_fixhead.fits", "S20131121S0076.fits"]
    (left_out,) = seen.left_out
    assert left_out.name == "S20131121S0075.fits"
    assert left_out.reason == (
        "the same exposure as S20131121S0075_fixhead.fits, which is used: "
        "the headers have the same date, and its name is the later one"
    )
    assert left_out.expected
    assert "cal reject S20131121S0075_fixhead.fits" in left_out.remedy


def test_the_newer_header_takes_precedence_over_the_name(look: Look, tmp_path: Path) -> None:
    first, later = doubled(tmp_path)
    for path, day in ((first, "2014-02-03"), (later, "2013-11-21")):
        with fits.open(path, mode="update") as hdus:
            hdus[0].header["DATE"] = day
    seen = look(first, later)
    assert [frame.name for frame in seen.frames] == [first.name]
    assert (
        "its header is newer (2014-02-03 00:00:00, this one 2013-11-21 00:00:00)" in seen.left_out[0].reason
    )


def test_a_later_file_of_an_exposure_replaces_the_earlier_one(look: Look, tmp_path: Path) -> None:
    first, later = doubled(tmp_path)
    assert [frame.name for frame in look(first).frames] == [first.name]
    assert [frame.name for frame in look(first, later).frames] == [later.name]


def test_the_other_file_of_an_exposure_is_used_if_one_is_rejected(
    look: Look, workspace: Workspace, tmp_path: Path
) -> None:
    first, later = doubled(tmp_path)
    look(first, later)
    frames_ = workspace.store().frames
    (fixed,) = frames_.named(later.name)
    frames_.set_status(fixed, "rejected", author="Ana", reason="the fix is wrong")
    seen = look(first, later)
    assert [frame.name for frame in seen.frames] == [first.name]
    (left_out,) = seen.left_out
    assert left_out.name == later.name
    assert left_out.reason.endswith(f"the fix is wrong; the same exposure is used from {first.name}")


def test_a_frame_left_out_is_known_by_its_checksum_unless_another_file_of_it_is_used(
    look: Look, tmp_path: Path
) -> None:
    used, corrected = doubled(tmp_path)
    copy = tmp_path / "a_copy.fits"
    copy.write_bytes(corrected.read_bytes())
    seen = look(used, corrected, copy)
    assert len(seen.frames) == 1
    assert len(seen.left_out) == 2
    files = {sha256_of(used), sha256_of(corrected)}
    assert seen.refused == files - {seen.frames[0].sha256}


def test_a_compressed_copy_is_the_same_frame_as_its_original(look: Look, tmp_path: Path) -> None:
    first, later = doubled(tmp_path)
    packed = tmp_path / f"{later.name}.bz2"
    packed.write_bytes(bz2.compress(later.read_bytes()))
    seen = look(first, later, packed)
    assert [frame.source for frame in seen.frames] == [later]
    assert {one.name: one.reason.split(",")[0] for one in seen.left_out} == {
        first.name: f"the same exposure as {later.name}", packed.name: f"the same frame as {later.name}",
    }  # fmt: skip


def test_files_of_one_name_are_distinguished_by_their_checksums(look: Look, tmp_path: Path) -> None:
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(write(tmp_path / folder / "S20131121S0075.fits", OBSERVER=folder, **LABELLED))
    one, other = look(*paths), look(*reversed(paths))
    assert one == other
    assert len(one.frames) == 1
    assert "the same exposure as the other file of this name (" in one.left_out[0].reason


def test_a_newer_header_that_excludes_the_exposure_is_respected(look: Look, tmp_path: Path) -> None:
    first = write(tmp_path / "S20131121S0075.fits", **LABELLED)
    write(tmp_path / "S20131121S0075_a.fits", RAWGEMQA="BAD", **LABELLED)
    seen = look(first, tmp_path / "S20131121S0075_a.fits")
    assert seen.frames == ()
    reasons = {one.name: one.reason for one in seen.left_out}
    assert "which takes precedence and is excluded: the observer judged it a failure" in reasons[first.name]


def test_irregular_files_are_left_out_without_blocking(
    look: Look, tmp_path: Path, workspace: Workspace
) -> None:
    os.mkfifo(tmp_path / "S20131121S0074.fits")
    (tmp_path / "S20131121S0076.fits").symlink_to("/dev/zero")
    good = write(tmp_path / "S20131121S0075.fits")
    seen = look(tmp_path / "S20131121S0074.fits", good, tmp_path / "S20131121S0076.fits")
    assert [frame.source for frame in seen.frames] == [good]
    assert [one.reason.rpartition(" is ")[2] for one in seen.left_out] == [
        "a named pipe, not a file", "a device, not a file",
    ]  # fmt: skip
    assert quarantined(workspace) == {good.name: None}


def test_a_frame_with_an_excessive_unpacked_size_is_quarantined_unread(
    look: Look, tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imaging.io.announced.frame_bytes", lambda: 2**20)
    path = write(tmp_path / "S20131121S0075.fits", np.zeros((600, 600), np.int32))
    packed = path.with_name("S20131121S0075.fits.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    (left_out,) = look(packed, shape=None).left_out
    assert left_out.reason.startswith("it would unpack to 1.4 MB")
    assert quarantined(workspace) == {path.name: left_out.reason}
    assert list(workspace.unpacked.glob("*.fits")) == []
