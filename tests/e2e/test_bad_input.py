"""A night with every kind of bad file: each is named, and the night continues without it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from night_lab import Lab, Run, altered, link, without_stars
from numpy.typing import NDArray

from imaging.errors import NirflowError
from imaging.products.product_file import datasums, read_table
from imaging.simulator.parameters import NightParameters
from imaging.simulator.truth import NightTruth

camera = NightParameters().camera

DARK, OBJECT, LAMP = "S20131120S0115.fits", "S20131121S0075.fits", "S20131129S0320.fits"


def _with_nans(adu: NDArray[np.int32]) -> NDArray[np.float32]:
    pixels = adu.astype(np.float32)
    pixels[..., 100:, :] = np.nan
    return pixels


def _smaller(adu: NDArray[np.int32]) -> NDArray[np.int32]:
    return adu[:, :-16, :-16].copy()


def _saturated(adu: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.maximum(adu, camera.saturation_adu(8, 1) + adu % 7).astype(np.int32)


#: New name, the frame it is made from, its changes, and the texts that the user must see.
_ALTERED: tuple[tuple[str, str, dict[str, Any], tuple[str, ...]], ...] = (
    ("S20131121S0801.fits", OBJECT, {"INSTRUME": "GMOS-S"}, ("that no table describes", "INSTRUME", "GMOS-S")),
    ("S20131121S0802.fits", OBJECT, {"GRISM": "JH_G5801"}, ("spectroscopy", "GRISM", "JH", "imaging")),
    ("S20131121S0803.fits", OBJECT, {"pixels": _smaller}, ("368 x 368", "expected 384 x 384")),
    ("S20131121S0804.fits", DARK, {"EXPTIME": None}, ("keyword is missing", "EXPTIME", "Correct the header")),
    ("S20131121S0805.fits", DARK, {"EXPTIME": "long"}, ("keyword is invalid", "EXPTIME", "'long'", "a number")),
    ("S20131121S0806.fits", DARK, {"COADDS": 0}, ("keyword is invalid", "COADDS", "0", "whole number from 1")),
    (
        "S20131121S0807.fits", DARK, {"UTSTART": "25:99", "TIME_OBS": None, "MJD_OBS": None},
        ("UTSTART", "25:99", "a date and a time"),
    ),
    ("S20131121S0808.fits", DARK, {"LNRS": 3, "NREADS": 3}, ("LNRS", "3", "one of 1, 4, 6, 8")),
    (
        "S20131121S0809.fits", DARK, {"LNRS": 8, "NREADS": 4},
        ("LNRS and NREADS = 4 disagree", "LNRS = 8", "night log"),
    ),
    ("S20131121S0810.fits", OBJECT, {"pixels": _with_nans}, ("of the pixels have no data", "leave it out")),
    ("S20131121S0811.fits", OBJECT, {"pixels": np.zeros_like}, ("all pixels have the value 0", "not read out")),
    ("S20131121S0812.fits", OBJECT, {"pixels": _saturated}, ("100% of the pixels are saturated", "shorter")),
    ("S20131121S0813.fits", OBJECT, {"OBSCLASS": "acq"}, ("acquisition", "OBSCLASS", "acq")),
    ("S20131121S0814.fits", OBJECT, {"RAWGEMQA": "BAD"}, ("judged it a failure", "RAWGEMQA", "BAD")),
    ("S20131121S0815.fits", OBJECT, {"OBSTYPE": "MASK"}, ("OBSTYPE", "MASK", "one of")),
    (
        "S20131122S0820.fits", DARK, {"LNRS": 1, "NREADS": 1},
        ("1 dark of 120 s with 1 read pair ", "needs 3", "dark.min_frames"),
    ),
    ("S20131122S0821.fits", DARK, {"EXPTIME": 60.0}, ("1 dark of 60 s with 8 read pairs", "needs 3")),
    (
        "S20131122S0822.fits", LAMP, {"LNRS": 4, "NREADS": 4},
        ("lamp-on flats in Y of 20 s with 4 read pairs, without lamp-offs", "read mode"),
    ),
    (
        "S20131129S0823.fits", "S20131121S0369.fits", {"LNRS": 4, "NREADS": 4, "DATE_OBS": "2013-11-28"},
        ("1 dark of 2 s with 4 read pairs", "needs 3"),
    ),
    ("S20131121S0090.fits", OBJECT, {"pixels": "without stars"}, ("0 stars to match", "3 are needed")),
)  # fmt: skip


@pytest.fixture(scope="session")
def bad_night(night: NightTruth, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the small night with an additional frame of each bad kind."""
    folder = link(night.raw_paths(), tmp_path_factory.mktemp("bad") / "night")
    raw = night.folder.parent
    for name, source, changes, _ in _ALTERED:
        if changes.get("pixels") == "without stars":
            changes = changes | {"pixels": without_stars(night, 30.0)}
        altered(raw / source, folder / name, **changes)
    complete = (raw / OBJECT).read_bytes()
    (folder / "S20131121S0830.fits").write_bytes(complete[: len(complete) // 2])
    (folder / "S20131121S0831.fits").write_bytes(b"")
    (folder / "S20131121S0832.fits").write_bytes(b"<html>404 Not Found</html>" * 400)
    (folder / "S20131121S0833.fits.bz2").write_bytes(b"BZh9" + bytes(range(256)))
    (folder / "S20131121S0834.fits").write_bytes(complete[:1000])
    shutil.copyfile(raw / OBJECT, folder / "copy_of_0075.fits")
    (folder / "elsewhere").mkdir()
    altered(raw / DARK, folder / "elsewhere" / DARK, lambda adu: adu + 1, UTSTART="12:34:56")
    label = fits.getheader(raw / DARK)["DATALAB"]
    altered(raw / DARK, folder / "older_header.fits", DATALAB=label, DATE="2013-11-19")
    # Isolated science frames: no frame for its sky; no dark of its exposure time.
    altered(raw / OBJECT, folder / "S20131121S0840.fits", OBSID="GS-2013B-Q-15-40", OBJECT="Lonely")
    for n in range(2):
        source = raw / f"S20131121S{75 + n:04d}.fits"
        altered(source, folder / f"S20131121S085{n}.fits", EXPTIME=60.0, OBJECT="Short")
    return folder


@pytest.fixture(scope="session")
def bad(new_lab: Callable[..., Lab], bad_night: Path) -> Run:
    return new_lab().reduce(bad_night, recursive=True)


@pytest.mark.parametrize(("name", "expected"), [(name, expected) for name, _, _, expected in _ALTERED])
def test_each_bad_frame_is_named_with_its_reason(bad: Run, name: str, expected: tuple[str, ...]) -> None:
    reason = bad.reason(name)
    assert [term for term in expected if term not in reason] == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("S20131121S0830.fits", ("truncated", "Fetch the file again")),
        ("S20131121S0831.fits", ("empty (0 bytes)", "Fetch the file again")),
        ("S20131121S0832.fits", ("not a FITS file",)),
        ("S20131121S0833.fits.bz2", ("compressed data are damaged", "Fetch the file again")),
        ("S20131121S0834.fits", ("truncated",)),
    ],
)
def test_each_broken_file_is_named_with_its_reason(bad: Run, name: str, expected: tuple[str, ...]) -> None:
    reason = bad.reason(name)
    assert [term for term in expected if term not in reason] == []


