"""Work on an image in bands of rows, several bands at a time.

The kernels release the GIL, so plain threads use all cores; bands limit the memory for any number of frames.
Each band writes rows that no other band writes, so results do not depend on the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

#: Default limit of the memory for all bands being processed, bytes.
DEFAULT_MEMORY = 192 * 1024**2


def thread_count() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def bands(n_rows: int, rows_per_band: int) -> Iterator[slice]:
    """Return slices of at most ``rows_per_band`` rows that cover ``n_rows``."""
    for first in range(0, n_rows, rows_per_band):
        yield slice(first, min(first + rows_per_band, n_rows))


def rows_for(memory: int, bytes_per_row: int, *, threads: int | None = None, least: int = 8) -> int:
    """Return the rows of a band such that all bands being processed stay within ``memory`` bytes."""
    return max(least, memory // max(1, bytes_per_row * (threads or thread_count())))


def run_bands(
    work: Callable[[slice], None], n_rows: int, *, rows_per_band: int, threads: int | None = None
) -> None:
    """Call ``work`` once for every band, on up to ``threads`` threads; the first error is raised."""
    todo = list(bands(n_rows, rows_per_band))
    threads = min(threads or thread_count(), len(todo))
    if threads <= 1:
        for band in todo:
            work(band)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="band") as pool:
        for future in [pool.submit(work, band) for band in todo]:
            future.result()
