"""Time of resampling a frame: a shift, and turned and scaled frames, which may take twice as long.

A frame turned by 45 degrees, whose neighbours in the output are nowhere neighbours in the frame, has no limit.
"""

from __future__ import annotations

import time
from typing import Final

import numpy as np

from benchmarks.figures import Figure
from imaging.pixels.bands import run_bands, thread_count
from imaging.pixels.dq import DQ
from imaging.registration.geometry import Affine
from imaging.registration.resampling.resample import array_source, resample_into

#: Largest time of a general transform, in times of a shift.
LIMIT: Final = 2.0
#: Rows of a band, as for a stack of ten frames.
_ROWS: Final = 64
_BAD_SHARE: Final = 0.01
_STEEP: Final = "rotation by 45 deg"


def measure_resampling(*, runs: int, size: int) -> list[Figure]:
    """Time each transform, in turns with the shift; the fastest of several runs counts."""
    rng = np.random.default_rng(20131121)
    sci = rng.normal(1000, 30, (size, size)).astype(np.float32)
    var = np.full_like(sci, 900)
    dq = np.where(rng.random(sci.shape) < _BAD_SHARE, DQ.BAD_PIXEL, DQ.GOOD).astype(np.uint16)
    out = np.empty_like(sci), np.empty_like(sci), np.empty_like(dq)
    source, threads = array_source(sci, var, dq), thread_count()
    centre, shift = (size - 1) / 2, Affine.shift(3.4, -2.8)
    transforms = {
        "shift": shift,
        "rotation by 0.01 deg": Affine.turn(0.01, centre, centre).then(shift),
        "rotation by 1.5 deg": Affine.turn(1.5, centre, centre).then(shift),
        "scale of 1.001": Affine(1.001, 0.0, 0.0, 1.001, 3.4, -2.8),
        _STEEP: Affine.turn(45.0, centre, centre).then(shift),
    }

    def resample(transform: Affine) -> None:
        def work(rows: slice) -> None:
            sci, var, dq = out
            resample_into((sci[rows], var[rows], dq[rows]), source, (size, size), transform, rows)

        run_bands(work, size, rows_per_band=_ROWS, threads=threads)

    best = dict.fromkeys(transforms, float("inf"))
    for transform in transforms.values():
        resample(transform)  # compiles the kernels
    for _ in range(5 * runs):
        for name, transform in transforms.items():
            began = time.perf_counter()
            resample(transform)
            best[name] = min(best[name], time.perf_counter() - began)
    shifted = best.pop("shift")
    figures = [Figure("resampling", "shift", shifted * 1000, "ms", note=f"{threads} threads")]
    for name, seconds in best.items():
        figures.append(
            Figure(
                "resampling",
                f"{name} / shift",
                seconds / shifted,
                "",
                limit=None if name == _STEEP else LIMIT,
                note=f"{seconds * 1000:.3g} ms",
            )
        )
    return figures
