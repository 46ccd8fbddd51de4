"""The output folder, before any work is done."""

from __future__ import annotations

from pathlib import Path

from imaging.errors import NirflowError


def make_writable(folder: Path) -> None:
    """Make a folder and make sure that files can be written there.

    Raises
    ------
    NirflowError
        Where that is not so.
    """
    probe = folder / ".nirflow-probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise NirflowError(
            f"The output folder {folder} cannot be written: {error.strerror or error}.",
            remedy="Choose another with --out, or change its permissions.",
        ) from error