def test_a_frame_under_two_names_is_used_once(bad: Run) -> None:
    assert OBJECT in bad.product("image", "WISE").inputs
    assert "copy_of_0075.fits" not in bad.product("image", "WISE").inputs
    assert f"the same frame as {OBJECT}" in bad.reason("copy_of_0075.fits")


def test_an_exposure_in_two_files_is_used_once(bad: Run) -> None:
    assert "older_header.fits" not in bad.product("dark").inputs
    reason = bad.reason("older_header.fits")
    assert f"the same exposure as {DARK}, which is used: its header is newer (2013-11-20" in reason


def test_of_two_frames_of_one_name_one_is_used_and_the_other_reported(bad: Run) -> None:
    assert bad.product("dark").inputs.count(DARK) == 1
    reason = bad.reason(DARK)
    assert "a different frame with the same name" in reason
    assert "elsewhere" in reason
    assert "Rename one of the files" in reason


def test_the_rest_of_the_night_is_made(bad: Run, reduced: Run) -> None:
    assert bad.kinds() == [*reduced.kinds(), "image"]  # and one of the frame that is alone
    for kind in ("dark", "bpm", "flat"):
        assert datasums(bad.product(kind).output) == datasums(reduced.product(kind).output), kind


def test_the_stack_is_made_from_the_usable_frames(bad: Run, reduced: Run) -> None:
    stack = next(one for one in bad.report.products if one.kind == "image" and one.metrics["ncombine"] > 1)
    assert "S20131121S0090.fits" in [one.name for one in stack.left_out]
    assert set(reduced.product("image").inputs) <= set(stack.inputs)
    assert stack.output is not None
    assert stack.output.is_file()
    header, lineage = fits.getheader(stack.output), read_table(stack.output, "LINEAGE")
    assert lineage is not None
    roles = {str(row["file"]): str(row["role"]) for row in lineage}
    # The frame without stars was used as sky for others, and is not in the stack.
    assert roles["S20131121S0090.fits"] == "sky"
    assert sum(role == "science" for role in roles.values()) == header["NCOMBINE"] == 5
    assert (header["DATE-BEG"], header["DATE-END"]) == (header["EXPSTART"], header["EXPEND"])


