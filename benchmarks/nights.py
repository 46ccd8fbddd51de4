"""A full-size Y night with ``nirflow reduce``: from nothing, with services running, repeated, and with more
frames.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.big_store import Size
from benchmarks.figures import Figure
from benchmarks.watch import Watched, run
from nirflow.exits import Exit

#: DRAGONS 4.2.2's time for the same 36 frames on two cores, s (its five reduce calls, imports included).
DRAGONS: Final = 261.0

#: Limits and goals, s and bytes.
NIGHT, NIGHT_GOAL = 20.0, 13.0
CACHED, FROM_NOTHING = 5.0, 35.0
MEMORY: Final = 1.2e9
#: Memory of many science frames over that of nine.
GROWTH: Final = 1.10
MANY: Final = 36


class BenchmarkError(Exception):
    """A command of the benchmark failed; its output is in the message."""


@dataclass(frozen=True)
class Bench:
    """The folder of the benchmark and the number of runs.

    Attributes
    ----------
    folder
        Folder in which simulated nights are kept from one benchmark to the next; stores and products are not.
    runs
        Runs of each timed part; the fastest counts.
    size
        Rows and columns of a frame.
    store_size
        Products and frames of the large store.
    sequences
        Size and number of frames of the long sequences; empty: all of `benchmarks.sequences.SEQUENCES`.
    arriving, cadence
        Frames that arrive for the judge, and the time from one to the next, s.
    """

    folder: Path
    runs: int = 2
    size: int = 2048
    store_size: Size = field(default_factory=Size)
    sequences: tuple[tuple[int, int], ...] = ()
    arriving: int = 100
    cadence: float = 20.0

    def night(
        self, science: int = 9, *, size: int | None = None, band: str = "Y", exposure: float | None = None
    ) -> Path:
        """Return the raw frames of the tutorial's night in Y, or of another in ``band``, simulated once."""
        size = size or self.size
        night = self.folder / f"night-{size}-{science}{'' if band == 'Y' else f'-{band}'}"
        announce(f"simulating {night.name}, unless it exists")
        exposed = () if exposure is None else ("--exposure", exposure)
        of_it = ("--size", size, "--science", science, "--band", band, *exposed)
        _checked(_nirflow("simulate", night, *of_it, "--quiet"), os.environ)
        return night

    @contextmanager
    def store(self, *, services: bool) -> Iterator[Path]:
        """Yield a new data folder, with or without running services; everything is stopped and removed
        afterwards.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="store-", dir=self.folder) as name:
            data = Path(name)
            try:
                if services:
                    _checked(_nirflow("server", "start"), environment(data))
                yield data
            finally:
                _checked(_nirflow("server", "stop"), environment(data))
                stop = f"import pathlib; from calib_store.server.postgres import stop; stop(pathlib.Path({name!r}))"
                _checked([sys.executable, "-c", stop], environment(data))

    def reduce(
        self, night: Path, data: Path, *options: object, size: int | None = None, partial: bool = False
    ) -> tuple[Watched, dict[str, Any]]:
        """Reduce a night from the command line; return the run and its report.

        ``partial`` accepts that frames are left out.
        """
        any_shape = [] if (size or self.size) == 2048 else ["--set", "check.shape=none"]
        command = _nirflow("reduce", night, "--out", data / "out", "--json", *any_shape, *options)
        watched = run(command, environment=environment(data), scratch=data / "scratch")
        if watched.code != 0 and not (partial and watched.code == Exit.PARTIAL):
            raise BenchmarkError(
                f"nirflow reduce ended with {watched.code}:\n{watched.errors}{watched.output}"
            )
        return watched, json.loads(watched.output)


def default_folder() -> Path:
    """Return the folder in which simulated nights are kept."""
    return Path(tempfile.gettempdir()) / f"nirflow-benchmarks-{os.getuid()}"


def environment(data: Path) -> dict[str, str]:
    """Return the environment of a command on the data folder ``data``: without the user's own settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NIRFLOW_", "PREFECT_"))}
    return kept | {"NIRFLOW_DATA_DIR": str(data)}


