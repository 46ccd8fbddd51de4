"""Facts that are the same although their numbers differ a little: exposure times that a clock measured.

The instrument's table has the tolerance of each fact (`[tolerance]`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from imaging.frames.facts import FrameFacts


def same_value(facts: FrameFacts, name: str, one: Any, other: Any) -> bool:
    """Return whether two values of a fact are the same for the instrument of some frame."""
    tolerance = facts.table.tolerance.get(name, 0.0)
    if tolerance and isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return bool(abs(one - other) <= tolerance)
    return bool(one == other)


def are_alike(one: FrameFacts, other: FrameFacts, names: Iterable[str]) -> bool:
    """Return whether two frames are of one instrument and some of their facts are the same."""
    return one.instrument == other.instrument and all(
        same_value(one, name, one.value(name), other.value(name)) for name in names
    )


class Nominal:
    """The nominal values of some frames' facts: one number for all that differ by less than the tolerance.

    Parameters
    ----------
    frames
        The frames. Of the numbers within the tolerance of the smallest, the most frequent is nominal for all.
    """

    def __init__(self, frames: Iterable[FrameFacts]) -> None:
        given: dict[tuple[str, str], Counter[float]] = defaultdict(Counter)
        tolerances: dict[tuple[str, str], float] = {}
        for facts in frames:
            for name, tolerance in facts.table.tolerance.items():
                value = facts.value(name)
                if tolerance and isinstance(value, (int, float)):
                    given[facts.instrument, name][value] += 1
                    tolerances[facts.instrument, name] = tolerance
        self._nominal: dict[tuple[str, str], Mapping[float, float]] = {
            key: _nominal(counts, tolerances[key]) for key, counts in given.items()
        }

    def of(self, facts: FrameFacts, names: Sequence[str]) -> tuple[Any, ...]:
        """Return the nominal values of some facts of one of the frames."""
        values = ((name, facts.value(name)) for name in names)
        return tuple(
            self._nominal.get((facts.instrument, name), {}).get(value, value) for name, value in values
        )


def _nominal(counts: Counter[float], tolerance: float) -> dict[float, float]:
    found: dict[float, float] = {}
    together: list[float] = []
    for value in (*sorted(counts), None):
        if together and (value is None or value - together[0] > tolerance):
            usual = max(together, key=lambda one: (counts[one], -one))
            found |= dict.fromkeys(together, usual)
            together = []
        if value is not None:
            together.append(value)
    return found
