"""The files of a night: frames by their names in any spelling, and everything else counted and named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imaging.errors import NirflowError
from imaging.frames.file_names import ARCHIVE, HIDDEN, OTHER, UNFINISHED, kind_of_name, plain_name
from imaging.frames.find_files import ELSEWHERE, FOLDER, IRREGULAR, UNNAMED, UNREADABLE, find_files, walk

FRAMES = {
    "a.fits": "a.fits", "b.FITS": "b.fits", "c.fit": "c.fits", "d.fts.gz": "d.fits", "e.fits.GZ": "e.fits",
    "f.fits.bz2": "f.fits", "g.fits.xz": "g.fits", "h.fits.fz": "h.fits", "i.FIT.XZ": "i.fits",
    "S0075 (1).fits": "S0075 (1).fits", "a.fits.fits": "a.fits.fits",
    "z.fits.zip": "z.fits.zip", "z.fits.zst": "z.fits.zst", "z.fits.Z": "z.fits.Z",
}  # fmt: skip
OTHERS = {
    HIDDEN: [".a.fits", "._a.fits", ".a.fits.Ab12Cd", ".DS_Store", ".nfs000001"],
    UNFINISHED: [
        "a.fits.part", "a.fits.filepart", "a.fits.tmp", "a.fits.crdownload", "a.fits~", "~a.fits", "a.FITS.PART",
    ],
    ARCHIVE: ["night.zip", "night.tar", "night.tar.gz", "night.TGZ", "a.fits.tar"],
    OTHER: ["a.txt", "README", "a.fits.log", "a.fits.md5", "fits", "a.gz", "a\n"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "plain"), FRAMES.items())
def test_names_of_frames(name: str, plain: str) -> None:
    assert kind_of_name(name) == ""
    assert plain_name(f"/some/where/{name}") == plain


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in OTHERS.items() for name in names])
def test_names_of_other_files(kind: str, name: str) -> None:
    assert kind_of_name(name) == kind


@pytest.mark.parametrize("name", ["blob0000", "blob.gz", "x.fits.part", "S1.fits\n"])
def test_other_names_are_kept_but_for_a_compression(name: str) -> None:
    assert plain_name(name) == name.removesuffix(".gz")


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """Return a folder with files of every kind."""
    folder = tmp_path / "night"
    (folder / "below").mkdir(parents=True)
    (folder / ".git" / "annex").mkdir(parents=True)
    (folder / "x.fits").mkdir()
    for name in ("b.FITS", "a.fits", "c.fits.xz", "d.fits.part", ".e.fits", "f.tar", "g.txt", "below/h.fits",
                 "x.fits/i.fits", ".git/annex/blob.fits"):  # fmt: skip
        (folder / name).write_bytes(b"x")
    (folder / "frame.dat").write_bytes(b"SIMPLE  =                    T")
    os.mkfifo(folder / "pipe.fits")
    (folder / "linked.fits").symlink_to(".git/annex/blob.fits")
    (folder / "gone.fits").symlink_to("nowhere")
    (folder / "loop.fits").symlink_to("loop.fits")
    (folder / "loop").symlink_to(folder)
    return folder


def test_everything_in_a_folder_is_a_frame_or_is_counted(night: Path) -> None:
    found = find_files([night])
    names = ["a.fits", "b.FITS", "c.fits.xz", "gone.fits", "linked.fits", "loop.fits"]
    assert [path.relative_to(night).as_posix() for path in found.files] == names
    assert {one.kind: one.names for one in found.passed_over} == {
        HIDDEN: (".e.fits", ".git"), UNFINISHED: ("d.fits.part",), ARCHIVE: ("f.tar",), OTHER: ("g.txt",),
        UNNAMED: ("frame.dat",), IRREGULAR: ("pipe.fits",), FOLDER: ("below", "loop", "x.fits"),
    }  # fmt: skip
    (line,) = found.summary()
    assert line.startswith(f"Passed over in {night}: 1 FITS file (frame.dat). Rename it to end in .fits")
    assert "1 unfinished file (d.fits.part)" in line
    assert "3 folders (below, loop, x.fits). Add --recursive" in line
    there = {entry.name for entry in night.iterdir()}
    assert there == {*names, *(name for one in found.passed_over for name in one.names)}


def test_a_recursive_search_leaves_hidden_folders_out(night: Path) -> None:
    found = find_files([night], recursive=True)
    below = {path.relative_to(night).as_posix() for path in found.files} - {
        p.name for p in find_files([night]).files
    }
    assert below == {"below/h.fits", "x.fits/i.fits"}
    assert FOLDER not in {one.kind for one in found.passed_over}


@pytest.mark.parametrize("recursive", [True, False])
def test_links_to_folders_are_not_followed_out_of_the_folder_that_is_searched(
    night: Path, tmp_path: Path, recursive: bool
) -> None:
    other = tmp_path / "night2"  # its path begins like that of the folder
    other.mkdir()
    (other / "o.fits").write_bytes(b"x")
    (night / "other").symlink_to("../night2")
    (night / "disk").symlink_to("/")
    (night / "below" / "up").symlink_to("../..")
    (tmp_path / "same").symlink_to(night)
    for root in (night, tmp_path / "same"):
        found = find_files([root], recursive=recursive)
        outside = next(one for one in found.passed_over if one.kind == ELSEWHERE)
        assert outside.names == (("below/up", "disk", "other") if recursive else ("disk", "other"))
        assert "links to folders elsewhere (" in found.summary()[0]
        assert "o.fits" not in {path.name for path in found.files}
        assert ("h.fits" in {path.name for path in found.files}) == recursive
    assert [path.name for path in find_files([night / "other"]).files] == ["o.fits"]


def test_a_link_keeps_its_name_and_a_file_reached_twice_counts_once(night: Path, tmp_path: Path) -> None:
    (tmp_path / "same").symlink_to(night)
    found = find_files([night / "linked.fits", tmp_path / "same" / "linked.fits", night])
    assert [path.name for path in found.files].count("linked.fits") == 1
    assert found.files[0] == night / "linked.fits"


def test_named_files_are_taken_whatever_their_names(night: Path) -> None:
    named = [night / name for name in ("frame.dat", "d.fits.part", ".e.fits", "gone.fits")]
    assert find_files(named) == (named, ())


def test_long_lists_are_cut(tmp_path: Path) -> None:
    for n in range(40):
        (tmp_path / f"{n:02}.log").touch()
    (one,) = find_files([tmp_path]).passed_over
    assert one.label == "40 other files (00.log, 01.log, 02.log, 03.log, 04.log, 05.log and 34 more)"


def test_folders_that_cannot_be_read(night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name in ("below", "secret"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = {one.kind: one for one in find_files([night], recursive=True).passed_over}
    assert found[UNREADABLE].names == ("below",)
    assert found[UNREADABLE].suspicious
    (night / "secret").mkdir()
    with pytest.raises(NirflowError, match="secret cannot be read: Permission denied"):
        find_files([night / "secret"])
    assert [entry.kind for entry in walk(str(night / "secret"), recursive=True)] == []


def test_a_glob_that_matches_a_folder_searches_it(night: Path) -> None:
    assert find_files([night.parent / "nig*"]).files == find_files([night]).files


@pytest.mark.parametrize("name", ["a.fits.gz.gz", "a.fits.bz2.GZ", "a.fit.lzma", "a.fits.gz.zst"])
def test_a_file_that_was_compressed_twice_is_reported_as_a_frame(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    found = find_files([tmp_path])
    assert [path.name for path in found.files] == [name]
    assert found.passed_over == ()
