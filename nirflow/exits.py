"""Exit codes of the command line, and the error for incorrect usage."""

from __future__ import annotations

from enum import IntEnum

from imaging.errors import NirflowError


class Exit(IntEnum):
    """The exit codes of ``nirflow``."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOTHING = 3
    PARTIAL = 4
    INTERRUPTED = 130
    PIPE_CLOSED = 141


MEANINGS = {
    Exit.OK: "success",
    Exit.FAILED: "stopped by an error",
    Exit.USAGE: "incorrect usage",
    Exit.NOTHING: "nothing to do: no frame or product matches",
    Exit.PARTIAL: "done, but something is broken or was left out, as the table shows",
    Exit.INTERRUPTED: "interrupted",
    Exit.PIPE_CLOSED: "done, but the reader of the output closed it",
}


class UsageError(NirflowError):
    """An invalid command, option or expression."""
