"""The examination of one file: what it is, whether it can be reduced, and if not, why.

`reduce`, the watcher, `inspect` and `select` all use it, so they agree. The parts that need pixels are
optional: an examination of headers alone lists the omitted checks in `Examination.unchecked`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from imaging.errors import FrameError, NirflowError
from imaging.frames.facts import FrameFacts, facts_from_headers, processing
from imaging.frames.find_files import CheckParameters
from imaging.frames.pixel_state import PixelState
from imaging.instruments.detector import Persistence, wanted_shapes
from imaging.io.compressed import compression, digest_as_is, reading, unpack
from imaging.io.raw_file import (
    UNFORESEEN,
    check_fractions,
    check_one_image,
    check_shape,
    measured,
    open_raw,
    read_layout,
)
from imaging.pixels.bright_pixels import BrightPixels

log = logging.getLogger(__name__)

Verdict = Literal[
    "usable", "excluded", "duplicate_name", "odd_pixels", "product", "foreign", "faulty", "unreadable"
]

#: What an examination of headers does not check.
PIXELS: Final = "pixels"
REST: Final = "the rest of the compressed file"


def last_change(about: os.stat_result) -> int:
    """Return when a file was last changed, ns since 1970: its content, or (which nobody can set) its inode.

    A file that was replaced by one with the modification time of the old one differs.
    """
    return max(about.st_mtime_ns, about.st_ctime_ns)


class Known(NamedTuple):
    """The state of a file when it was examined and found usable."""

    size: int
    changed_ns: int
    sha256: str
    facts: FrameFacts


@dataclass(frozen=True)
class Examination:
    """The result for one file: a usable frame, or the reason why it is not.

    Attributes
    ----------
    path
        The file.
    verdict
        ``usable``; ``excluded``: a complete frame that is not reduced (an acquisition frame, a spectrum, a
        second file of one exposure); ``duplicate_name``: a usable frame with the name of another one;
        ``odd_pixels``: a frame with the pixels of another exposure, or with quadrants unlike those of the other
        frames; ``product``: not a raw frame;
        ``foreign``: of another instrument; ``faulty``: damaged, or its headers or pixels are not those of a
        frame; ``unreadable``: the system could not read the file, perhaps temporarily.
    reason, remedy
        Why the file is not usable, and what the user can do.
    facts
        Facts of the frame; None if its headers do not give them.
    header
        Keywords and values of the primary header, as far as they were read.
    of_product
        The header is that of a product, whatever else is wrong with the file.
    notes
        What the user should know about a usable frame: a corrected keyword.
    unchecked
        What was not checked, and might still make the file unusable.
    sha256
        Identity of the frame; for a damaged compressed file, of its stored bytes. None if the bytes were not
        read.
    same_as
        Another file of the same frame by name and headers, if the bytes were not read.
    plain
        The file or its unpacked copy, for a usable frame whose pixels were examined.
    size, changed_ns
        Size of the file on disk, and the time of its `last_change`.
    known
        The file is unchanged since it was found usable, so its bytes and pixels were not read again.
    bright
        The pixels that leave persistence in later exposures; None if they were not looked for.
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
    changed_ns: int = 0
    known: bool = False
    bright: BrightPixels | None = field(default=None, repr=False, compare=False)

    @property
    def usable(self) -> bool:
        """Whether the frame can be reduced, as far as it was examined."""
        return self.verdict == "usable"

    @property
    def broken(self) -> bool:
        """Whether the file is damaged, unreadable or not a frame of a known instrument."""
        return self.verdict in ("foreign", "faulty", "unreadable")

    @property
    def name(self) -> str:
        """Name of the file as text, whatever its encoding."""
        return os.fsencode(self.path.name).decode(errors="replace")

    @property
    def identity(self) -> str:
        """Identity of the frame: its sha256, or the path if the bytes were not read."""
        return self.sha256 or str(self.same_as or self.path)

    def excluded(self, reason: str, remedy: str = "") -> Examination:
        """Return the same frame, marked as excluded."""
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

    An unusable file is a result, not an error.

    Parameters
    ----------
    path
        The file.
    check
        Requirements on a frame.
    pixels
        Read the file to its end. Otherwise only headers are read; for a compressed file, its first blocks.
    unpacked
        Folder that keeps the unpacked copy of a compressed file; default: the copy is temporary.
    known
        State of the file when it was found usable; if its size, last change and facts are the same, its bytes and
        pixels are not read again.

    Raises
    ------
    NirflowError
        If ``unpacked`` cannot be written.
    """
    seen = Examination(path)
    try:
        with reading(path):
            stat = path.stat()
        seen = replace(seen, size=stat.st_size, changed_ns=last_change(stat))
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
            elif check.first_frames == "leave_out" and (reason := facts.first_frame()):
                seen = seen.excluded(reason, "To use it: --set check.first_frames=use")
        return seen
    except OSError as error:
        return replace(seen, verdict="unreadable", reason=error.strerror or str(error))
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
    """Yield the results of the headers, more complete with each step: header, facts, number and shape of images."""
    layout = read_layout(seen.path)
    yield (seen := replace(seen, of_product=processing(layout.primary)[0]))
    # This parses every card, because the header is copied into the store and into products.
    yield (seen := replace(seen, header=dict(layout.primary)))
    facts = facts_from_headers(layout.primary, layout.image, name=seen.name)
    same = known is not None and (known.size, known.changed_ns) == (seen.size, seen.changed_ns)
    # A copy has its own name.
    law = facts.table.detector.persistence
    if same and known is not None and _is_complete(known.facts.pixels, seen.path, law):
        as_then = known.facts.model_copy(update={"name": facts.name})
        same = as_then.model_copy(update={"pixels": None}) == facts
        facts = as_then if same else facts
    else:
        same = False
    notes = facts.notes
    sha256 = known.sha256 if same and known is not None else None
    yield (seen := replace(seen, facts=facts, notes=notes, known=same, sha256=sha256))
    if facts.processed:
        reason = f"a processed {facts.product_kind or 'frame'}, not a raw frame"
        remedy = "Provide it as a calibration (--use, or nirflow cal add)."
        yield replace(seen, verdict="product", reason=reason, remedy=remedy)
        return
    check_one_image(facts.name, layout.images)
    wanted = wanted_shapes(check.shape, facts.table.detector)
    check_shape(layout.primary if layout.image is None else layout.image, facts.name, wanted)


def _contents(
    seen: Examination, facts: FrameFacts, check: CheckParameters, unpacked: Path | None, known: Known | None
) -> Iterator[Examination]:
    """Return what the bytes and pixels show for a file with the headers of a frame: its identity and its pixels."""
    plain = seen.path
    if seen.known and known is not None and facts.pixels is not None:
        if unpacked is not None and compression(plain):
            plain = unpacked / f"{known.sha256}.fits"
        # It may have been accepted under other limits, or with a warning.
        check_fractions(facts.name, facts.pixels, facts.readout.saturation, check)
        of_sums = _checksum_note(facts.name, facts.pixels.sums, check)
        yield replace(seen, plain=plain, notes=(*facts.notes, *of_sums))
        return
    if unpacked is not None:
        plain, sha256 = unpack(plain, unpacked)
        yield (seen := replace(seen, sha256=sha256))
    with open_raw(plain, name=facts.name, shape=check.shape, sha256=seen.sha256) as raw:
        yield (seen := replace(seen, sha256=raw.sha256))
        sums = raw.checksum_problem() if _sums_count(seen.path) else None
        of_sums = _checksum_note(raw.name, sums, check)
        found = measured(raw)
        # A frame that is refused for its saturated pixels leaves persistence too.
        yield (seen := replace(seen, bright=found.bright))
        pixels = found.state.model_copy(update={"sums": sums})
        check_fractions(raw.name, pixels, facts.readout.saturation, check)
    facts = facts.model_copy(update={"pixels": pixels})
    yield replace(seen, plain=plain, facts=facts, notes=(*facts.notes, *of_sums))


def _sums_count(path: Path) -> bool:
    """Return whether the checksums in a file's headers are those of its uncompressed bytes."""
    return compression(path) != ".fz"  # the headers of a tile-compressed file are rewritten


