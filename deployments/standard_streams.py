"""Standard output and error that never raise: a closed pipe or a full disk is noted, and the program continues.

What a command did is done, whoever reads its report. So a failed write must not become an error in the middle of it:
what cannot be written is dropped, and the command's exit code shows the loss. A closed pipe takes nothing any more; a
full disk may have room again, and a service that writes its log there for months then notes that a part is missing.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import Final

_OUT, _ERR = 1, 2
#: Errors of a disk that is full, or of a quota that is used up.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_GAP: Final = b"\n(Output is missing here: the disk was full.)\n"


class Stream(io.RawIOBase):
    """The raw layer of a standard stream, which drops what it cannot write.

    Attributes
    ----------
    failure
        The error of the first write that failed; None so far.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.failure: OSError | None = None
        self._closed_by_reader = self._gap = False

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor, which others may write to."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, data: object, /) -> int:
        """Write all bytes, or drop them; return their number."""
        new = memoryview(data).cast("B")  # type: ignore[arg-type]  # any buffer
        if self._closed_by_reader:
            return len(new)
        try:
            if self._gap:
                self._write_all(memoryview(_GAP))
                self._gap = False
            self._write_all(new)
        except OSError as error:
            self.failure = self.failure or error
            if error.errno in _FULL:
                self._gap = True
            else:
                self._closed_by_reader = True
                _replace_by_null(self._descriptor)
        return len(new)

    def _write_all(self, left: memoryview) -> None:
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # its other end has made it non-blocking
                select.select([], [self._descriptor], [])


_guarded: Final[dict[int, Stream]] = {}


def guard_standard_streams() -> None:
    """Make standard output and error of this process streams that never raise; call it first in a program.

    A stream that was closed before the start becomes the null device, so that no file that is opened later takes its
    number and receives output.
    """
    if _guarded:
        return
    for descriptor in (0, _OUT, _ERR):
        try:
            os.fstat(descriptor)
        except OSError:
            _replace_by_null(descriptor)
    for descriptor, name in ((_OUT, "stdout"), (_ERR, "stderr")):
        old = getattr(sys, name)
        # The interpreter's choice of encoding holds, also where it had no stream.
        encoding = getattr(old, "encoding", None) or "utf-8"
        raw = _guarded[descriptor] = Stream(descriptor)
        by_line = descriptor == _ERR or raw.isatty()
        buffered = io.BufferedWriter(raw)
        new = io.TextIOWrapper(buffered, encoding=encoding, errors="backslashreplace", line_buffering=by_line)
        if old is not None:
            old.flush()
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


def output_failure() -> OSError | None:
    """Write what is left to standard output, and return the error that stopped it; None if all was written."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
    raw = _guarded.get(_OUT)
    return raw.failure if raw is not None else None


def was_closed(failure: OSError) -> bool:
    """Return whether a reader closed the pipe on purpose, as ``head`` does."""
    return failure.errno in (errno.EPIPE, errno.ECONNRESET)


def _replace_by_null(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null != descriptor:
        os.dup2(null, descriptor, inheritable=True)
        os.close(null)
    else:
        os.set_inheritable(descriptor, True)
