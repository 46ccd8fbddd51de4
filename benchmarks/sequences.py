"""Long sequences of short exposures in K with ``nirflow reduce``: what a frame costs as their number grows."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import Figure
from benchmarks.nights import Bench, BenchmarkError, announce
from benchmarks.watch import Watched

#: Sequences: rows and columns of a frame, and number of frames.
SEQUENCES: Final = ((2048, 9), (2048, 18), (2048, 36), (2048, 156), (1024, 36), (1024, 156), (1024, 1000))
#: Name of a sequence.
_NAME: Final = re.compile(r"([1-9][0-9]*)x([1-9][0-9]*)")
_BAND, _EXPOSURE = "K-red", 5
#: Limits: wall time of a frame on two idle cores, s; PSS and scratch, bytes; open files; growth of a frame's cost.
SECONDS, MEMORY, SCRATCH, FILES, GROWTH = 0.8, 800e6, 6e9, 256, 1.15
#: Share of the frames that must be stacked: over hours, some have too few stars as the airmass grows.
_STACKED: Final = 0.8
#: The sequence from which on the cost of a frame must be flat.
_FLAT_FROM: Final = 36
#: Size and frames that the limits of time and scratch are for.
_JUDGED: Final = (2048, 156)


def sequence(text: str) -> tuple[int, int]:
    """Return size and number of frames of a sequence from a text such as ``1024x36``.

    Raises
    ------
    ValueError
        If it is not of that form.
    """
    found = _NAME.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a size and a number of frames, such as 1024x36")
    return int(found[1]), int(found[2])


def measure_sequences(bench: Bench) -> list[Figure]:
    """Reduce sequences of increasing length, with their calibrations in the store."""
    figures: list[Figure] = []
    costs: dict[tuple[int, int], float] = {}
    for size, n in bench.sequences or SEQUENCES:
        watched, report, skies = _reduced(bench, size, n)
        costs[size, n] = watched.cpu / n
        label = f"{n} x {size} px"
        figures += _figures(label, n, (size, n) == _JUDGED, watched, report)
        figures.append(Figure("sequences", f"{label}: frames stacked", _stacked(report), ""))
        figures.append(Figure("sequences", f"{label}: skies of a frame", skies, ""))
        announce(
            f"{label}: {watched.wall / n:.2f} s, {watched.cpu / n:.2f} s of processor time a frame, "
            f"{watched.peak / 1e6:.0f} MB, {watched.files} files, {watched.scratch / 1e9:.2f} GB of scratch"
        )
    figures += [
        Figure(
            "sequences", f"{n} x {size} px: processor time of a frame over that of {_FLAT_FROM}",
            cost / costs[size, _FLAT_FROM], "", GROWTH,
        )
        for (size, n), cost in costs.items()
        if n > _FLAT_FROM and (size, _FLAT_FROM) in costs
    ]  # fmt: skip
    return figures


def _reduced(bench: Bench, size: int, n: int) -> tuple[Watched, dict[str, Any], float]:
    """Reduce one sequence into a new store that has its calibrations; return also the skies of a frame."""
    night = bench.night(n, size=size, band=_BAND, exposure=_EXPOSURE)
    calibrations = ("--only", "dark", "--only", "bpm", "--only", "flat")
    with bench.store(services=True) as data:
        announce(f"{n} frames of {size} px")
        bench.reduce(night, data, *calibrations, size=size)
        # Over hours, some frames have too few stars; how many are stacked is checked below.
        watched, report = bench.reduce(night, data, size=size, partial=True)
        skies = _skies(data / "scratch")
    if _stacked(report) < _STACKED * n:
        raise BenchmarkError(f"only {_stacked(report)} of {n} frames are stacked: {report}")
    return watched, report, skies


def _stacked(report: dict[str, Any]) -> int:
    """Return the number of frames in the stack; 0 without one."""
    return next((int(p["metrics"]["ncombine"]) for p in report["products"] if p["kind"] == "image"), 0)


def _figures(label: str, n: int, judged: bool, watched: Watched, report: dict[str, Any]) -> list[Figure]:
    steps = ", ".join(f"{name} {1e3 * seconds / n:.0f}" for name, seconds in report["step_seconds"].items())
    return [
        Figure("sequences", f"{label}: wall time of a frame", watched.wall / n, "s", SECONDS if judged else None),
        Figure(
            "sequences", f"{label}: processor time of a frame", watched.cpu / n, "s",
            note=f"steps, ms a frame: {steps}",
        ),
        Figure("sequences", f"{label}: peak PSS", watched.peak / 1e6, "MB", MEMORY / 1e6),
        Figure("sequences", f"{label}: peak PSS of a frame", watched.peak / 1e6 / n, "MB"),
        Figure("sequences", f"{label}: open files", watched.files, "", FILES),
        Figure(
            "sequences", f"{label}: scratch", watched.scratch / 1e9, "GB", SCRATCH / 1e9 if judged else None
        ),
        Figure("sequences", f"{label}: scratch of a frame", watched.scratch / 1e6 / n, "MB"),
    ]  # fmt: skip


def _skies(scratch: Path) -> float:
    """Return the mean number of sky frames of a frame, from the figures of its planes."""
    found = [json.loads(file.read_text())["meta"] for file in scratch.glob("*/planes.json")]
    skies = [meta["metrics"]["sky_frames"] for meta in found if "sky_frames" in meta.get("metrics", {})]
    return statistics.fmean(skies) if skies else 0.0
