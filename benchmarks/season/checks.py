"""What has to hold at the end of a season, each as a figure with its limit."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import Figure
from benchmarks.observatory import Observatory
from benchmarks.season.nights import NightFrames
from benchmarks.season.quiet import data_sums
from benchmarks.season.season import UNFINISHED, Course
from benchmarks.season.site import Site, files_below

#: Largest growth of the memory of a part, MB a night.
SLOPE: Final = 1.0
#: Nights in which the caches of a new process fill, and nights after them from which its growth is judged.
_FILLING, _LEAST_NIGHTS = 12, 5
#: Longest time that a run may be late or under way at the end, s.
_LATE: Final = 60.0
#: Duration of a real night, s: a season has to be faster.
NIGHT: Final = 8 * 3600.0
_PART: Final = "season"


def checks(site: Site, quiet: Observatory, nights: Sequence[NightFrames], course: Course) -> Iterator[Figure]:
    """Yield the figures of a season that has ended, while its service is up."""
    yield from _stacks(site, quiet, nights)
    yield from _store(site)
    yield from _runs(site, course)
    yield from growth(course)
    yield from _left(site)


def _must_be_none(name: str, found: Sequence[str], note: str = "") -> Figure:
    return Figure(
        _PART, name, len(found), "", limit=0, note=", ".join(found[:8]) or note, detail={"found": list(found)}
    )


def _stacks(site: Site, quiet: Observatory, nights: Sequence[NightFrames]) -> Iterator[Figure]:
    expected = [(frames, name) for frames in nights for name in frames.stacks]
    counting = Counter(one["name"] for one in site.products("image"))
    odd = [f"{counting[name]} x {name}" for _, name in expected if counting[name] != 1]
    odd += [f"unexpected {name}" for name in counting.keys() - {name for _, name in expected}]
    yield _must_be_none("sequences without exactly one current stack", odd, f"of {len(expected)}")
    other, missing = [], []
    for frames, name in expected:
        place = Path("data", "nights", str(frames.night), name)
        mine, theirs = data_sums(site.folder / place), data_sums(quiet.folder / place)
        if not mine or not theirs:
            missing.append(f"{name} ({'season' if not mine else 'quiet run'})")
        elif mine != theirs:
            planes = [plane for plane in theirs if mine.get(plane) != theirs[plane]]
            other.append(f"{name} ({' '.join(planes)})")
    yield _must_be_none("stacks missing in the folders of their nights", missing, f"of {len(expected)}")
    yield _must_be_none("stacks with another DATASUM than in the quiet run", other, f"of {len(expected)}")


def _store(site: Site) -> Iterator[Figure]:
    found = json.loads(_output(site, "cal", "verify", "--json"))
    names = [f"{one['name']}: {one['condition']}" for one in found["findings"]]
    yield _must_be_none("findings of cal verify", names, f"{found['checked']} products read")
    status = json.loads(_output(site, "status", "--json"))
    bad = [f"{one['name']}: {one['reason']}" for one in status["quarantine"]]
    yield _must_be_none("files in quarantine", bad)


def _runs(site: Site, course: Course) -> Iterator[Figure]:
    left = site.runs(*UNFINISHED)
    now = datetime.now(UTC)
    late = [f"{run['name']}: {run['state_name']}" for run in left or () if _age(run, now) > _LATE]
    yield _must_be_none(
        "runs under way, pending or late for more than 60 s", late if left is not None else ["unknown"]
    )
    ended = site.runs("FAILED", "CRASHED") or []
    names = [f"{run['name']}: {run['state_name']}" for run in ended]
    yield Figure(
        _PART, "runs that failed for good", len(names), "", note=", ".join(names[:8]), detail={"found": names}
    )
    yield _must_be_none("waits in vain", course.overdue)
    counts = ", ".join(f"{number} {what}" for what, number in sorted(course.done.items()))
    yield Figure(_PART, "nights", len(course.seconds), "", note=counts)
    if course.seconds:
        yield Figure(
            _PART, "duration of a night, median", statistics.median(course.seconds), "s", limit=NIGHT
        )


def _age(run: dict[str, Any], now: datetime) -> float:
    since = run["start_time"] or run["expected_start_time"]
    return (now - datetime.fromisoformat(since)).total_seconds()


def growth(course: Course) -> Iterator[Figure]:
    """Yield the growth of the memory of each part, of its process that lived through most nights."""
    lives: dict[str, dict[int, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for night, parts in enumerate(course.memory):
        for part, (pid, size) in parts.items():
            lives[part][pid].append((night, size))
    for part, by_pid in lives.items():
        life = max(by_pid.values(), key=len)
        megabytes = [size / 1e6 for _, size in life]
        note = f"{megabytes[0]:.0f} to {megabytes[-1]:.0f} MB PSS in {len(life)} nights of one process"
        later = life[_FILLING:]
        if len(later) < _LEAST_NIGHTS:
            note += f"; growth is judged from {_FILLING + _LEAST_NIGHTS} nights on: --no-kills"
            yield Figure(_PART, f"memory of the {part}", megabytes[-1], "MB", note=note)
            continue
        slope = statistics.linear_regression([n for n, _ in later], [s / 1e6 for _, s in later]).slope
        yield Figure(_PART, f"growth of the {part}", slope, "MB a night", limit=SLOPE, note=note)


def _left(site: Site) -> Iterator[Figure]:
    """Yield what ``nirflow clean`` leaves of temporary files after the time in which they may be in use."""
    folders = [site.data / name for name in ("scratch", "staging", "unpacked")]
    before = files_below(folders)
    long_ago = time.time() - 3 * 86400
    for path in [*before, *(one for folder in folders if folder.is_dir() for one in folder.rglob("*"))]:
        os.utime(path, (long_ago, long_ago))
    _output(site, "clean")
    left = [str(path.relative_to(site.data)) for path in files_below(folders)]
    yield _must_be_none("temporary files after nirflow clean", left, f"{len(before)} before")


def _output(site: Observatory, *arguments: str) -> str:
    """Return what a command prints, whatever its exit code."""
    try:
        return site.nirflow(*arguments)
    except subprocess.CalledProcessError as error:
        return str(error.stdout)
