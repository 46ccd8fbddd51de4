"""The folders that a run writes to, before any work is done."""

from __future__ import annotations

from pathlib import Path

from imaging.errors import NirflowError


def make_writable(
    folder: Path,
    what: str = "output folder",
    remedy: str = "Choose another with --out, or change its permissions.",
) -> None:
    """Make a folder and make sure that files can be written there.

    Parameters
    ----------
    folder
        The folder.
    what, remedy
        What it is to the reader of an error, and what to do.

    Raises
    ------
    NirflowError
        Where that is not so.
    """
    probe = folder / ".nirflow-probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)  # another run may be trying the same
    except OSError as error:
        raise NirflowError(
            f"The {what} {folder} cannot be written: {error.strerror or error}.", remedy=remedy
        ) from error