def test_science_without_a_dark_fails_with_a_remedy_and_a_frame_without_sky_is_marked(bad: Run) -> None:
    # A step that could not start because another failed is not a separate failure.
    assert len(bad.report.failures) == 1
    lonely = next(one for one in bad.report.products if one.inputs == ("S20131121S0840.fits",))
    assert any(text.startswith("no sky frame") and "S20131121S0840" in text for text in lonely.warnings)
    short = bad.failure("Short")
    assert "no dark serves S20131121S085" in short
    assert "exposure 60 s, 8 read pairs, 1 coadd" in short
    assert "S20131120S0115_dark.fits: exposure 120 s, frame 60 s" in short
    assert "--use dark=" in short
    assert "--allow-missing dark" in short


@pytest.fixture
def dark_frames(night: NightTruth, tmp_path: Path) -> Path:
    """Three darks and nothing else: the fastest night."""
    return link([night.folder.parent / f.file for f in night.of_role("dark")[:3]], tmp_path / "darks")


def test_an_output_folder_that_cannot_be_made(lab: Lab, dark_frames: Path) -> None:
    (lab.folder / "out").write_text("a file")
    with pytest.raises(NirflowError, match=r"output folder .*/out/products cannot be written.*--out"):
        lab.reduce(dark_frames, out="out/products")
    assert (lab.folder / "out").read_text() == "a file"
    assert not lab.data.exists()


def test_a_path_that_does_not_exist(lab: Lab) -> None:
    with pytest.raises(NirflowError, match=r"nowhere: there is no such file or folder"):
        lab.reduce(lab.folder / "nowhere")


def test_a_database_that_is_down(lab: Lab, dark_frames: Path) -> None:
    there = lab.url
    lab.url = "postgresql://someone:secret@127.0.0.1:9/nirflow"
    with pytest.raises(NirflowError, match=r"database .*127\.0\.0\.1.*does not answer") as reported:
        lab.reduce(dark_frames)
    assert "secret" not in str(reported.value)
    assert "NIRFLOW_DATABASE_URL" in reported.value.remedy
    lab.url = there
    assert lab.reduce(dark_frames).kinds() == ["dark"]


def test_a_database_that_was_restarted_between_two_runs(lab: Lab, dark_frames: Path) -> None:
    from sqlalchemy import text

    first = lab.reduce(dark_frames)
    with lab.store().database.begin() as connection:
        ended = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()"
        )
        connection.execute(text(f"{ended} AND pid <> pg_backend_pid()"))
    assert lab.reduce(dark_frames).product("dark").id == first.product("dark").id


def test_no_usable_frame(lab: Lab) -> None:
    (lab.folder / "one.fits").write_bytes(b"")
    run = lab.reduce(lab.folder / "one.fits")
    assert run.report.products == run.report.failures == ()
    assert "empty" in run.reason("one.fits")


def test_an_existing_file_is_kept(lab: Lab, dark_frames: Path) -> None:
    first = lab.reduce(dark_frames)
    made = first.product("dark")
    assert made.output == lab.folder / "out" / "S20131120S0115_dark.fits"
    content = made.output.read_bytes()
    changed = {"dark": {"low": 2.9}}

    second = lab.reduce(dark_frames, steps=changed)
    alongside = second.product("dark").output
    assert alongside is not None
    assert alongside.name == f"S20131120S0115_dark_{second.product('dark').recipe_key[:8]}.fits"
    assert made.output.read_bytes() == content
    assert alongside.read_bytes() != content

    third = lab.reduce(dark_frames, steps=changed)
    assert third.product("dark").output == alongside
    assert sorted(p.name for p in (lab.folder / "out").glob("*.fits")) == [made.output.name, alongside.name]

    fourth = lab.reduce(dark_frames, steps=changed, overwrite=True)
    assert fourth.product("dark").output == made.output
    assert made.output.read_bytes() == alongside.read_bytes()
    # Nothing was lost in the store either.
    assert lab.object_of(first.product("dark")).read_bytes() == content


def test_a_foreign_file_is_kept(lab: Lab, dark_frames: Path) -> None:
    stranger = lab.folder / "out" / "S20131120S0115_dark.fits"
    stranger.parent.mkdir()
    stranger.write_text("notes")
    output = lab.reduce(dark_frames).product("dark").output
    assert output is not None
    assert output != stranger
    assert stranger.read_text() == "notes"
