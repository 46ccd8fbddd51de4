"""The table of all situations, in the order in which they are shown."""

from __future__ import annotations

from typing import Final

from benchmarks.faults.situation import Situation
from benchmarks.faults.situations import files, frames, headers, machines, software, store, times

SITUATIONS: Final[tuple[Situation, ...]] = tuple(
    situation
    for module in (headers, times, files, frames, machines, software, store)
    for situation in module.SITUATIONS
)
