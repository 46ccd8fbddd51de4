"""PlanesWriter: what it commits is what write_planes would have written, and nothing otherwise stays."""

import numpy as np
import pytest

from imaging.io.planes import Planes, PlanesWriter, open_if_intact, write_planes

LAYOUT = {"sci": (np.float32, (20, 7)), "dq": (np.uint16, (20, 7))}


def test_rows_in_any_order_give_the_same_folder_as_at_once(tmp_path):
    rng = np.random.default_rng(0)
    planes = {
        "sci": rng.normal(size=(20, 7)).astype(np.float32),
        "dq": rng.integers(0, 99, (20, 7), np.uint16),
    }
    with PlanesWriter(tmp_path / "a", LAYOUT) as writer:
        for first in (13, 0, 5):
            rows = slice(first, {13: 20, 0: 5, 5: 13}[first])
            for name, plane in planes.items():
                writer.write(name, rows, plane[rows])
        assert np.array_equal(writer.rows("sci", slice(4, 9)), planes["sci"][4:9])
        assert not (tmp_path / "a").exists()
        writer.commit({"level": 3.5})
    there = open_if_intact(tmp_path / "a")
    assert there is not None
    assert there.meta == {"level": 3.5}
    assert there.sha256() == Planes(write_planes(tmp_path / "b", planes)).sha256()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_nothing_stays_without_commit_and_the_old_folder_does(tmp_path):
    write_planes(tmp_path / "a", {"sci": np.ones((2, 2), np.float32)})
    with pytest.raises(RuntimeError), PlanesWriter(tmp_path / "a", LAYOUT):
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert Planes(tmp_path / "a").shape("sci") == (2, 2)


@pytest.mark.parametrize(
    "data", [np.zeros((3, 7), np.float64), np.zeros((4, 7), np.float32), np.zeros((3, 6), np.float32)]
)
def test_rows_of_another_kind_are_refused(tmp_path, data):
    with PlanesWriter(tmp_path / "a", LAYOUT) as writer, pytest.raises(ValueError, match="a/sci: rows of"):
        writer.write("sci", slice(2, 5), data)
