"""The frame that is being measured, noted on disk: one that ends the process twice is not measured a third time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from imaging.io.atomic import write_complete

#: Attempts to measure a frame. One more than the first: the process may have been killed for another reason.
_ATTEMPTS: Final = 2


class _Note(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    attempts: int


class FrameInHand:
    """The note of the frame in hand.

    Parameters
    ----------
    path
        The file with the note; it exists only while a frame is measured, or after the process ended with one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._left: _Note | None = _Note.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            self._left = None

    def is_fatal(self, sha256: str) -> bool:
        """Return whether measuring this frame has ended the process as often as is tried."""
        return self._left is not None and self._left.sha256 == sha256 and self._left.attempts >= _ATTEMPTS

    @contextlib.contextmanager
    def measuring(self, sha256: str) -> Iterator[None]:
        """Note a frame while it is measured in the block."""
        before = self._left.attempts if self._left is not None and self._left.sha256 == sha256 else 0
        note = _Note(sha256=sha256, attempts=before + 1)
        write_complete(self._path, [note.model_dump_json().encode()], sync=False)
        try:
            yield
        finally:
            self._path.unlink(missing_ok=True)
