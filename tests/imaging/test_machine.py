"""Errors of the machine are messages with the path and a remedy; defects are not among them."""

from __future__ import annotations

import errno
import os
import pickle
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from imaging.errors import FrameError, StoreError
from imaging.machine import (
    MachineError,
    described,
    free_bytes,
    full_disk,
    machine_error,
    remedy_of,
    unwritable,
    writing_to,
)


def failure(number: int, path: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), *([path] if path else []))


def caused(error: Exception, by: BaseException) -> Exception:
    error.__cause__ = by
    return error


class DiskFull(Exception):
    """As psycopg raises it."""

    sqlstate = "53100"


@pytest.mark.parametrize(
    "error",
    [
        failure(errno.ENOSPC, "/proc/x"),
        failure(errno.EDQUOT, "/proc/x"),
        failure(errno.ENOSPC),
        OSError("65536 requested and 8400 written"),
        unwritable(Path("/proc/x"), failure(errno.ENOSPC)),
        caused(StoreError("The file cannot be written."), failure(errno.ENOSPC)),
        caused(RuntimeError("a query"), DiskFull()),
        ExceptionGroup("several", [ValueError(), failure(errno.EDQUOT)]),
    ],
)
def test_a_full_disk_is_found_behind_an_error(error: Exception) -> None:
    found = full_disk(error)
    assert found is not None
    assert full_disk(pickle.loads(pickle.dumps(found))) is not None


@pytest.mark.parametrize(
    "error", [None, failure(errno.EFBIG, "/a"), failure(errno.EROFS, "/a"), ValueError()]
)
def test_other_errors_are_no_full_disk(error: Exception | None) -> None:
    assert full_disk(error) is None


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
        (failure(errno.EISDIR, "/a"), "/a: Is a directory.", "Check that file or folder"),
        (failure(errno.ELOOP, "/a"), "/a: Too many levels of symbolic links.", "Remove the link"),
        (failure(errno.ENODEV, "/a"), "/a: No such device.", "Check the disk"),
        (failure(errno.ENOTCONN, "/a"), "/a: Transport endpoint is not connected.", "Mount the file system"),
        (failure(errno.ECONNREFUSED), "A connection failed: Connection refused.", "Check the address"),
        (failure(errno.EPIPE), "A connection failed: Broken pipe.", "Check the address"),
        (failure(errno.EHOSTUNREACH), "A connection failed: No route to host.", "Check the address"),
        (failure(errno.ETIMEDOUT, "/a"), "/a: Connection timed out.", "the network"),
        (TimeoutError(), "A connection failed: timed out.", "the network"),
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "A connection failed: Name or service not known.",
            "Check the address",
        ),
        (ssl.SSLError(1, "certificate verify failed"), "A connection failed: certificate", "the network"),
        (failure(errno.EADDRINUSE), "Address already in use.", "another port"),
        (MemoryError(), "The machine does not have enough memory.", "--memory"),
        (RuntimeError("can't start new thread"), "The system cannot start another thread.", "ulimit -u"),
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


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"), KeyError("x"), RuntimeError("x"), AssertionError(),
        failure(errno.ENOENT), failure(errno.ENOENT, "/a"), failure(errno.EEXIST, "/a"), failure(errno.EINVAL, "/a"),
        failure(errno.EBADF), failure(errno.ENOTDIR), OSError("x"),
    ],
)  # fmt: skip
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


def test_a_failed_connection_is_found_behind_the_errors_of_libraries() -> None:
    refused, missing = failure(errno.ECONNREFUSED), failure(errno.ENOENT, "/a")
    error = OSError("All connection attempts failed")  # of a library, without a number
    error.__cause__ = ExceptionGroup("", [refused, failure(errno.EHOSTUNREACH)])
    assert "Connection refused" in str(machine_error(error))
    assert machine_error(ExceptionGroup("", [refused, missing])) is None


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
