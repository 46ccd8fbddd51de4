"""Scratch planes are complete or missing, and a damaged one is not used."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imaging.io.planes import (
    Planes,
    PlanesWriter,
    expendable,
    open_if_intact,
    prune,
    release,
    released,
    scratch_size,
    touch,
    write_planes,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    planes = {"sci": np.arange(60, dtype=np.float32).reshape(10, 6), "dq": np.ones((10, 6), np.uint16)}
    return write_planes(tmp_path / "a" / "frame", planes, {"pedestal": 65.5})


def test_planes_come_back(folder: Path) -> None:
    planes = Planes(folder)
    assert planes.meta == {"pedestal": 65.5}
    assert "sci" in planes
    assert "var" not in planes
    assert planes.shape("sci") == (10, 6)
    np.testing.assert_array_equal(planes.rows("sci"), np.arange(60).reshape(10, 6))
    assert planes.rows("dq").dtype == np.uint16
    assert planes.intact()


@given(st.data())
@settings(max_examples=40)
def test_rows_are_those_of_the_array(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    dtypes = st.sampled_from([np.float32, np.uint16, np.uint8, np.int32])
    plane = data.draw(hnp.arrays(dtypes, hnp.array_shapes(min_dims=1, max_dims=3, max_side=6)))
    first, last = (data.draw(st.integers(-8, 8) | st.none()) for _ in range(2))
    folder = write_planes(tmp_path_factory.mktemp("p") / "x", {"p": plane})
    expected = plane[slice(first, last)]
    got = Planes(folder).rows("p", slice(first, last))
    assert got.dtype == plane.dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", ["sci", "dq"])
def test_one_flipped_bit_is_seen(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[17] ^= 4
    (folder / name).write_bytes(data)
    assert not Planes(folder).intact()
    assert open_if_intact(folder) is None


def test_a_torn_plane_is_seen(folder: Path) -> None:
    os.truncate(folder / "sci", 100)
    assert open_if_intact(folder) is None
    with pytest.raises(OSError, match="shorter than its manifest"):
        Planes(folder).rows("sci")


def test_a_missing_plane_and_a_missing_folder(folder: Path) -> None:
    (folder / "dq").unlink()
    assert open_if_intact(folder) is None
    assert open_if_intact(folder / "nowhere") is None


def test_a_folder_is_replaced_completely(folder: Path) -> None:
    before = Planes(folder).sha256()
    write_planes(folder, {"sky": np.zeros((2, 2), np.float32)})
    planes = open_if_intact(folder)
    assert planes is not None
    assert "sci" not in planes
    assert planes.sha256() != before
    assert [p.name for p in folder.parent.iterdir()] == ["frame"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_planes(tmp_path / "x", {"sci": np.zeros(3, np.float32)}, {"bad": object()})
    assert list(tmp_path.iterdir()) == []


def test_identity_is_that_of_the_pixels(tmp_path: Path) -> None:
    pixels = {"sci": np.ones((3, 3), np.float32)}
    a = Planes(write_planes(tmp_path / "a", pixels, {"made": 1}))
    b = Planes(write_planes(tmp_path / "b", pixels, {"made": 2}))
    assert a.sha256() == b.sha256()


def test_pruning_takes_the_least_lately_used(tmp_path: Path) -> None:
    folders = [write_planes(tmp_path / n, {"sci": np.zeros(1000, np.uint8)}) for n in "abc"]
    for age, folder in zip((300, 200, 100), folders, strict=True):
        os.utime(folder, (1e9 - age, 1e9 - age))
    touch(folders[0])
    one = scratch_size(folders[0])
    assert expendable(tmp_path.iterdir(), 2 * one, before=1e9) == {folders[1]: one}
    assert folders[1].is_dir()
    assert prune(tmp_path.iterdir(), 2 * one, before=1e9) == {folders[1]: one}
    assert prune(tmp_path.iterdir(), 10 * one, before=1e9) == {}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "c"]
    assert prune([tmp_path / "gone"], 0, before=1e9) == {}


def test_pruning_spares_what_another_run_may_be_using(tmp_path: Path) -> None:
    old, new = tmp_path / "old.fits", tmp_path / "new.fits"
    for file, used in ((old, 1e9 - 10), (new, 1e9 + 10)):
        file.write_bytes(b"0" * 1000)
        os.utime(file, (used, used))
    assert prune(tmp_path.iterdir(), 0, before=1e9) == {old: 1000}
    assert new.is_file()


def test_several_writers_of_one_folder_leave_an_intact_one(tmp_path: Path) -> None:
    def write(value: int) -> None:
        for _ in range(10):
            write_planes(tmp_path / "x", {"sci": np.full((30, 30), value, np.float32)})

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(write, value) for value in range(4)]:
            future.result()
    planes = open_if_intact(tmp_path / "x")
    assert planes is not None
    assert np.unique(planes.rows("sci")).size == 1
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


LAYOUT = {"sci": (np.float32, (20, 5)), "dq": (np.uint16, (20, 5))}


def test_writing_by_bands_gives_the_same_folder(tmp_path: Path) -> None:
    sci, dq = np.random.default_rng(3).normal(size=(20, 5)).astype(np.float32), np.ones((20, 5), np.uint16)
    whole = Planes(write_planes(tmp_path / "whole", {"sci": sci, "dq": dq}))
    with PlanesWriter(tmp_path / "banded", LAYOUT) as writer:
        for first in (12, 0, 6):
            band = slice(first, min(first + 8, 20))
            writer.write("sci", band, sci[band])
            writer.write("dq", band, dq[band])
        np.testing.assert_array_equal(writer.rows("sci", slice(3, 9)), sci[3:9])
        assert writer.rows("sci", slice(5, 5)).shape == (0, 5)
        assert not (tmp_path / "banded").exists()
        writer.commit({"n": 1})
    banded = open_if_intact(tmp_path / "banded")
    assert banded is not None
    assert banded.meta == {"n": 1}
    assert banded.sha256() == whole.sha256()


def test_a_writer_without_commit_leaves_nothing(tmp_path: Path) -> None:
    def fails() -> None:
        with PlanesWriter(tmp_path / "x", LAYOUT) as writer:
            writer.write("sci", slice(0, 20), np.zeros((20, 5), np.float32))
            raise RuntimeError("the step failed")

    with pytest.raises(RuntimeError, match="the step failed"):
        fails()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [np.zeros((4, 5), np.float64), np.zeros((5, 5), np.float32)])
def test_a_writer_refuses_other_types_and_shapes(tmp_path: Path, data: np.ndarray) -> None:
    with PlanesWriter(tmp_path / "x", LAYOUT) as writer, pytest.raises(ValueError, match="x/sci"):
        writer.write("sci", slice(0, 4), data)


def test_rows_into_an_array_that_is_there(folder: Path) -> None:
    out = np.zeros((3, 6), np.float32)
    Planes(folder).read_into("sci", 4, out)
    np.testing.assert_array_equal(out, np.arange(24, 42).reshape(3, 6))


@pytest.mark.parametrize(
    ("first", "out"),
    [(8, np.zeros((3, 6), np.float32)), (0, np.zeros((3, 5), np.float32)), (0, np.zeros((3, 6)))],
)
def test_an_array_that_does_not_fit_is_refused(folder: Path, first: int, out: np.ndarray) -> None:
    with pytest.raises(ValueError, match="frame/sci is float32"):
        Planes(folder).read_into("sci", first, out)


def test_the_same_planes_written_again_leave_the_reader_alone(tmp_path):
    folder, plane = tmp_path / "x", np.arange(12, dtype=np.float32).reshape(3, 4)
    write_planes(folder, {"sci": plane}, {"key": "k", "seeing": float("nan")})
    before = folder.stat().st_ino
    write_planes(folder, {"sci": plane}, {"key": "k", "seeing": float("nan")})
    assert folder.stat().st_ino == before
    write_planes(folder, {"sci": plane + 1}, {"key": "k"})
    assert folder.stat().st_ino != before
    assert np.array_equal(Planes(folder).rows("sci"), plane + 1)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_damaged_folder_is_replaced_by_the_same_planes(tmp_path):
    folder, plane = tmp_path / "x", np.arange(12, dtype=np.float32).reshape(3, 4)
    write_planes(folder, {"sci": plane})
    (folder / "sci").write_bytes(bytes(48))
    write_planes(folder, {"sci": plane})
    assert np.array_equal(open_if_intact(folder).rows("sci"), plane)


def test_a_manifest_that_did_not_reach_the_disk_is_no_folder(tmp_path):
    folder = write_planes(tmp_path / "x", {"sci": np.zeros((2, 2), np.float32)})
    for left in ("", "{", "{}"):
        (folder / "planes.json").write_text(left)
        assert open_if_intact(folder) is None


def test_released_planes_leave_their_figures(tmp_path):
    folder = write_planes(tmp_path / "x", {"sci": np.ones((3, 4), np.float32)}, {"key": "k"})
    assert released(folder) is None
    release(folder)
    assert [p.name for p in folder.iterdir()] == ["planes.json"]
    assert open_if_intact(folder) is None
    left = released(folder)
    assert left is not None
    assert (left.meta, left.shape("sci")) == ({"key": "k"}, (3, 4))
    release(folder)
    release(tmp_path / "nowhere")
    assert released(tmp_path / "nowhere") is None
    write_planes(folder, {"sci": np.ones((3, 4), np.float32)}, {"key": "k"})
    assert open_if_intact(folder) is not None
    assert released(folder) is None


def test_flags_that_are_being_written_can_be_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    runs = np.repeat(rng.integers(0, 3, (40, 30), np.uint16), 20, axis=1)
    noise = rng.integers(0, 60000, (40, 600), np.uint16)  # as runs, it would take more
    written = np.zeros((40, 600), np.uint16)
    with PlanesWriter(tmp_path / "b", {"dq": (np.uint16, (40, 600))}) as writer:
        for first, last, source in ((30, 40, runs), (0, 16, noise), (10, 20, runs), (18, 24, noise)):
            writer.write("dq", slice(first, last), source[first:last])
            written[first:last] = source[first:last]
            for rows in (slice(0, 40), slice(12, 33), slice(24, 30), slice(5, 5)):
                np.testing.assert_array_equal(writer.rows("dq", rows), written[rows])
        assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
        writer.commit()
    np.testing.assert_array_equal(Planes(tmp_path / "b").rows("dq"), written)


def test_flags_are_stored_as_runs_by_either_way_of_writing(tmp_path):
    dq = np.zeros((40, 300), np.uint16)
    dq[3:9, 100:180] = 5
    write_planes(tmp_path / "a", {"dq": dq})
    with PlanesWriter(tmp_path / "b", {"dq": (np.uint16, dq.shape)}) as writer:
        writer.write("dq", slice(0, 40), dq)
        writer.commit()
    for name in "ab":
        assert (tmp_path / name / "dq").stat().st_size < dq.nbytes / 20
        np.testing.assert_array_equal(Planes(tmp_path / name).rows("dq", slice(5, 12)), dq[5:12])
    assert Planes(tmp_path / "a").sha256() == Planes(tmp_path / "b").sha256()
    (tmp_path / "a" / "dq").write_bytes(bytes((tmp_path / "a" / "dq").stat().st_size))
    with pytest.raises(OSError, match="its runs do not fill its rows"):
        Planes(tmp_path / "a").rows("dq")
