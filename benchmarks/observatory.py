"""Cost and response times of the service on an observatory's machine.

Everything is started in an empty folder; a night's calibrations arrive, then nine science frames, then
nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import Figure
from deployments.prefect_api.connection import Connection
from imaging.simulator.parameters import NightParameters
from imaging.simulator.simulate import simulate_night

QUIET: Final = 20  # s
#: Time for which the cost of idling is measured, s.
IDLE: Final = 120
_NIRFLOW = Path(sys.executable).with_name("nirflow")


class Observatory:
    """One data folder with all services, and its response times.

    Parameters
    ----------
    folder
        Its folder, which exists.
    size
        Rows and columns of a frame.
    quiet
        Time without a frame after which a sequence is reduced, s.
    more
        Further settings, as TOML.
    """

    def __init__(self, folder: Path, size: int, *, quiet: float = QUIET, more: str = "") -> None:
        self.folder = folder
        self.raw = folder / "raw"
        self.raw.mkdir()
        (folder / "nirflow.toml").write_text(
            f'data_dir = "{folder}/data"\n[server]\nport = 0\n[watch]\nfolders = ["{self.raw}"]\n'
            f"quiet = {quiet:g}\ncheck = {{shape = [{size}, {size}]}}\n{more}"
        )

    def nirflow(self, *arguments: str) -> str:
        """Run a command and return its output."""
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("PREFECT_", "NIRFLOW_"))}
        return subprocess.run(
            [_NIRFLOW, *arguments], env=kept | {"NIRFLOW_CONFIG": str(self.folder / "nirflow.toml")},
            capture_output=True, text=True, check=True, cwd=self.folder,
        ).stdout  # fmt: skip

    def up(self) -> float:
        """Start everything and return the seconds taken."""
        began = time.monotonic()
        api_url = json.loads(self.nirflow("up", "--json"))["api_url"]
        seconds = time.monotonic() - began
        login = json.loads(self.nirflow("server", "login", "--json"))
        self.api = Connection(api_url, f"{login['user']}:{login['password']}", timeout=30)
        return seconds

    def post(self, path: str, body: Any) -> Any:
        """Send a request to the Prefect server."""
        data = self.api.post(path, json.dumps(body).encode())
        return json.loads(data) if data else None

    def idle(self) -> bool:
        """Return whether no run is active or scheduled, checked twice within some seconds to notice one in
        between.
        """
        for pause in (8, 0):
            body = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}}}
            found = self.post("/flow_runs/filter", body)
            if any("auto-scheduled" not in run["tags"] for run in found):
                return False
            time.sleep(pause)
        return True

    def arrive(self, files: Iterable[Path]) -> float:
        """Copy files to the watched folder, and return the time when the last one was there (s since 1970)."""
        for file in files:
            shutil.copy(file, self.raw)
        return time.time()

    def first_stack(self, since: float) -> dict[str, float]:
        """Wait for a stack, and return the seconds until its run was created, until its flow began, and until it was
        there.
        """
        nights = self.folder / "data" / "nights"
        wait(lambda: list(nights.glob("*/*_image.fits")), 300)
        passed = time.time() - since
        arrivals = {
            "deployments": {"name": {"any_": ["arrival", "backlog"]}},
            "sort": "START_TIME_ASC",
            "limit": 1,
        }
        (run,) = self.post("/flow_runs/filter", arrivals)
        moments = {
            name: datetime.fromisoformat(run[name]).timestamp() - since for name in ("created", "start_time")
        }
        return {"run created": moments["created"], "flow begun": moments["start_time"], "stack": passed}

    def processes(self) -> dict[int, str]:
        """Return all processes that work for the folder."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                environment = (process / "environ").read_bytes()
                line = (process / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            parent = found.get(_parent(process), "")
            if str(self.folder).encode() in environment or str(self.folder) in line or "postgres" in parent:
                found[int(process.name)] = line
        return found

    def cost(self, seconds: float) -> list[tuple[str, float, float]]:
        """Return command, percent of a core and PSS in MB of every process while idle."""
        before = {pid: _cpu(pid) for pid in self.processes()}
        began = time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - began
        return [
            (line, 100 * (_cpu(pid) - before.get(pid, 0.0)) / passed, _pss(pid))
            for pid, line in self.processes().items()
        ]


def wait(look: Callable[[], Any], seconds: float) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s in vain")
        time.sleep(0.1)


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _parent(process: Path) -> int:
    return int((_stat(int(process.name)) or ["", "0"])[1])


def _cpu(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def _pss(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


def measure_observatory(folder: Path, size: int, announce: Callable[[str], None]) -> list[Figure]:
    """Measure in an empty folder: start, reaction, and the cost of doing nothing."""
    figures: list[Figure] = []

    def note(name: str, value: float, unit: str, limit: float | None, more: str = "") -> None:
        figures.append(Figure("observatory", name, value, unit, limit=limit, note=more))
        announce(f"{name}: {value:.1f} {unit}")

    def reaction(what: str, found: dict[str, float], limit: float) -> None:
        note(f"{what}: quiet time to run", found["run created"] - QUIET, "s", 5)
        note(f"{what}: run to flow", found["flow begun"] - found["run created"], "s", None)
        note(
            f"{what}: last frame to stack",
            found["stack"],
            "s",
            limit,
            f"including the quiet time of {QUIET} s",
        )

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="observatory-", dir=folder) as name:
        night = simulate_night(Path(name) / "night", NightParameters(size=size))
        roles = {f"{frame.root}.fits" for frame in night.of_role("science")}
        science = [file for file in night.raw_paths() if file.name in roles]
        calibrations = [file for file in night.raw_paths() if file.name not in roles]
        with _observatory(Path(name) / "first", size) as place:
            note("up, the first time", place.up(), "s", 20)
            place.nirflow("down")
            note("up, again", place.up(), "s", 20)
            place.arrive(calibrations)
            time.sleep(QUIET + 20)
            wait(place.idle, 600)
            reaction("calibrations in the store", place.first_stack(place.arrive(science)), 60)
            time.sleep(20)
            wait(place.idle, 600)
            cost = place.cost(IDLE)
            note("idle, all processes", sum(one[1] for one in cost), "% of a core", 10)
            largest = sorted(cost, key=lambda one: -one[2])[:5]
            by_process = ", ".join(f"{memory:.0f} MB {_short_name(line)}" for line, _, memory in largest)
            note("idle, all processes", sum(one[2] for one in cost), "MB PSS", 900, by_process)
        with _observatory(Path(name) / "second", size) as place:
            place.up()
            reaction("empty store", place.first_stack(place.arrive([*calibrations, *science])), 120)
            wait(place.idle, 600)
            of = {"deployments": {"name": {"any_": ["calibrations"]}}}
            note("empty store: runs of calibrations", len(place.post("/flow_runs/filter", of)), "", None)
    return figures


@contextmanager
def _observatory(folder: Path, size: int) -> Iterator[Observatory]:
    folder.mkdir()
    place = Observatory(folder, size)
    try:
        yield place
    finally:
        place.nirflow("down")


def _short_name(line: str) -> str:
    """Return a short name of a process, from its command."""
    parts = (
        "deployments.prefect_server.serve",
        "prefect worker",
        "deployments.arrivals.main",
        "deployments.supervisor.supervise",
        "postgres",
    )
    return next((part for part in parts if part in line), line[:20])
