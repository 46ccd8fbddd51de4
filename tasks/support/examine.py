"""A look at one raw file: what it is and whether it can be used. No orchestrator is needed for it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from astropy.io.fits import VerifyError

from calib_store.model.records import FrameRecord, KnownFile
from imaging.errors import FrameError, NirflowError
from imaging.frames.facts import FrameFacts, facts_from_headers, processing
from imaging.frames.find_files import CheckParameters
from imaging.instruments.detector import wanted_shape
from imaging.io.compressed import compression, digest_as_is, unpack
from imaging.io.raw_file import UNFORESEEN, check_pixels, check_shape, open_raw, read_headers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Looked:
    """What a look at one file gave: a usable frame, or the reason why it is none.

    Attributes
    ----------
    path
        The file.
    plain
        A plain FITS file of a usable frame: the file itself or its unpacked copy; None for any other.
    record
        What the store is to note; with the reason in ``quarantine`` where the frame must not be used, and
        without facts where its header does not give them. None for a product, for a frame of another
        instrument, and where the store knows the frame as fit and only this check refuses it.
    reason, remedy
        Why the frame is not usable, and what can be done.
    expected
        The reason is no fault: an acquisition frame, a spectrum.
    passing
        The file could not be read, which may pass: another look may give something else.
    """

    path: Path
    plain: Path | None = None
    record: FrameRecord | None = None
    reason: str = ""
    remedy: str = ""
    expected: bool = False
    passing: bool = False


def look_at(
    path: Path,
    known: KnownFile | None,
    check: CheckParameters,
    unpacked: Path,
    known_facts: FrameFacts | None = None,
) -> Looked:
    """Look at a file once: headers, bytes (hashed), pixels.

    What makes the file unusable is an answer, not an error.

    Parameters
    ----------
    path
        The file.
    known
        The file as the store saw it fit before; where its size and date, and what its headers say, are still the
        same, its bytes and pixels are not looked at again.
    check
        What a frame has to be.
    unpacked
        Folder of unpacked files.
    known_facts
        What the store knows of the frame in that file; must be given with ``known``.

    Raises
    ------
    NirflowError
        Where ``unpacked`` cannot be written.
    """
    record: FrameRecord | None = None
    primary: Mapping[str, Any] | None = None
    facts: FrameFacts | None = None
    same = False

    def refused(reason: str, remedy: str = "", keyword: str | None = None) -> Looked:
        # A watched folder may get products, and the frames of all instruments: neither is ours to judge.
        product = primary is not None and processing(primary)[0]
        if same or product or keyword == "INSTRUME":
            noted = None
        elif record is not None:
            noted = replace(record, quarantine=reason)
        else:
            noted = _unread(path, primary, facts, reason, unpacked)
        return Looked(path, record=noted, reason=reason, remedy=remedy)

    try:
        stat = path.stat()
        same = known is not None and (known.size, known.mtime_ns) == (stat.st_size, stat.st_mtime_ns)
        primary, extension = read_headers(path)
        facts = facts_from_headers(primary, extension, name=_name(path))
        # A file may be replaced and keep its size and date; the name of a copy is its own.
        same = (
            same and known_facts is not None and facts == known_facts.model_copy(update={"name": facts.name})
        )
        if not facts.processed:  # a product's shape is not what is wrong with it
            wanted = wanted_shape(check.shape, facts.table.detector)
            check_shape(primary if extension is None else extension, facts.name, wanted)
        if known is not None and same:
            sha256 = known.sha256
            plain = unpacked / f"{sha256}.fits" if compression(path) else path
        else:
            plain, sha256 = unpack(path, unpacked)
        header = {} if same else dict(primary)
        record = FrameRecord(path, sha256, stat.st_size, stat.st_mtime_ns, facts, header)
        if not same:
            with open_raw(plain, name=facts.name, shape=check.shape, sha256=sha256) as raw:
                check_pixels(raw, saturated_fraction=check.saturated_fraction)
        if unfit := facts.unfit():
            return Looked(path, record=record, reason=unfit, expected=True)
        return Looked(path, plain, record)
    except OSError as error:  # it may pass: nothing is noted
        return Looked(path, reason=error.strerror or str(error), passing=True)
    except VerifyError as error:
        # astropy parses a card when it is asked for, so a garbled one shows only here.
        return refused(f"a header card cannot be read: {error}")
    except FrameError as error:
        reason = error.reason
        if _of_the_system(error):
            return Looked(path, reason=reason, remedy=error.remedy, passing=True)
        return refused(reason, error.remedy, error.keyword)
    except UNFORESEEN as error:
        log.debug("%s cannot be read", path, exc_info=True)
        reason = f"the file makes no sense ({type(error).__name__}: {error})"
        return refused(reason, "Fetch the file again or leave it out.")


def _unread(
    path: Path, primary: Mapping[str, Any] | None, facts: FrameFacts | None, reason: str, unpacked: Path
) -> FrameRecord | None:
    """A record of a frame that could not be looked at to the end; None where its bytes cannot be read."""
    try:
        header = dict(primary or {})
    except (VerifyError, *UNFORESEEN):  # cards that make no sense
        header = {}
    try:
        stat = path.stat()
        try:
            _, sha256 = unpack(path, unpacked)
        except FrameError:  # a damaged stream: the bytes as they are
            sha256 = digest_as_is(path)
    except (OSError, NirflowError):
        return None
    return FrameRecord(path, sha256, stat.st_size, stat.st_mtime_ns, facts, header, reason)


def _name(path: Path) -> str:
    """The file's name as text, whatever its bytes are."""
    return os.fsencode(path.name).decode(errors="replace")


def _of_the_system(error: FrameError) -> bool:
    """Whether the operating system could not give the file (no permission, a disk or network that is away)."""
    return isinstance(error.__context__, OSError) and error.__context__.errno is not None
