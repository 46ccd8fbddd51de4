"""One exposure in several files: which frames are the same exposure, and which of them is used.

Archives correct headers, and so do users, so one exposure may exist as two files with different bytes. In a
stack of both, its photons would count twice. Pure functions of the facts of frames; the order of the frames
never matters."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from imaging.frames.facts import FrameFacts

#: One detector cannot begin two exposures within this time.
_AT_ONCE: Final = timedelta(seconds=1)
#: The observatory's number at the start of a file name, S20131121S0075: an exposure has one.
_NUMBER: Final = re.compile(r"[NS]\d{8}S\d{4,}")
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
#: What frames without a label or number must share in addition to their start.
_SETTINGS: Final = ("kind", "exposure_time", "coadds", "read_pairs", "filter_id", "poffset", "qoffset")


@dataclass(frozen=True)
class Double:
    """A frame that is not used because another file of the same exposure is.

    Attributes
    ----------
    used
        Key of the frame that is used instead.
    name
        File name of that frame.
    why
        Why that file is used and not this one.
    """

    used: str
    name: str
    why: str


def doubles(frames: Mapping[str, FrameFacts]) -> dict[str, Double]:
    """Find the frames that are not used because another one is the same exposure.

    Of several files of one exposure the one with the newest header is used (the latest of DATE and GEM-TLM).
    Where the headers do not decide, it is the last name in alphabetical order, so that
    ``S20131121S0075_fixhead.fits`` goes before ``S20131121S0075.fits``, and a name with the observatory's
    number before any other; then the last key.

    Parameters
    ----------
    frames
        The facts of raw frames by a key that is unique, the sha256.

    Returns
    -------
    dict
        A `Double` for the key of each frame that is left out.
    """
    found = {}
    for group in exposures(frames):
        used = max(group, key=lambda key: _rank(key, frames[key]))
        for key in group:
            if key != used:
                found[key] = Double(used, frames[used].name, _why(frames[used], frames[key]))
    return found


def exposures(frames: Mapping[str, FrameFacts]) -> list[tuple[str, ...]]:
    """Group the frames of each exposure that occurs several times in ``frames``.

    Frames are one exposure if they began at the same time on the same detector and share their data label or
    the observatory's number in their names; the label only if their numbers do not contradict it. If both are
    shared, the start may differ: the time in a header may have been corrected. A data label alone proves
    nothing, because archives contain wrong ones. A frame with neither label nor number belongs to those with
    its start and settings, unless several exposures have that start.

    Returns
    -------
    list of tuple of str
        The keys of each such exposure, sorted.
    """
    joined = _Sets(frames)
    clusters = _begun_at_once(frames)
    for n, cluster in enumerate(clusters):
        ambiguous = _ambiguous_labels([frames[key] for key in cluster])
        for key in cluster:
            label, number = frames[key].data_label, _number(frames[key])
            if label and label not in ambiguous:
                joined.join(key, (n, "label", label))
            if number:
                joined.join(key, (n, "number", number))
            if label and number:
                joined.join(key, ("both", label, number))
    for cluster in clusters:
        identified = [key for key in cluster if frames[key].data_label or _number(frames[key])]
        if len({joined.root(key) for key in identified}) <= 1:
            alike: dict[tuple[object, ...], str] = {}
            for key in (*identified, *(key for key in cluster if key not in identified)):
                first = alike.setdefault(_settings(frames[key]), key)
                joined.join(key, joined.root(first))
    return joined.of_several()


def _ambiguous_labels(frames: Iterable[FrameFacts]) -> set[str]:
    """Return the data labels of frames with different observatory's numbers: they do not identify an exposure."""
    numbers: dict[str, set[str]] = defaultdict(set)
    for facts in frames:
        if number := _number(facts):
            numbers[facts.data_label].add(number)
    return {label for label, found in numbers.items() if len(found) > 1}


def _begun_at_once(frames: Mapping[str, FrameFacts]) -> list[list[str]]:
    """Return the frames of one detector that began at the same time, each within a second of the next."""
    of_detector: dict[str, list[str]] = defaultdict(list)
    for key in sorted(frames, key=lambda key: (frames[key].started, key)):
        of_detector[frames[key].detector].append(key)
    clusters = []
    for keys in of_detector.values():
        clusters.append([keys[0]])
        for before, key in pairwise(keys):
            if frames[key].started - frames[before].started < _AT_ONCE:
                clusters[-1].append(key)
            else:
                clusters.append([key])
    return clusters


def _settings(facts: FrameFacts) -> tuple[object, ...]:
    return tuple(getattr(facts, name) for name in _SETTINGS)


def _number(facts: FrameFacts) -> str:
    """Return the observatory's number in a frame's name, or an empty string."""
    found = _NUMBER.match(facts.name)
    return found.group() if found else ""


def _rank(key: str, facts: FrameFacts) -> tuple[datetime, bool, str, str]:
    return facts.header_written or _NEVER, bool(_number(facts)), facts.root, key


def _why(used: FrameFacts, other: FrameFacts) -> str:
    if used.header_written != other.header_written:
        written = [
            f"{one.header_written:%Y-%m-%d %H:%M:%S}" if one.header_written else "without a date"
            for one in (used, other)
        ]
        return f"its header is newer ({written[0]}, this one {written[1]})"
    if used.root != other.root:
        return "the headers have the same date, and its name is the later one"
    return "the headers have the same date and the names are the same, so the checksums decide"


class _Sets:
    """Keys that are joined by common tokens."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._parent: dict[Hashable, Hashable] = {key: key for key in keys}
        self._keys = tuple(self._parent)

    def join(self, key: str, token: Hashable) -> None:
        """Put ``key`` together with all others of the same ``token``."""
        self._parent.setdefault(token, token)
        self._parent[self.root(key)] = self.root(token)

    def of_several(self) -> list[tuple[str, ...]]:
        """Return the sets with more than one key."""
        found: dict[Hashable, list[str]] = defaultdict(list)
        for key in self._keys:
            found[self.root(key)].append(str(key))
        return sorted(tuple(sorted(keys)) for keys in found.values() if len(keys) > 1)

    def root(self, one: Hashable) -> Hashable:
        """Return the representative of the set of a key or token."""
        while self._parent[one] != one:
            self._parent[one] = self._parent[self._parent[one]]
            one = self._parent[one]
        return one
