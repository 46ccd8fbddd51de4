"""A look at one raw file: what it is and whether it can be used. No orchestrator is needed for it."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

from astropy.io.fits import VerifyError

from calib_store.records import FrameRecord, KnownFile
from imaging.errors import FrameError
from imaging.facts import facts_from_headers
from imaging.files import CheckParameters
from imaging.rawio import UNFORESEEN, check_pixels, check_shape, open_raw, read_headers
from imaging.unpack import compression, unpack

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
        What the store is to note; with the reason in ``quarantine`` where the frame must not be used. None
        for what is no raw frame, or cannot be told.
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


def look_at(path: Path, known: KnownFile | None, check: CheckParameters, unpacked: Path) -> Looked:
    """Look at a file once: headers, bytes (hashed), pixels.

    What makes the file unusable is an answer, not an error.

    Parameters
    ----------
    path
        The file.
    known
        The file as the store saw it fit before; where its size and date are still the same, its bytes and
        pixels are not looked at again.
    check
        What a frame has to be.
    unpacked
        Folder of unpacked files.

    Raises
    ------
    NirflowError
        Where ``unpacked`` cannot be written.
    """
    record: FrameRecord | None = None
    try:
        stat = path.stat()
        same = known is not None and (known.size, known.mtime_ns) == (stat.st_size, stat.st_mtime_ns)
        primary, extension = read_headers(path)
        facts = facts_from_headers(primary, extension, name=_name(path))
        if not facts.processed:  # a product's shape is not what is wrong with it
            check_shape(primary if extension is None else extension, facts.name, check.shape)
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
        return _refused(path, record, f"a header card cannot be read: {error}")
    except FrameError as error:
        reason = error.message.removeprefix(f"{error.name}: ").removesuffix(".")
        if _of_the_system(error):
            return Looked(path, reason=reason, remedy=error.remedy, passing=True)
        return _refused(path, record, reason, error.remedy)
    except UNFORESEEN as error:
        log.debug("%s cannot be read", path, exc_info=True)
        reason = f"the file makes no sense ({type(error).__name__}: {error})"
        return _refused(path, record, reason, "Fetch the file again or leave it out.")


def _name(path: Path) -> str:
    """The file's name as text, whatever its bytes are."""
    return os.fsencode(path.name).decode(errors="replace")


def _of_the_system(error: FrameError) -> bool:
    """Whether the operating system could not give the file (no permission, a disk or network that is away)."""
    return isinstance(error.__context__, OSError) and error.__context__.errno is not None


def _refused(path: Path, record: FrameRecord | None, reason: str, remedy: str = "") -> Looked:
    """A file that takes no part; where its bytes are known it goes into the store in quarantine."""
    noted = replace(record, quarantine=reason) if record is not None and _is_raw(record) else None
    return Looked(path, record=noted, reason=reason, remedy=remedy)


def _is_raw(record: FrameRecord) -> bool:
    return record.facts is not None and not record.facts.processed
