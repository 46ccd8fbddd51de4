"""Frames that began at the same moment according to their headers, which no detector can do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping
from datetime import datetime
from typing import TypeVar

from imaging.frames.facts import FrameFacts

K = TypeVar("K", bound=Hashable)


def simultaneous(frames: Mapping[K, FrameFacts]) -> dict[K, str]:
    """Return a note, by frame, for those of one instrument that have the same start, the same text for all of them.

    Their order in time, and so the choice of their sky frames, is then that of their names.
    """
    starts: dict[tuple[str, datetime], list[K]] = defaultdict(list)
    for key, facts in frames.items():
        if not facts.processed:
            starts[facts.instrument, facts.started].append(key)
    notes: dict[K, str] = {}
    for (_, started), keys in starts.items():
        if len(keys) > 1:
            table = frames[keys[0]].table
            stated = " and ".join((*table.date[:1], *table.time[:1]))
            start = f"{len(keys)} frames start at {started:%Y-%m-%d %H:%M:%S} according to {stated}"
            notes |= dict.fromkeys(keys, f"{start}; their order is that of their names")
    return notes
