"""Exit codes of the command line, and the error of a command that was written wrongly."""

from __future__ import annotations

from enum import IntEnum

from imaging.errors import NirflowError


class Exit(IntEnum):
    """What the exit code of ``nirflow`` means."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOTHING = 3
    PARTIAL = 4
    INTERRUPTED = 130


MEANINGS = {
    Exit.OK: "all well",
    Exit.FAILED: "stopped by an error",
    Exit.USAGE: "the command was written wrongly",
    Exit.NOTHING: "nothing to do: no frame or product fits",
    Exit.PARTIAL: "done, but something is broken or was left out; the table says what",
    Exit.INTERRUPTED: "interrupted",
}


class UsageError(NirflowError):
    """A command, option or expression that was written wrongly."""
