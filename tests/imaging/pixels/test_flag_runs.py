"""Planes of flags as runs come back, complete and by rows; damaged runs are noticed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imaging.pixels import flag_runs


def decoded(packed: bytes, plane: np.ndarray, first: int, last: int) -> np.ndarray | None:
    def read(part: np.ndarray, offset: int) -> None:
        part[:] = np.frombuffer(packed, part.dtype, part.size, offset)

    out = np.full((last - first, plane.shape[1]), 7, plane.dtype)
    return out if flag_runs.decode(read, flag_runs.runs_before(read, len(plane)), first, out) else None


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_rows_come_back(data: st.DataObject) -> None:
    few = data.draw(hnp.arrays(np.uint16, (6, 4), elements=st.sampled_from([0, 1, 64])))
    plane = np.repeat(few, 50, axis=1).astype(data.draw(st.sampled_from([np.uint8, np.uint16])))
    first = data.draw(st.integers(0, 6))
    last = data.draw(st.integers(first, 6))
    packed = flag_runs.encode(plane)
    assert packed is not None
    assert len(packed) < plane.nbytes
    np.testing.assert_array_equal(decoded(packed, plane, first, last), plane[first:last])


@pytest.mark.parametrize(
    "plane",
    [
        np.arange(600, dtype=np.uint16).reshape(6, 100),  # no runs
        np.zeros((6, 100), np.float32),
        np.zeros(600, np.uint8),
        np.zeros((2, 70000), np.uint8),
        np.zeros((0, 100), np.uint8),
    ],
)
def test_what_is_stored_as_it_is(plane: np.ndarray) -> None:
    assert flag_runs.encode(plane) is None


def test_damaged_runs_are_noticed() -> None:
    plane = np.zeros((6, 100), np.uint16)
    plane[:, 40:] = 3
    packed = flag_runs.encode(plane)
    assert packed is not None
    at = 7 * 8  # the first length
    assert decoded(packed, plane, 0, 6) is not None
    assert decoded(packed[:at] + np.uint16(41).tobytes() + packed[at + 2 :], plane, 0, 6) is None
    assert decoded(np.int64(-1).tobytes() + packed[8:], plane, 0, 6) is None
