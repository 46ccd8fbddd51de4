"""The script of Slurm: checked, and run with a program in place of the worker."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from waiting import PATIENCE, wait_until

from benchmarks.containers.workload import ROOT

SCRIPT = ROOT / "deployments" / "slurm" / "worker.sh"
#: In place of python: writes its variables and arguments, then waits for SIGTERM like a worker at work.
WORKER = """\
#!/bin/bash
env > "$FOUND.part"
echo "ARGUMENTS=$*" >> "$FOUND.part"
touch "$NIRFLOW_DATA_DIR/plane"
trap 'echo stopped >> "$FOUND"; exit 3' TERM
mv "$FOUND.part" "$FOUND"
[ -z "${ENDS:-}" ] || exit "$ENDS"
while :; do read -r -t 0.1 <> <(:) || :; done
"""


def variables(folder: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"], "NIRFLOW_BIN": str(folder / "bin"), "PREFECT_API_URL": "http://server:4210/api",
        "NIRFLOW_SECRETS_DIR": str(folder), "SLURM_JOB_ID": "17", "SLURM_CPUS_PER_TASK": "4", "TMPDIR": str(folder),
        "FOUND": str(folder / "found"),
    } | more  # fmt: skip


@contextmanager
def job(folder: Path, **more: str) -> Iterator[subprocess.Popen[str]]:
    (folder / "bin").mkdir()
    (folder / "bin" / "python").write_text(WORKER)
    (folder / "bin" / "python").chmod(0o755)
    process = subprocess.Popen(
        ["bash", str(SCRIPT)],
        env=variables(folder, **more),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_the_script_is_clean() -> None:
    checker = Path(sys.executable).with_name("shellcheck")
    for command in (["bash", "-n", str(SCRIPT)], [str(checker), str(SCRIPT)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert os.access(SCRIPT, os.X_OK)


def test_the_worker_gets_what_the_job_has_and_stops_with_it(tmp_path: Path) -> None:
    found = tmp_path / "found"
    with job(tmp_path) as process:
        wait_until(found.is_file, "the worker's start")
        given = dict(line.split("=", 1) for line in found.read_text().splitlines() if "=" in line)
        data = Path(given["NIRFLOW_DATA_DIR"])
        assert data == tmp_path / "nirflow-17"
        assert data.stat().st_mode & 0o777 == 0o700
        # As by --signal=B:TERM: only the script gets the signal.
        process.terminate()
        assert process.wait(PATIENCE) == 3
    assert found.read_text().endswith("stopped\n")
    assert not data.exists()
    wanted = {
        "ARGUMENTS": "-m deployments.supervisor.command", "NIRFLOW_WORKER_NAME": "slurm-17", "NIRFLOW_WORKER_RUNS": "1",
        "NIRFLOW_WORKER_THREADS": "4", "PREFECT_API_URL": "http://server:4210/api",
    }  # fmt: skip
    assert wanted.items() <= given.items()
    # nirflow refuses variables with its prefix that are no settings.
    assert "NIRFLOW_BIN" not in given


def test_a_worker_that_fails_fails_the_job(tmp_path: Path) -> None:
    with job(tmp_path, ENDS="1") as process:
        assert process.wait(PATIENCE) == 1
    assert not (tmp_path / "nirflow-17").exists()


@pytest.mark.parametrize("name", ["NIRFLOW_BIN", "PREFECT_API_URL", "NIRFLOW_SECRETS_DIR"])
def test_a_missing_variable_is_named(name: str, tmp_path: Path) -> None:
    given = variables(tmp_path)
    del given[name]
    done = subprocess.run(["bash", str(SCRIPT)], env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert name in done.stderr
    assert f"export {name}=" in (ROOT / "docs" / "scaling.md").read_text()


def test_the_limits_of_the_job_are_those_of_a_container() -> None:
    options = dict(re.findall(r"(?m)^#SBATCH --([\w-]+)=(\S+)$", SCRIPT.read_text()))
    assert options["mem"] == "6G"
    assert options["signal"] == "B:TERM@120"
