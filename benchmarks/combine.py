"""The combine kernel compared with ccdproc, numpy and bottleneck: seconds, and ratios.

All combine the same ten frames with some bad pixels and cosmic rays. Ours computes values, variances, quality
and counts; ccdproc gets mask and uncertainty and computes them too; numpy and bottleneck compute only values,
from arrays with NaN for masked pixels. Each uses one thread, so that the ratios compare kernels; ours is also
measured on all cores.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import bottleneck
import ccdproc
import numpy as np
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from numpy.typing import NDArray

from benchmarks.figures import Figure
from imaging.pixels.bands import run_bands, thread_count
from imaging.pixels.combine import CombineParameters, Operation, Rejection, combine
from imaging.pixels.dq import DQ

FRAMES: Final = 10
#: Maximum rows and columns of the frames: ccdproc takes minutes for full ones.
LARGEST: Final = 1024
#: Rows of a band, as for the pipeline's darks and flats.
_ROWS: Final = 16
_LEVEL, _BAD_SHARE, _RAY_SHARE = 1000.0, 0.003, 0.001


@dataclass(frozen=True)
class Stack:
    """Ten frames in the format of each program."""

    sci: NDArray[np.float32]
    var: NDArray[np.float32]
    dq: NDArray[np.uint16]
    holed: NDArray[np.float32]
    ccds: list[CCDData]

    @classmethod
    def simulated(cls, size: int) -> Stack:
        """Return frames with normal noise."""
        rng = np.random.default_rng(20131121)
        shape = (FRAMES, size, size)
        sci = rng.normal(_LEVEL, np.sqrt(_LEVEL), shape).astype(np.float32)
        sci[rng.random(shape) < _RAY_SHARE] += 20000
        var = np.full(shape, _LEVEL, np.float32)
        dq = np.where(rng.random(shape) < _BAD_SHARE, DQ.BAD_PIXEL, DQ.GOOD).astype(np.uint16)
        ccds = [
            CCDData(s, unit=u.electron, mask=q > 0, uncertainty=StdDevUncertainty(np.sqrt(v)))
            for s, v, q in zip(sci, var, dq, strict=True)
        ]
        return cls(sci, var, dq, np.where(dq > 0, np.float32(np.nan), sci), ccds)

    def ours(self, parameters: CombineParameters, threads: int) -> None:
        """Combine in bands, as the pipeline does."""

        def work(rows: slice) -> None:
            combine(self.sci[:, rows], self.var[:, rows], self.dq[:, rows], parameters)

        run_bands(work, self.sci.shape[1], rows_per_band=_ROWS, threads=threads)

    def ccdproc(self, operation: str, **clip: Any) -> None:
        """Combine with ccdproc in one piece."""
        ccdproc.combine(
            self.ccds, method="average" if operation == "mean" else operation, mem_limit=64e9, **clip
        )


def measure_combine(*, runs: int, size: int) -> list[Figure]:
    """Time each combination; the fastest of several runs counts."""
    stack = Stack.simulated(min(size, LARGEST))
    sigma: dict[str, Any] = {
        "sigma_clip": True, "sigma_clip_low_thresh": 3, "sigma_clip_high_thresh": 3,
        "sigma_clip_func": "median", "maxiters": 5,
    }  # fmt: skip
    minmax: dict[str, Any] = {"clip_extrema": True, "nlow": 1, "nhigh": 1}
    cases: list[tuple[Operation, Rejection, dict[str, Callable[[], object]]]] = [
        ("mean", "none", {
            "ccdproc": lambda: stack.ccdproc("mean"),
            "numpy nanmean": lambda: np.nanmean(stack.holed, axis=0),
            "bottleneck nanmean": lambda: bottleneck.nanmean(stack.holed, axis=0),
        }),
        ("median", "none", {
            "ccdproc": lambda: stack.ccdproc("median"),
            "numpy nanmedian": lambda: np.nanmedian(stack.holed, axis=0),
            "bottleneck nanmedian": lambda: bottleneck.nanmedian(stack.holed, axis=0),
        }),
        ("mean", "minmax", {"ccdproc": lambda: stack.ccdproc("mean", **minmax)}),
        ("mean", "sigma", {"ccdproc": lambda: stack.ccdproc("mean", **sigma)}),
    ]  # fmt: skip
    cores, figures = thread_count(), []
    for operation, reject, others in cases:
        parameters = CombineParameters(operation=operation, reject=reject)
        stack.ours(parameters, 1)  # compiles the kernels
        one = _fastest(partial(stack.ours, parameters, 1), runs)
        all_cores = _fastest(partial(stack.ours, parameters, cores), runs)
        theirs = {name: _fastest(work, runs) for name, work in others.items()}
        ratios = [f"{name} {seconds / one:.1f} times as long" for name, seconds in theirs.items()]
        what = f"{operation} of {FRAMES}" + ("" if reject == "none" else f", {reject} rejection")
        detail = {"size": stack.sci.shape[1], "all_cores": all_cores, "seconds": theirs}
        note = "; ".join([*ratios, f"{cores} cores {all_cores * 1000:.3g} ms"])
        figures.append(Figure("combine", what, one * 1000, "ms", note=note, detail=detail))
    return figures


def _fastest(work: Callable[[], object], runs: int) -> float:
    best = float("inf")
    for _ in range(runs):
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", RuntimeWarning
            )  # numpy's, of pixels that are masked in every frame
            began = time.perf_counter()
            work()
            best = min(best, time.perf_counter() - began)
    return best
