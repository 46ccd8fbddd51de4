"""No traceback for what a user or the machine did; one with a request for a report for a defect."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nirflow
from nirflow.exits import Exit
from nirflow.outermost import report

NIRFLOW = [sys.executable, "-m", "nirflow"]


def run(command: str, redirection: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", "-c", f'set -o pipefail; "$0" -m nirflow {command} {redirection}', sys.executable],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("command", ["--version", "--help", "settings", "settings --json", "select --names"])
@pytest.mark.parametrize(
    ("redirection", "code", "message"),
    [
        (">&-", Exit.OK, ""),
        ("| true", Exit.PIPE_CLOSED, ""),
        (
            "> /dev/full", Exit.FAILED,
            "Error: Standard output cannot be written: No space left on device. What the command did is done.\n",
        ),
    ],
)  # fmt: skip
def test_output_that_cannot_be_written_changes_the_code_only(
    command: str, redirection: str, code: int, message: str
) -> None:
    done = _into_closed_pipe(command) if redirection == "| true" else run(command, redirection)
    assert (done.returncode, done.stderr) == (code, message)


def _into_closed_pipe(command: str) -> subprocess.CompletedProcess[str]:
    read, write = os.pipe()
    os.close(read)
    try:
        return subprocess.run(
            [*NIRFLOW, *command.split()], stdout=write, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(write)


def test_the_code_of_a_failed_command_takes_precedence() -> None:
    assert _into_closed_pipe("inspect /nowhere").returncode == Exit.USAGE
    assert run("inspect /nowhere", "> /dev/full").returncode == Exit.USAGE


def test_an_error_of_the_machine_has_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    error = PermissionError(errno.EACCES, "Permission denied", "/data/x")
    assert report(error) == Exit.FAILED
    said = capsys.readouterr().err
    assert said.startswith("Error: /data/x: Permission denied.\nChange its permissions")
    assert "Traceback" not in said


def test_a_traceback_on_demand(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["nirflow", "--debug", "params"])
    assert report(PermissionError(errno.EACCES, "Permission denied", "/data/x")) == Exit.FAILED
    assert "PermissionError" in capsys.readouterr().err


def test_a_defect_asks_for_a_report_with_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    error = KeyError("a defect")
    error.add_note("Log: /out/nirflow.log")
    assert report(error) == Exit.FAILED
    said = capsys.readouterr().err
    assert said.startswith("KeyError: 'a defect'")
    assert "Log: /out/nirflow.log" in said
    assert said.splitlines()[-1].startswith(
        f"This is a defect of nirflow {nirflow.__version__}. Please report it "
    )


def test_a_command_converts_errors_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As raised by any package, at any place."""
    program = (
        "import sys; import nirflow.commands.parameters as p\n"
        "def full(*_, **__): raise OSError(28, 'No space left on device', '/full/file')\n"
        "p.print_parameters = full\n"
        "sys.argv = ['nirflow', 'params']; from nirflow.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == Exit.FAILED
    assert done.stderr.startswith("Error: /full/file could not be written: No space left on device (")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["params"], ["settings"], ["cal", "list", "--help"]])
def test_an_interrupt_at_any_moment_is_brief(command: list[str], tmp_path: Path) -> None:
    """During the imports too, from the first line of nirflow's own on."""
    # The program reports when it is there; Python's own start and its search for nirflow are not ours.
    # A shell's background process, which a test run may be, ignores the signal.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    program += f"import os, sys; sys.argv = ['nirflow', *{command!r}]\n"
    program += "from nirflow.__main__ import main; os.write(1, b'.'); main()"
    codes = set()
    for delay in (0.02, 0.05, 0.1, 0.2, 0.4):
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.read(1)
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
        codes.add(process.returncode)
        assert "Traceback" not in error, error
        assert process.returncode in (Exit.INTERRUPTED, Exit.OK, -signal.SIGINT), error
    assert codes & {Exit.INTERRUPTED, -signal.SIGINT}
