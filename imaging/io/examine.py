"""The examination of one file: what it is, whether it can be reduced, and why not.

`reduce`, the watcher, `inspect` and `select` all ask here, so they agree. The parts that need pixels are optional: an
examination of headers alone lists in `Examination.unchecked` what it did not look at.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from astropy.io.fits import VerifyError

from imaging.errors import FrameError, NirflowError
from imaging.frames.facts import FrameFacts, facts_from_headers, processing
from imaging.frames.find_files import CheckParameters
from imaging.instruments.detector import wanted_shape
from imaging.io.compressed import compression, digest_as_is, unpack
from imaging.io.raw_file import UNFORESEEN, check_one_image, check_pixels, check_shape, open_raw, read_layout

log = logging.getLogger(__name__)

Verdict = Literal["usable", "excluded", "duplicate_name", "product", "foreign", "faulty", "unreadable"]

#: What an examination of headers does not look at.
PIXELS: Final = "pixels"
REST: Final = "the rest of the compressed file"


class Known(NamedTuple):
    """A file as it was when it was examined and found usable."""

    size: int
    mtime_ns: int
    sha256: str
    facts: FrameFacts


@dataclass(frozen=True)
class Examination:
    """What one file is: a usable frame, or the reason why it is not.

    Attributes
    ----------
    path
        The file.
    verdict
        ``usable``; ``excluded``: a complete frame that takes no part (an acquisition frame, a spectrum, a second
        file of one exposure); ``duplicate_name``: a usable frame with the name of another one; ``product``: no raw
        frame; ``foreign``: of another instrument; ``faulty``: damaged, or its headers or pixels are no frame's;
        ``unreadable``: the system could not give the file, which may pass.
    reason, remedy
        Why the file is not usable, and what can be done.
    facts
        What the frame is; None where its headers do not give it.
    header
        Keywords and values of the primary header, as far as it was read.
    of_product
        The header is a product's, whatever else is wrong with the file.
    notes
        What a reader should know of a usable frame: a corrected keyword.
    unchecked
        What was not looked at, and might still make the file unusable.
    sha256
        Identity of the frame; of a damaged compressed file that of its bytes as they are. None where the bytes
        were not read.
    same_as
        A file of the same frame by name and headers, where the bytes were not read.
    plain
        The file itself or its unpacked copy, of a usable frame whose pixels were examined.
    size, mtime_ns
        Of the file as it is on disk.
    known
        The file is unchanged since it was found usable, so neither its bytes nor its pixels were read again.
    """

    path: Path
    verdict: Verdict = "usable"
    reason: str = ""
    remedy: str = ""
    facts: FrameFacts | None = None
    header: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    of_product: bool = False
    notes: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    sha256: str | None = None
    same_as: Path | None = None
    plain: Path | None = None
    size: int = 0
    mtime_ns: int = 0
    known: bool = False

    @property
    def usable(self) -> bool:
        """Whether the frame can be reduced, as far as it was examined."""
        return self.verdict == "usable"

    @property
    def broken(self) -> bool:
        """Whether the file is damaged, unreadable or no frame of an instrument that is reduced."""
        return self.verdict in ("foreign", "faulty", "unreadable")

    @property
    def name(self) -> str:
        """Name of the file as text, whatever its bytes are."""
        return os.fsencode(self.path.name).decode(errors="replace")

    @property
    def identity(self) -> str:
        """What tells the frame from others: its sha256, or the path where the bytes were not read."""
        return self.sha256 or str(self.same_as or self.path)

    def excluded(self, reason: str, remedy: str = "") -> Examination:
        """Return the same frame as one that takes no part."""
        return replace(self, verdict="excluded", reason=reason, remedy=remedy, plain=None)


def examine(
    path: Path,
    check: CheckParameters,
    *,
    pixels: bool = True,
    unpacked: Path | None = None,
    known: Known | None = None,
) -> Examination:
    """Examine one file: its headers, and with ``pixels`` its bytes (hashed) and its pixels.

    What makes the file unusable is an answer, not an error.

    Parameters
    ----------
    path
        The file.
    check
        What a frame has to be.
    pixels
        Read the file to its end. Without, only headers are read, of a compressed file its first blocks.
    unpacked
        Folder where the unpacked copy of a compressed file stays; without it the copy is temporary.
    known
        The file as it was when it was found usable; where its size, date and facts are still the same, its bytes
        and pixels are not read again.

    Raises
    ------
    NirflowError
        Where ``unpacked`` cannot be written.
    """
    seen = Examination(path)
    try:
        stat = path.stat()
        seen = replace(seen, size=stat.st_size, mtime_ns=stat.st_mtime_ns)
        for further in _headers(seen, check, known):
            seen = further
        if seen.usable and (facts := seen.facts) is not None:
            if not pixels:
                seen = replace(seen, unchecked=_unchecked(path))
            else:
                for further in _contents(seen, facts, check, unpacked, known):
                    seen = further
            if reason := facts.unfit():
                seen = seen.excluded(reason)
        return seen
    except OSError as error:
        return replace(seen, verdict="unreadable", reason=error.strerror or str(error))
    except VerifyError as error:
        # astropy parses a card when it is asked for, so a garbled one shows only here.
        reason = f"a header card cannot be read: {error}"
        seen = replace(seen, verdict="faulty", reason=reason, remedy="Correct the header.")
    except FrameError as error:
        seen = replace(seen, verdict=_verdict(error), reason=error.reason, remedy=error.remedy)
    except UNFORESEEN as error:
        log.debug("%s cannot be read", path, exc_info=True)
        reason = f"the file is invalid ({type(error).__name__}: {error})"
        seen = replace(
            seen, verdict="faulty", reason=reason, remedy="Fetch the file again or leave it out."
        )  # fmt: skip
    if pixels and seen.verdict == "faulty" and seen.sha256 is None and not seen.known:
        seen = replace(seen, sha256=_digest_anyway(path, unpacked))
    return seen


def _headers(seen: Examination, check: CheckParameters, known: Known | None) -> Iterator[Examination]:
    """What the headers show, further with each step: the header, the facts, the number and shape of the images."""
    layout = read_layout(seen.path)
    yield (seen := replace(seen, of_product=processing(layout.primary)[0]))
    # Every card is parsed here: the header is copied into the store and into products.
    yield (seen := replace(seen, header=dict(layout.primary)))
    facts = facts_from_headers(layout.primary, layout.image, name=seen.name)
    same = known is not None and (known.size, known.mtime_ns) == (seen.size, seen.mtime_ns)
    # A file may be replaced and keep its size and date; the name of a copy is its own.
    same = same and known is not None and facts == known.facts.model_copy(update={"name": facts.name})
    notes = facts.notes
    yield (seen := replace(seen, facts=facts, notes=notes, known=same))
    if facts.processed:
        reason = f"a processed {facts.product_kind or 'frame'}, not a raw frame"
        remedy = "Give it as a calibration (--use, or nirflow cal add)."
        yield replace(seen, verdict="product", reason=reason, remedy=remedy)
        return
    check_one_image(facts.name, layout.images)
    wanted = wanted_shape(check.shape, facts.table.detector)
    check_shape(layout.primary if layout.image is None else layout.image, facts.name, wanted)


def _contents(
    seen: Examination, facts: FrameFacts, check: CheckParameters, unpacked: Path | None, known: Known | None
) -> Iterator[Examination]:
    """What the bytes and pixels show of a file whose headers are those of a frame: its identity, its pixels."""
    plain = seen.path
    if seen.known and known is not None:
        if unpacked is not None and compression(plain):
            plain = unpacked / f"{known.sha256}.fits"
        yield replace(seen, sha256=known.sha256, plain=plain)
        return
    if unpacked is not None:
        plain, sha256 = unpack(plain, unpacked)
        yield (seen := replace(seen, sha256=sha256))
    with open_raw(plain, name=facts.name, shape=check.shape, sha256=seen.sha256) as raw:
        yield (seen := replace(seen, sha256=raw.sha256))
        check_pixels(raw, saturated_fraction=check.saturated_fraction)
    yield replace(seen, plain=plain)


def _verdict(error: FrameError) -> Verdict:
    if isinstance(error.__context__, OSError) and error.__context__.errno is not None:
        return "unreadable"  # no permission, a disk or network that is away
    return "foreign" if error.keyword == "INSTRUME" else "faulty"


def _unchecked(path: Path) -> tuple[str, ...]:
    return (PIXELS, REST) if compression(path) else (PIXELS,)


def _digest_anyway(path: Path, unpacked: Path | None) -> str | None:
    """Identity of a file that could not be examined to its end; None where its bytes cannot be read."""
    try:
        try:
            return unpack(path, unpacked)[1] if unpacked is not None else digest_as_is(path)
        except FrameError:  # a damaged stream: the bytes as they are
            return digest_as_is(path)
    except (OSError, NirflowError):
        return None
