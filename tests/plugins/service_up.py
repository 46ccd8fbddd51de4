"""The complete service, as in an observatory, in its own folder, with requests and waiting for tests.

Loaded by name from tests/conftest.py. Nothing here imports Prefect: requests are sent over HTTP.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from waiting import PATIENCE, wait_until

T = TypeVar("T")

#: Time without a frame after which a sequence is reduced, s.
_QUIET = 10
_NIRFLOW = Path(sys.executable).with_name("nirflow")
_TOML = """
data_dir = "{folder}/data"
[server]
port = 0
[watch]
folders = ["{folder}/raw"]
quiet = {quiet}
settle = 0.2
check = {{shape = [{size}, {size}]}}
[nightly]
calibration_days = 30
"""


@dataclass
class Service:
    """One data folder with all services running.

    Attributes
    ----------
    folder
        Contains ``raw``, ``data`` and the settings file.
    """

    folder: Path
    state: dict[str, Any] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)

    @property
    def raw(self) -> Path:
        return self.folder / "raw"

    @property
    def nights(self) -> Path:
        return self.folder / "data" / "nights"

    def nirflow(self, *arguments: object, code: int | None = 0) -> str:
        """Run a command on this folder and return its standard output."""
        done = subprocess.run(
            [_NIRFLOW, *map(str, arguments)], env=self.environment(), capture_output=True, text=True,
            timeout=PATIENCE, check=False, cwd=self.folder,
        )  # fmt: skip
        assert code is None or done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def environment(self) -> dict[str, str]:
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("PREFECT_", "NIRFLOW_"))}
        return kept | {"NIRFLOW_CONFIG": str(self.folder / "nirflow.toml")}

    def up(self) -> dict[str, Any]:
        self.state = json.loads(self.nirflow("up", "--json"))
        return self.state

    def pid(self, part: str) -> int:
        """Return the process id of a part, as currently known to the supervisor."""
        return int(self.part(part)["pid"])

    def part(self, name: str) -> dict[str, Any]:
        reported = json.loads(self.nirflow("status", "--json", code=None))
        found: dict[str, Any] = next(part for part in reported["parts"] if part["name"] == name)
        return found

    def flow_processes(self, worker: int) -> list[int]:
        """Return the processes of flow runs under this service's worker.

        Its process id is asked for before a run begins: on a busy machine the answer may take longer than the run.
        """
        return [pid for pid in children(worker) if "prefect.engine" in command(pid)]

    # --- the Prefect server

    @property
    def auth(self) -> str:
        """USER:PASSWORD of the server, as created at the first start."""
        return (self.folder / "data" / "prefect" / "password").read_text().strip()

    def post(self, path: str, body: Any) -> Any:
        return self._ask(path, json.dumps(body).encode())

    def get(self, path: str) -> Any:
        return self._ask(path, None)

    def _ask(self, path: str, body: bytes | None) -> Any:
        credentials = base64.b64encode(self.auth.encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {credentials}"}
        request = urllib.request.Request(f"{self.state['ui_url']}/api{path}", body, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)

    def states(self, run: str) -> list[dict[str, Any]]:
        """Return all states of a run, in order of time."""
        found: list[dict[str, Any]] = self.get(f"/flow_run_states/?flow_run_id={run}")
        return found

    def runs(self, *names: str) -> list[dict[str, Any]]:
        """Return unscheduled flow runs, the earliest first, of the named deployments or of all."""
        body: dict[str, Any] = {"sort": "EXPECTED_START_TIME_ASC"}
        if names:
            body["deployments"] = {"name": {"any_": list(names)}}
        found = self.post("/flow_runs/filter", body)
        return [run for run in found if "auto-scheduled" not in run["tags"]]

    def ask(self, flow: str, deployment: str, **request: Any) -> str:
        """Request a run and return its id."""
        found = self.post("/deployments/filter", {"deployments": {"name": {"any_": [deployment]}}})
        (one,) = found
        made = self.post(
            f"/deployments/{one['id']}/create_flow_run",
            {"parameters": {"request": request}, "state": {"type": "SCHEDULED"}},
        )
        assert flow
        return str(made["id"])

    def ended(self, run: str) -> dict[str, Any]:
        """Wait for a run to end and return it."""

        def look() -> dict[str, Any] | None:
            (found,) = self.post("/flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
            final = found["state_type"] in ("COMPLETED", "FAILED", "CANCELLED") or (
                found["state_type"] == "CRASHED" and found["run_count"] > 1
            )
            return found if final else None

        return wait_until(look, f"run {run} to end", pause=0.3, ignored=(OSError,))

    def running(self, run: str) -> None:
        """Wait until a run is executing, by the worker's log: the server of a busy machine responds too
        late.
        """
        log = self.folder / "data" / "logs" / "worker.log"

        def look() -> bool:
            _, handed_out, since = log.read_text(errors="replace").partition(f"submitting flow run '{run}'")
            return bool(handed_out) and "Finished in state Completed()" in since  # its first step

        wait_until(look, f"run {run} to begin", pause=0.05)

    def idle(self) -> list[dict[str, Any]]:
        """Wait until the dropped frames have started runs and all of them have ended; return all runs."""
        quiet_since: list[float] = []

        def look() -> bool:
            runs = self.runs()
            states = {run["state_type"] for run in runs}
            new = {run["id"] for run in runs} - self.known
            if not new or states & {"SCHEDULED", "PENDING", "RUNNING", "CANCELLING"}:
                quiet_since.clear()
                return False
            quiet_since.append(time.monotonic())
            return time.monotonic() - quiet_since[0] > _QUIET + 4

        wait_until(look, "everything to be done", pause=0.3, ignored=(OSError,))
        return self.runs()

    def drop(self, files: Iterable[Path]) -> None:
        """Let frames arrive as written by a telescope's computer: under another name, then renamed."""
        with contextlib.suppress(OSError):  # while the service is down
            self.known = {run["id"] for run in self.runs()}
        for file in files:
            aside = self.raw / f".{file.name}.part"
            shutil.copyfile(file, aside)
            aside.rename(self.raw / file.name)


def children(pid: int) -> list[int]:
    """Return the descendants of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *children(child)]
    return found


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except FileNotFoundError:
        return ""


def of_folder(folder: Path) -> list[str]:
    """Return the commands of all processes that work for a data folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        line = command(int(process.name))
        if str(folder).encode() in environment or str(folder) in line:
            found.append(line)
    return found


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Yield the service running in a new folder; it is stopped after the module's tests."""
    folder = tmp_path_factory.mktemp("observatory")
    (folder / "raw").mkdir()
    (folder / "nirflow.toml").write_text(_TOML.format(folder=folder, quiet=_QUIET, size=384))
    one = Service(folder)
    try:
        one.up()
        yield one
    finally:
        one.nirflow("down", code=None)
