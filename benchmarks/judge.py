"""Seconds from the last byte of a frame to its verdict, at a real cadence, while a reduction runs.

A night is simulated, and its calibrations are made in an empty store. Then copies of its science frames, each with its
own label and time, arrive one by one in a folder that ``nirflow watch`` follows with that store, while the night is
reduced again and again with other parameters.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import Figure
from benchmarks.nights import Bench, BenchmarkError, announce, environment

#: Longest time from the last byte to the verdict for 95 % of the frames, and processor time for one of 2048 px, s.
LIMIT, WORK = 5.0, 1.5
#: Longest time to wait for a verdict, s.
_PATIENCE: Final = 120.0
_NIRFLOW: Final = Path(sys.executable).with_name("nirflow")
_LABEL: Final = re.compile(rb"(DATALAB = ')([^']*)(')")


@dataclass
class _Watch:
    """``nirflow watch`` in a process of its own: when each verdict was printed, by name of the frame."""

    process: subprocess.Popen[str]
    verdicts: dict[str, tuple[float, dict[str, Any]]] = field(default_factory=dict)

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            verdict = json.loads(line)
            self.verdicts[verdict["name"]] = time.monotonic(), verdict

    @property
    def work(self) -> float:
        """Processor time so far, s."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure_judge(bench: Bench, frames: int, cadence: float) -> list[Figure]:
    """Measure the time from the last byte to the verdict, and the processor time of a frame.

    Parameters
    ----------
    bench
        The folder of nights, and the size of the frames.
    frames
        Frames that arrive.
    cadence
        Time from one to the next, s.
    """
    night = bench.night()
    with bench.store(services=True) as data, tempfile.TemporaryDirectory(dir=bench.folder) as raw:
        announce("reducing the night, for its calibrations")
        _, report = bench.reduce(night, data)
        science = [
            night / f"{name.removesuffix('.fits')}.fits"
            for product in report["products"]
            if product["kind"] == "image"
            for name in product["inputs"]
        ]
        with _watching(Path(raw), data, bench.size) as watch:
            # The first frame loads kernels; its time is shown apart.
            first = _arrive(watch, science[0], Path(raw), 0)
            before, waits = watch.work, []
            with _reducing(bench, night, data):
                for number in range(1, frames + 1):
                    began = time.monotonic()
                    waits.append(_arrive(watch, science[number % len(science)], Path(raw), number))
                    announce(f"frame {number} of {frames}: {waits[-1]:.2f} s")
                    time.sleep(max(0.0, began + cadence - time.monotonic()))
            work = (watch.work - before) / frames
            uncalibrated = sum(bool(verdict.get("uncalibrated")) for _, verdict in watch.verdicts.values())
    ordered = sorted(waits)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    detail = {"seconds": [round(one, 3) for one in waits], "cadence": cadence, "uncalibrated": uncalibrated}
    note = f"{frames} frames, one every {cadence:g} s, while a reduction runs; {uncalibrated} uncalibrated"
    return [
        Figure("judge", "last byte to verdict, median", statistics.median(waits), "s", note=note, detail=detail),
        Figure("judge", "last byte to verdict, 95 %", p95, "s", limit=LIMIT, note=f"largest {ordered[-1]:.2f} s"),
        Figure("judge", "last byte to verdict, the first frame", first, "s"),
        Figure("judge", "processor time for a frame", work, "s", limit=WORK),
    ]  # fmt: skip


@contextmanager
def _watching(raw: Path, data: Path, size: int) -> Iterator[_Watch]:
    any_shape = [] if size == 2048 else ["--any-shape"]
    process = subprocess.Popen(
        [str(_NIRFLOW), "watch", str(raw), "--json", *any_shape], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment(data) | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    watch = _Watch(process)
    reader = threading.Thread(target=watch.read, daemon=True)
    reader.start()
    assert process.stderr is not None
    try:
        ready = process.stderr.readline()
        if not ready.startswith("Waiting"):
            raise BenchmarkError(f"nirflow watch did not start: {ready}{process.stderr.read()}")
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield watch
    finally:
        process.terminate()
        process.wait()
        reader.join()


def _arrive(watch: _Watch, source: Path, raw: Path, number: int) -> float:
    """Copy a frame under a new name and label, and return the time from its last byte to its verdict, s."""
    name = f"S20131121S{number + 2000:04d}.fits"
    content = _LABEL.sub(
        lambda found: found[1] + b"%0*d" % (len(found[2]), number) + found[3], source.read_bytes()
    )
    (raw / name).write_bytes(content)
    written = time.monotonic()
    while name not in watch.verdicts:
        if time.monotonic() - written > _PATIENCE or watch.process.poll() is not None:
            raise BenchmarkError(f"no verdict about {name} after {_PATIENCE:g} s")
        time.sleep(0.01)
    when, verdict = watch.verdicts[name]
    if verdict.get("problem"):
        raise BenchmarkError(f"{name} could not be measured: {verdict['problem']}")
    return when - written


@contextmanager
def _reducing(bench: Bench, night: Path, data: Path) -> Iterator[None]:
    """Reduce the night again and again in the background, each time with parameters that leave nothing to reuse."""
    ended, failures = threading.Event(), list[BaseException]()

    def reduce() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            try:
                bench.reduce(night, data, "--set", f"prepare.largest_island={20000 + number}")
            except BenchmarkError as error:
                failures.append(error)
                return

    thread = threading.Thread(target=reduce)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failures:
        raise failures[0]
