"""Checks of the folders that a run writes to, before any work is done."""

from __future__ import annotations

from pathlib import Path

from imaging.errors import NirflowError


def make_writable(
    folder: Path,
    what: str = "output folder",
    remedy: str = "Choose another with --out, or change its permissions.",
) -> None:
    """Create a folder and make sure that files can be written to it.

    Parameters
    ----------
    folder
        The folder.
    what, remedy
        Its name in an error message, and what to do.

    Raises
    ------
    NirflowError
        If it cannot be created or written to.
    """
    probe = folder / ".nirflow-probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)  # another run may be doing the same
    except OSError as error:
        raise NirflowError(
            f"The {what} {folder} cannot be written to: {error.strerror or error}.", remedy=remedy
        ) from error
