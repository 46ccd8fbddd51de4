"""The raw frames of a store: which were seen, which are usable, and what users decided about them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection

from calib_store.model.records import Frame, FrameRecord, IngestReport, KnownFile, StatusChange
from calib_store.tables import frames, status, succession
from calib_store.tables.database import Database
from calib_store.tables.locks import changes_alone
from imaging.errors import StoreError
from imaging.frames.facts import FrameFacts
from imaging.frames.nights import nights_between, span_anywhere
from imaging.listed import listed

if TYPE_CHECKING:
    from imaging.pixels.bright_pixels import BrightPixels


class RawFrames:
    """The raw frames of one database; `calib_store.store.Store.frames`.

    Parameters
    ----------
    database
        Where the rows are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def known_files(self, paths: Iterable[Path]) -> dict[Path, KnownFile]:
        """Return size, date (ns) and sha256 of the files ingested before, as they were at that time."""
        wanted = list(paths)
        return self._database.run(lambda connection: frames.known_files(connection, wanted))

    def facts_of(self, sha256s: Iterable[str]) -> dict[str, FrameFacts]:
        """Return the facts of the usable frames among ``sha256s``, without opening a file."""
        wanted = list(sha256s)
        return self._database.run(lambda connection: frames.facts_of(connection, wanted))

    def in_quarantine(self, sha256s: Iterable[str]) -> set[str]:
        """Return those of ``sha256s`` whose frames are in quarantine."""
        wanted = list(sha256s)
        found = self._database.run(lambda connection: frames.usable_of(connection, wanted))
        return {sha256 for sha256, usable in found.items() if not usable}

    def ingest(self, records: Sequence[FrameRecord]) -> IngestReport:
        """Record raw frames in one transaction and a few statements, whatever their number.

        The same bytes under several names are one frame with several files. The same name with different bytes is a
        different frame. The report names both. If a known frame enters or leaves quarantine, the products made with it
        are examined again.
        """

        def write(connection: Connection) -> IngestReport:
            known = frames.usable_of(connection, (record.sha256 for record in records))
            report = frames.ingest(connection, records)
            now = frames.usable_of(connection, known)
            changed = [sha256 for sha256, usable in known.items() if now[sha256] is not usable]
            if changed:
                changes_alone(connection)
            for sha256 in changed:
                succession.reexamine(connection, succession.descendants_and(connection, sha256))
            return report

        return self._database.run(write)

    def exposed(
        self, facts: FrameFacts, first: datetime, last: datetime, *, as_of: datetime | None = None
    ) -> tuple[frames.Exposed, ...]:
        """Return exposures with bright pixels, on the array of a frame, that ended between two times (both included).

        Frames of all kinds are among them, used or not; those whose time is unknown are not.
        """
        return self._database.run(lambda connection: frames.exposed(connection, facts, first, last, as_of))

    def bright_pixels(self, sha256s: Iterable[str]) -> dict[str, BrightPixels]:
        """Return the bright pixels of frames, as far as they have any.

        Raises
        ------
        StoreError
            If a record is damaged.
        """
        from imaging.pixels.bright_pixels import BrightPixels  # late: numpy

        wanted = list(sha256s)
        found = self._database.run(lambda connection: frames.bright_pixels_of(connection, wanted))
        try:
            return {sha256: BrightPixels.from_bytes(table) for sha256, table in found.items()}
        except ValueError as error:
            raise StoreError(
                f"The store's record of bright pixels cannot be read: {error}.",
                remedy="Restore the database from a backup, or reduce with detrend.persistence=none.",
            ) from error

    def distrust(self, path: Path) -> None:
        """Discard size and date of a file whose bytes have changed, so that the next survey reads it again."""
        self._database.run(lambda connection: frames.distrust(connection, path))

    def note(self, described: Sequence[frames.Description]) -> int:
        """Record frames that another store knows, without a file here, and return how many are new."""
        return self._database.run(lambda connection: frames.note(connection, described))

    def header_of(self, sha256: str) -> dict[str, Any]:
        """Return the recorded primary header of a frame."""
        return self._database.run(lambda connection: frames.header_of(connection, sha256))

    def with_sha256s(self, sha256s: Iterable[str]) -> dict[str, Frame]:
        """Return the frames of those sha256 that the store knows."""
        wanted = list(sha256s)
        return self._database.run(lambda connection: frames.with_sha256s(connection, wanted))

    def of_nights(self, first: date, last: date, *, kinds: Sequence[str] = ()) -> tuple[Frame, ...]:
        """Return frames of the nights from ``first`` to ``last``, both included, in order of time.

        Parameters
        ----------
        first, last
            Nights as the observatory of each frame names them.
        kinds
            Only of these kinds (``dark``, ``flat``, ``object``).
        """
        begins, ends = span_anywhere(first, last)
        found = self._database.run(lambda connection: frames.started_between(connection, begins, ends, kinds))
        return tuple(
            frame for frame in found if frame.facts is not None and first <= frame.facts.night <= last
        )

    def refused_of_nights(self, first: date, last: date) -> tuple[Frame, ...]:
        """Return files of the nights, by their names, of which only the reason for their rejection is known.

        Gemini's names begin with the night: S20131121S0075. Files that were replaced are not among them.
        """
        nights = nights_between(first, last)
        return self._database.run(lambda connection: frames.refused_of(connection, nights))

    def named(self, name: str) -> tuple[Frame, ...]:
        """Return at most 20 frames that match ``name``: a file name, or first digits (6 or more) of a sha256."""
        return self._database.run(lambda connection: frames.named(connection, name))

    def get(self, name: str) -> Frame | None:
        """Return the frame with that file name or first digits of its sha256, or None if it is unknown.

        Raises
        ------
        StoreError
            If several match; the message names them.
        """
        found = self.named(name)
        if len(found) > 1:
            several = listed((f"{f.sha256[:12]} (seen {f.added_at:%Y-%m-%d %H:%M})" for f in found), 5)
            raise StoreError(
                f"{name!r} may be any of {len(found)} frames: {several}.", remedy="Give the sha256."
            )
        return found[0] if found else None

    def rejections(self, sha256s: Iterable[str], *, as_of: datetime | None = None) -> dict[str, StatusChange]:
        """Return the frames that a user rejected, with that decision; optionally as of an earlier time."""
        wanted = list(sha256s)
        return self._database.run(lambda connection: frames.rejections(connection, wanted, as_of))

    def set_status(
        self, frame: Frame, status_: Literal["rejected", "usable"], *, author: str, reason: str
    ) -> Frame:
        """Reject a frame, or make it usable again."""
        change = uuid.uuid4()
        self._database.run(
            lambda connection: status.set_frame_status(
                connection, frame, status_, author=author, reason=reason, change=change
            )
        )
        return self.with_sha256s([frame.sha256])[frame.sha256]

    def history(self, frame: Frame) -> tuple[StatusChange, ...]:
        """Return the users' decisions about a frame, earliest first."""
        return self._database.run(lambda connection: status.frame_status_history(connection, frame.sha256))
