from __future__ import annotations

import bz2
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from own_cameras import OWL, one_hdu, tables

from imaging.io import examine as module
from nirflow.exits import UsageError
from nirflow.survey import examine_file, frame_files, group_frames, survey

Writer = Callable[..., Path]


def test_a_folder_yields_only_its_fits_files_in_order_of_name(night: Path) -> None:
    (night / "notes.txt").write_text("x")
    (night / "below").mkdir()
    shutil.copy(night / "S20131120S0115.fits", night / "below" / "S20131120S0999.fits")
    names = [path.name for path in frame_files([night]).files]
    assert names == sorted(names)
    assert len(names) == 8
    assert len(frame_files([night], recursive=True).files) == 9


def test_a_file_named_twice_counts_once_and_order_follows_the_arguments(night: Path) -> None:
    last = night / "S20131129S0320.fits"
    found = frame_files([last, night, night / ".." / "night" / last.name]).files
    assert found[0] == last
    assert len(found) == 8


def test_globs_not_expanded_by_the_shell(night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [p.name for p in frame_files([night / "S20131121S007[56].fits"]).files] == [
        "S20131121S0075.fits",
        "S20131121S0076.fits",
    ]
    monkeypatch.chdir(night.parent)
    assert len(frame_files(["night/*.fits", "*/*.bz2"]).files) == 7


@pytest.mark.parametrize("name", ["nothing.fits", "nothing*.fits"])
def test_a_missing_path_is_reported(night: Path, name: str) -> None:
    with pytest.raises(UsageError, match="no such file"):
        frame_files([night / name])


@pytest.mark.parametrize("suffix", ["", ".bz2", ".gz"])
def test_the_facts_come_from_the_first_blocks(tmp_path: Path, frame_writer: Writer, suffix: str) -> None:
    seen = examine_file(frame_writer(tmp_path / f"S20131121S0075.fits{suffix}", EXPTIME=60.0))
    assert seen.reason == ""
    assert seen.facts is not None
    assert (seen.facts.name, seen.facts.exposure_time) == ("S20131121S0075.fits", 60.0)


def test_a_tile_compressed_frame(tmp_path: Path, frame_writer: Writer) -> None:
    plain = frame_writer(tmp_path / "S20131121S0075.fits")
    packed = tmp_path / "packed" / "S20131121S0075.fits.fz"
    packed.parent.mkdir()
    with fits.open(plain) as hdus:
        image = fits.CompImageHDU(hdus[1].data[0], hdus[1].header)
        fits.HDUList([hdus[0], image]).writeto(packed)
    seen = examine_file(packed)
    assert (seen.reason, seen.facts and seen.facts.filter) == ("", "Y")


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"INSTRUME": "GMOS-S"}, "the frame of an instrument that no table describes"),
        ({"EXPTIME": None}, "EXPTIME"),
        ({"EXPTIME": "long"}, "EXPTIME = 'long'"),
        ({"LNRS": 5, "NREADS": 5}, "LNRS = 5"),
        ({"LNRS": 4, "DATE_OBS": "2020-01-01"}, "disagree"),
        ({"DATE_OBS": "yesterday", "UTSTART": None}, "DATE-OBS"),
        ({"shape": (1024, 1024)}, "the image has the shape 1024 x 1024, expected 2048 x 2048"),
        ({"shape": (3, 2048, 2048)}, "the image has the shape 3 x 2048 x 2048"),
        ({"complete": False}, "truncated"),
    ],
)
def test_problems_of_a_file_are_reported_with_a_remedy(
    tmp_path: Path, frame_writer: Writer, cards: dict[str, object], expected: str
) -> None:
    seen = examine_file(frame_writer(tmp_path / "S20131121S0075.fits", **cards))
    assert seen.broken
    assert expected in seen.reason
    assert seen.remedy
    assert "S20131121S0075" not in seen.reason  # the name is already shown next to it


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.fits", b"", "empty"),
        ("a.fits", b"hello" * 1000, "not a FITS file"),
        ("a.fits.bz2", b"hello" * 1000, "damaged"),
        ("a.fits.gz", b"hello" * 1000, "damaged"),
        ("a.fits.bz2", bz2.compress(b"SIMPLE  =" + b" " * 5000)[:40], "damaged"),
        ("a.fits", b"SIMPLE  =                    T".ljust(2880), "END card"),
    ],
)
def test_a_file_that_is_not_fits(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    seen = examine_file(tmp_path / name)
    assert seen.facts is None
    assert expected in seen.reason


def test_a_garbled_card_is_reported_and_does_not_stop_the_others(night: Path) -> None:
    path = night / "S20131120S0115.fits"
    path.write_bytes(
        path.read_bytes().replace(b"EXPTIME =                120.0", b"EXPTIME =              'x 120.0")
    )
    frames = survey(frame_files([night]).files)
    assert [frame.path.name for frame in frames if frame.broken] == [path.name]
    assert len(frames) == 8


def test_pixels_are_examined_on_request(night: Path) -> None:
    path = night / "S20131120S0115.fits"
    assert not examine_file(path).broken
    dead = examine_file(path, pixels=True)
    assert "all pixels have the value 0" in dead.reason
    with fits.open(path, mode="update") as hdus:
        hdus[1].data[:] = np.arange(2048)
    assert not examine_file(path, pixels=True).broken


def test_progress_is_reported_for_each_file(night: Path) -> None:
    reported: list[int] = []
    survey(frame_files([night]).files, progress=lambda: reported.append(1))
    assert len(reported) == 8


def test_the_same_frame_under_two_names_is_used_once(night: Path) -> None:
    shutil.copy(night / "S20131121S0075.fits", night / "copy.fits")
    frames = survey(frame_files([night]).files)
    unfit = {frame.path.name: frame.reason for frame in frames if frame.verdict == "excluded"}
    assert unfit == {"copy.fits": "the same frame as S20131121S0075.fits, which is used"}
    assert sum(len(group.frames) for group in group_frames(frames)) == 8


def test_an_exposure_with_a_corrected_header_is_used_once(night: Path, frame_writer: Writer) -> None:
    frame_writer(night / "S20131121S0075_fixhead.fits", DATE="2014-01-02", UTSTART="02:50:00")
    frames = survey(frame_files([night]).files)
    (double,) = (frame for frame in frames if frame.verdict == "excluded")
    assert double.path.name == "S20131121S0075.fits"
    assert "the same exposure as S20131121S0075_fixhead.fits, which is used" in double.reason
    assert "its header is newer (2014-01-02" in double.reason
    names = [frame.path.name for group in group_frames(frames) for frame in group.frames]
    assert "S20131121S0075_fixhead.fits" in names
    assert "S20131121S0075.fits" not in names


def test_files_of_one_name_in_two_folders_are_distinguished_by_their_checksums(
    tmp_path: Path, frame_writer: Writer
) -> None:
    one, other = tmp_path / "a" / "S20131121S0075.fits", tmp_path / "b" / "S20131121S0075.fits"
    for path, offset in ((one, 1.5), (other, 2.5)):
        path.parent.mkdir()
        frame_writer(path, POFFSET=offset)
    left_out = [
        [f.path for f in survey(paths) if f.verdict == "excluded"] for paths in ([one, other], [other, one])
    ]
    assert left_out[0] == left_out[1]
    assert len(left_out[0]) == 1


def test_a_corrected_keyword_is_reported(tmp_path: Path, frame_writer: Writer) -> None:
    seen = examine_file(frame_writer(tmp_path / "a.fits", LNRS=2, NREADS=4))
    assert not seen.broken
    assert seen.notes == ("LNRS is invalid; 4, from another keyword, is used instead",)


def test_groups_are_named_as_an_observer_would(night: Path, frame_writer: Writer) -> None:
    frame_writer(night / "S20131121S0080.fits", OBSCLASS="acq")
    frame_writer(night / "S20131121S0081.fits", EXPTIME=None)
    groups = group_frames(survey(frame_files([night]).files))
    assert [(group.label, len(group.frames)) for group in groups] == [
        ("dark 120 s", 2),
        ("dark 2 s", 1),
        ("flat Y 20 s lamp off", 1),
        ("flat Y 20 s lamp on", 1),
        ("science Y 120 s WISE J0413 (dither)", 3),
    ]


def test_offset_to_sky_and_coadds_are_named(tmp_path: Path, frame_writer: Writer) -> None:
    for i in range(4):
        frame_writer(tmp_path / f"S{i}.fits", POFFSET=600.0 * (i % 2), UTSTART=f"02:5{i}:00")
    frame_writer(tmp_path / "D.fits", OBSTYPE="DARK", COADDS=3)
    labels = [group.label for group in group_frames(survey(frame_files([tmp_path]).files))]
    assert labels == ["dark 120 s x 3", "science Y 120 s WISE J0413 (offset, 2 for the sky)"]


def test_a_frame_and_its_compressed_copy_are_one_member(tmp_path: Path, frame_writer: Writer) -> None:
    for suffix in ("", ".bz2"):
        frame_writer(tmp_path / f"S20131121S0075.fits{suffix}")
    (group,) = group_frames(survey(frame_files([tmp_path]).files))
    assert [frame.path.suffix for frame in group.frames] == [".fits"]


def test_an_unexpected_error_is_reported_for_one_file(night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = night / "S20131120S0115.fits"
    original = module.read_layout

    def read_layout(path: Path) -> object:
        if path.name == odd.name:
            raise OverflowError("a strange card")
        return original(path)

    monkeypatch.setattr(module, "read_layout", read_layout)
    broken = [frame for frame in survey(frame_files([night]).files) if frame.broken]
    assert [frame.path.name for frame in broken] == [odd.name]
    assert "OverflowError: a strange card" in broken[0].reason
    assert broken[0].remedy


def test_labels_of_several_instruments_name_theirs(tmp_path: Path, frame_writer: Writer) -> None:
    dark = {
        "CAMERA": "Owl", "IMAGETYP": "Dark Frame", "OBJECT": "Dark", "EXPOSURE": 120.0, "NSAMP": 8, "FILTER": "blank",
        "DATE-OBS": "2013-11-21T02:30:00.0",
    }  # fmt: skip
    science = dark | {
        "IMAGETYP": "Light Frame",
        "OBJECT": "M 1",
        "FILTER": "Y",
        "DATE-OBS": "2013-11-21T02:40:00.0",
    }
    for number, cards in enumerate((dark, science)):
        one_hdu(tmp_path / f"owl_{number}.fits", cards, np.zeros((1024, 1024)), number)
    frame_writer(tmp_path / "S20131121S0075.fits")
    with tables(OWL):
        labels = {group.label for group in group_frames(survey(frame_files([tmp_path]).files))}
    assert {"dark 120 s Owl", "science Y 120 s M 1 (dither) Owl"} < labels
    assert [label for label in labels if label.endswith(" F2")]
