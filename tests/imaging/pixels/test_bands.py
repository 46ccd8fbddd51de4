"""Bands cover every row once, in any number of threads, and an error in one is not lost."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import PATIENCE

from imaging.pixels.bands import bands, rows_for, run_bands, thread_count


@given(st.integers(0, 500), st.integers(1, 600))
def test_bands_cover_every_row_once_and_in_order(n_rows: int, rows_per_band: int) -> None:
    covered = [row for band in bands(n_rows, rows_per_band) for row in range(n_rows)[band]]
    assert covered == list(range(n_rows))
    assert all(0 < b.stop - b.start <= rows_per_band for b in bands(n_rows, rows_per_band))


@given(st.integers(1, 10**9), st.integers(1, 10**6), st.integers(1, 16))
def test_the_bands_being_processed_stay_within_the_memory(memory: int, per_row: int, threads: int) -> None:
    rows = rows_for(memory, per_row, threads=threads)
    assert rows == 8 or rows * per_row * threads <= memory
    assert (rows + 1) * per_row * threads > memory or rows == 8


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_result_does_not_depend_on_threads(threads: int) -> None:
    image = np.random.default_rng(1).normal(size=(101, 7))
    out = np.zeros_like(image)

    def work(band: slice) -> None:
        out[band] += image[band] ** 2

    run_bands(work, 101, rows_per_band=8, threads=threads)
    np.testing.assert_array_equal(out, image**2)


def test_bands_run_in_parallel() -> None:
    together = threading.Barrier(2, timeout=PATIENCE)
    run_bands(lambda band: bool(together.wait()), 2, rows_per_band=1, threads=2)
    assert not together.broken


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_in_a_band_is_raised(threads: int) -> None:
    def work(band: slice) -> None:
        if band.start == 8:
            raise ValueError("band 8")

    with pytest.raises(ValueError, match="band 8"):
        run_bands(work, 32, rows_per_band=8, threads=threads)


def test_nothing_to_do() -> None:
    run_bands(lambda band: pytest.fail("no band"), 0, rows_per_band=8)


def test_thread_count_is_of_this_process() -> None:
    assert thread_count() >= 1
