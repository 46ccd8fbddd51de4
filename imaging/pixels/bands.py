"""Work on an image in bands of rows, several bands at a time.

The kernels release the GIL, so plain threads use all cores; bands limit the memory for any number of frames.
Each band writes rows that no other band writes, so results do not depend on the number of threads.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

#: Default limit of the memory for all bands being processed, bytes.
DEFAULT_MEMORY = 192 * 1024**2


class Reused:
    """Arrays that each thread makes once: to allocate one for each band or frame costs as much as reading it."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def __call__(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return this thread's array of that name, with any content; it is lost with the next call for it."""
        kept: dict[str, NDArray[Any]] = self._of_thread.__dict__
        size = math.prod(shape)
        if name not in kept or kept[name].size < size or kept[name].dtype != dtype:
            kept[name] = np.empty(size, dtype)
        return kept[name][:size].reshape(shape)


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
