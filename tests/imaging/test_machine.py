"""Errors of the machine are messages with the path and a remedy; defects are not among them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from imaging.errors import FrameError
from imaging.machine import (
    MachineError,
    described,
    free_bytes,
    machine_error,
    remedy_of,
    unwritable,
    writing_to,
)


def failure(number: int, path: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), *([path] if path else []))


@pytest.mark.parametrize(
    ("error", "message", "remedy"),
    [
        (
            failure(errno.ENOSPC, "/proc/x"),
            "/proc/x could not be written: No space left on device (",
            "Free space",
        ),
        (
            failure(errno.EDQUOT, "/proc/x"),
            "/proc/x could not be written: Disk quota exceeded (",
            "Free space",
        ),
        (failure(errno.EROFS, "/a"), "/a: Read-only file system.", "Mount it for writing"),
        (failure(errno.EFBIG, "/a"), "/a: File too large.", "ulimit -f"),
        (failure(errno.EMFILE, "/a"), "/a: Too many open files.", "ulimit -n"),
        (failure(errno.EACCES, "/a"), "/a: Permission denied.", "permissions"),
        (failure(errno.ENOLCK), "No locks available.", "file system with locks"),
        (failure(errno.EIO, "/a"), "/a: Input/output error.", "Check the disk"),
        (failure(errno.ENOTDIR, "/a"), "/a: Not a directory.", "Check that file or folder"),
        (MemoryError(), "The machine has not enough memory.", "--memory"),
        (RuntimeError("can't start new thread"), "The system starts no further thread.", "ulimit -u"),
        (RuntimeError("Could not determine home directory."), "The home folder that ~ stands for", "in full"),
        (OSError("65536 requested and 8400 written"), "written completely", "Free space"),
    ],
)
def test_a_failure_of_the_machine_has_a_message_and_a_remedy(
    error: Exception, message: str, remedy: str
) -> None:
    found = machine_error(error)
    assert isinstance(found, MachineError)
    assert message in found.message
    assert remedy in found.remedy
    assert described(error) == str(found)


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), RuntimeError("x"), AssertionError()])
def test_a_defect_is_no_failure_of_the_machine(error: Exception) -> None:
    assert machine_error(error) is None
    assert described(error) == f"{type(error).__name__}: {error}"


def test_the_cause_of_an_error_counts() -> None:
    own = FrameError("a.fits", "is bad")
    assert machine_error(own) is own
    for cause, expected in ((failure(errno.EROFS, "/a"), "/a: Read-only"), (own, "a.fits: is bad")):
        error = ValueError("a library's")
        error.__cause__ = cause
        assert expected in str(machine_error(error))


def test_a_full_disk_is_described_with_what_is_needed_and_free(tmp_path: Path) -> None:
    target = tmp_path / "no" / "such" / "file"
    with pytest.raises(MachineError) as caught, writing_to(target, 12_300_000):
        raise failure(errno.ENOSPC)
    free = free_bytes(target)
    assert free is not None
    assert f"{target} could not be written: No space left on device (12.3 MB needed, " in caught.value.message
    assert caught.value.message.endswith("free).")
    assert isinstance(caught.value.__cause__, OSError)


def test_a_disk_without_entries_for_files_is_described_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    values = list(os.statvfs("/"))
    values[7] = 3  # f_favail
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(values))
    assert "and entries of 3 files free" in unwritable(Path("/a"), failure(errno.ENOSPC)).message


def test_a_missing_permission_has_the_remedy_of_the_caller() -> None:
    assert remedy_of(failure(errno.EACCES), "Ask.") == "Ask."
    assert "Free space" in remedy_of(failure(errno.ENOSPC), "Ask.")


def test_a_working_folder_that_was_removed_is_named(tmp_path: Path) -> None:
    program = (
        "import os, sys; os.rmdir(os.getcwd()); from imaging.machine import described\ntry: os.getcwd()\n"
    )
    program += "except OSError as error: print(described(error))"
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=gone, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("The working folder no longer exists."), done.stderr