def _is_complete(pixels: PixelState | None, path: Path, law: Persistence | None) -> bool:
    """Return whether the pixels of a known frame were read, and its sums and bright pixels as far as they count."""
    if pixels is None or (law is not None and pixels.bright_from != law.threshold):
        return False
    return pixels.sums is not None or not _sums_count(path)


def _checksum_note(name: str, problem: str | None, check: CheckParameters) -> tuple[str, ...]:
    """Return a note about checksums that disagree with the bytes.

    Raises
    ------
    FrameError
        If such a frame is to be refused.
    """
    if not problem or check.checksum == "ignore":
        return ()
    if check.checksum == "refuse":
        raise FrameError(
            name, problem, remedy="Fetch the file again, or accept it: --set check.checksum=warn."
        )  # fmt: skip
    return (problem,)


def _verdict(error: FrameError) -> Verdict:
    if isinstance(error.__context__, OSError) and error.__context__.errno is not None:
        return "unreadable"  # no permission, or a disk or network that is unavailable
    return "foreign" if error.keyword == "INSTRUME" else "faulty"


def _unchecked(path: Path) -> tuple[str, ...]:
    return (PIXELS, REST) if compression(path) else (PIXELS,)


def _digest_anyway(path: Path, unpacked: Path | None) -> str | None:
    """Return the identity of a file that could not be examined to its end; None if its bytes cannot be read."""
    try:
        try:
            return unpack(path, unpacked)[1] if unpacked is not None else digest_as_is(path)
        except FrameError:  # a damaged stream: the stored bytes
            return digest_as_is(path)
    except (OSError, NirflowError):
        return None