def measure_night(bench: Bench) -> list[Figure]:
    """Measure a run with running services and an empty store, then a repetition with everything cached."""
    night = bench.night()
    fresh, again, reports = [], [], []
    for number in range(bench.runs):
        with bench.store(services=True) as data:
            announce(f"night, run {number + 1} of {bench.runs}")
            watched, report = bench.reduce(night, data)
            _all_built(report)
            fresh.append(watched)
            reports.append(report)
            watched, report = bench.reduce(night, data)
            _all_reused(report)
            again.append(watched)
    best = min(range(len(fresh)), key=lambda n: fresh[n].wall)
    wall = fresh[best].wall
    ratio = f"DRAGONS {DRAGONS:g} s: {DRAGONS / wall:.0f} times as fast"
    steps = reports[best]["step_seconds"]
    return [
        _wall("night", "complete process, empty store", fresh, NIGHT, NIGHT_GOAL, ratio),
        _cpu("night", fresh),
        Figure(
            "night", "reduction inside it", reports[best]["seconds"], "s", note="without imports and exit"
        ),
        *(
            Figure("night", f"  step {name}", seconds, "s", note="summed over its tasks")
            for name, seconds in steps.items()
        ),
        _peak("night", fresh, MEMORY),
        _wall("cached", "complete process, all in the store", again, CACHED),
        _cpu("cached", again),
        _peak("cached", again),
    ]


def measure_from_nothing(bench: Bench) -> list[Figure]:
    """Measure a run without server and database, which it starts itself; numba's cache is warm."""
    night = bench.night()
    runs = []
    for number in range(bench.runs):
        announce(f"from nothing, run {number + 1} of {bench.runs}")
        with bench.store(services=False) as data:
            runs.append(bench.reduce(night, data)[0])
    return [_wall("nothing", "complete process, no server, no database", runs, FROM_NOTHING)]


def measure_memory(bench: Bench) -> list[Figure]:
    """Measure the peak memory of nine science frames, of many, and of nine with less memory for the bands."""
    few, many = bench.night(), bench.night(MANY)
    peaks = {}
    for name, night, options in (
        ("9 science frames", few, ()),
        (f"{MANY} science frames", many, ()),
        ("9 science frames, --memory 64MB", few, ("--memory", "64MB")),
    ):
        announce(f"memory of {name}")
        with bench.store(services=True) as data:
            peaks[name] = bench.reduce(night, data, *options)[0]
    nine, more, _ = peaks.values()
    return [
        *(
            _peak("memory", [watched], MEMORY, name=f"peak PSS, {name}", note=f"in {watched.wall:.1f} s")
            for name, watched in peaks.items()
        ),
        Figure("memory", f"{MANY} frames over 9", more.peak / nine.peak, "", GROWTH),
    ]


def warm_up(bench: Bench) -> None:
    """Compile numba's kernels if the tree is new: a small night uses all of them."""
    small = Bench(bench.folder, size=512)
    night = small.night()
    with small.store(services=True) as data:
        announce("compiling the kernels if needed")
        options = ("--set", "check.shape=none")
        run(_nirflow("reduce", night, "--out", data / "out", *options), environment=environment(data))


def _nirflow(*arguments: object) -> list[str]:
    script = Path(sys.executable).with_name("nirflow")
    return [str(script), *(str(argument) for argument in arguments)]


def _checked(command: list[str], environment: Any) -> None:
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchmarkError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}{done.stdout}")


def _all_built(report: dict[str, Any]) -> None:
    reused = [p["name"] for p in report["products"] if p["reused"]]
    if report["failures"] or reused or len(report["products"]) != 4:
        raise BenchmarkError(f"the night was not built completely: {report}")


def _all_reused(report: dict[str, Any]) -> None:
    built = [p["name"] for p in report["products"] if not p["reused"]]
    if report["failures"] or built:
        raise BenchmarkError(f"built although nothing changed: {built}")


def _wall(
    part: str, name: str, runs: list[Watched], limit: float, goal: float | None = None, note: str = ""
) -> Figure:
    walls = [watched.wall for watched in runs]
    spread = "" if len(walls) < 2 else f"median of {len(walls)}: {statistics.median(walls):.1f}"
    notes = "; ".join(text for text in (note, spread) if text)
    return Figure(part, name, min(walls), "s", limit, goal, notes, {"runs": [round(w, 3) for w in walls]})


def _cpu(part: str, runs: list[Watched]) -> Figure:
    times = [watched.cpu for watched in runs]
    return Figure(part, "processor time of the process", min(times), "s", note="user and system")


def _peak(
    part: str, runs: list[Watched], limit: float | None = None, *, name: str = "peak PSS", note: str = ""
) -> Figure:
    note = note or "process tree without server and database"
    limit = None if limit is None else limit / 1e6
    return Figure(part, name, max(watched.peak for watched in runs) / 1e6, "MB", limit, note=note)


def announce(text: str) -> None:
    """Print a progress message on standard error."""
    print(f"benchmark: {text}", file=sys.stderr, flush=True)
