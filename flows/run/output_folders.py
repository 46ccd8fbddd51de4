"""Checks of the folders that a run writes to, before any work is done."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from uuid import uuid4

from imaging.errors import NirflowError
from imaging.machine import reason, remedy_of

#: A disk without room still takes an empty file.
_PROBE: Final = bytes(4096)


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
    probe = folder / f".nirflow-probe-{uuid4().hex[:12]}"  # another run may be doing the same
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(_PROBE)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise NirflowError(
            f"The {what} {folder} cannot be written to: {reason(folder, error)}.",
            remedy=remedy_of(error, remedy),
        ) from error
