"""The judge: from a complete file to a verdict, one frame at a time; no frame can stop it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from deployments.arrivals.folders import shown
from deployments.arrivals.landing import Signature
from deployments.judging.frame_in_hand import FrameInHand
from deployments.judging.store_calibrations import StoreCalibrations
from imaging.errors import FrameError, MissingCalibrationError, NirflowError
from imaging.frames.facts import FrameFacts
from imaging.frames.find_files import CheckParameters
from imaging.frames.sequences import Sequence as Exposures
from imaging.io.compressed import compression, unpack
from imaging.io.examine import examine
from imaging.io.raw_file import RawFile, open_raw
from imaging.quick_look.frame_figures import FrameFigures
from imaging.quick_look.judge_frame import judge_frame
from imaging.quick_look.measure_frame import Calibrations, measure_frame
from imaging.quick_look.night_record import NightRecord, read_record, write_record

log = logging.getLogger(__name__)

#: Nights whose records are kept in memory.
_NIGHTS: Final = 4


@dataclass(frozen=True)
class Refused:
    """A file that could not be judged, and why."""

    name: str
    reason: str


class Judge:
    """A judge of frames.

    Parameters
    ----------
    calibrations
        Where calibrations come from.
    unpacked
        Folder where compressed files are unpacked.
    check
        Shapes that a frame may have.
    nights
        Folder of the nights with their records; None: nothing is written.
    in_hand
        The note of the frame that is being measured; None: none is kept.
    threads
        Threads that measure a frame.
    now
        Returns the current time, UTC.
    """

    def __init__(
        self,
        calibrations: StoreCalibrations,
        unpacked: Path,
        check: CheckParameters,
        *,
        nights: Path | None = None,
        in_hand: FrameInHand | None = None,
        threads: int | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._calibrations, self._unpacked, self._check = calibrations, unpacked, check
        self._folder, self._threads, self._now = nights, threads, now
        self._in_hand = in_hand
        self._records: dict[date, NightRecord] = {}

    def take(self, path: Path, seen: Signature) -> FrameFigures | Refused | None:
        """Judge a complete file.

        Returns
        -------
        FrameFigures, Refused or None
            None for a file that is not to be judged: a product, a frame of another instrument, or one that was judged
            before.
        """
        try:
            return self._taken(path, seen)
        except FrameError as error:
            return Refused(path.name, f"{error.reason}. {error.remedy}".rstrip())
        except (NirflowError, OSError) as error:
            return Refused(path.name, str(error))
        except Exception as error:  # no frame may stop the judge, whatever it raises
            log.exception("%s cannot be judged", shown(str(path)))
            return Refused(path.name, f"{type(error).__name__}: {error}")

    def record_of(self, night: date) -> NightRecord:
        """Return the record of a night."""
        if night not in self._records:
            while len(self._records) >= _NIGHTS:
                self._records.pop(next(iter(self._records)))
            empty = NightRecord(night=night)
            self._records[night] = (
                empty if self._folder is None else read_record(self._folder / str(night), night)
            )
        return self._records[night]

    def _taken(self, path: Path, seen: Signature) -> FrameFigures | Refused | None:
        headers = examine(path, self._check, pixels=False)
        if headers.verdict in ("product", "foreign"):
            log.debug("%s is not judged: %s", shown(str(path)), headers.reason)
            return None
        facts = headers.facts
        if headers.broken or facts is None:
            return Refused(path.name, f"{headers.reason}. {headers.remedy}".rstrip())
        plain, sha256 = path, None
        if compression(path):
            plain, sha256 = unpack(path, self._unpacked)
        with open_raw(plain, name=facts.name, shape=self._check.shape, sha256=sha256) as raw:
            record = self.record_of(facts.night)
            if record.has(raw.sha256):
                return None
            if self._in_hand is None:
                judged = self._judged(raw, record)
            elif self._in_hand.is_fatal(raw.sha256):
                judged = _unmeasured(raw.facts, raw.sha256, "measuring it ended the judge twice")
            else:
                with self._in_hand.measuring(raw.sha256):
                    judged = self._judged(raw, record)
        note = headers.reason if headers.verdict == "excluded" else ""
        age = max(time.time() - seen.changed_ns / 1e9, 0.0)
        judged = judged.model_copy(
            update={"note": note, "measured_at": self._now(), "seconds": round(age, 3)}
        )
        self._records[facts.night] = kept = record.with_frame(judged, self._now())
        if self._folder is not None:
            try:
                write_record(self._folder, kept)
            except (NirflowError, OSError) as error:
                log.error("The record of the night %s cannot be written: %s", facts.night, error)
        return judged

    def _judged(self, raw: RawFile, record: NightRecord) -> FrameFigures:
        calibrations = self._calibrations.of(raw.facts)
        try:
            try:
                measured = measure_frame(raw, calibrations, threads=self._threads)
            except MissingCalibrationError as error:
                calibrations = Calibrations(missing=error.message)
                measured = measure_frame(raw, calibrations, threads=self._threads)
        except FrameError as error:
            return _unmeasured(raw.facts, raw.sha256, error.reason)
        sequence = Exposures.of(raw.facts)
        earlier = record.of_group(sequence.name) if sequence is not None else ()
        return judge_frame(
            measured, earlier, sha256=raw.sha256, calibrations=calibrations.names, uncalibrated=calibrations.missing
        )  # fmt: skip


def _unmeasured(facts: FrameFacts, sha256: str, problem: str) -> FrameFigures:
    sequence = Exposures.of(facts)
    return FrameFigures(
        name=facts.name, sha256=sha256, instrument=facts.instrument, kind=facts.kind, filter=facts.filter,
        group=sequence.name if sequence is not None else "", label=sequence.label if sequence is not None else "",
        night=facts.night, started=facts.started, exposure=facts.exposure, airmass=facts.airmass, problem=problem,
    )  # fmt: skip
