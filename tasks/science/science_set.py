"""The frames of one field in one band."""

from __future__ import annotations

from collections.abc import Collection

from tasks.photometry.standard_field import is_standard
from tasks.support.parameters import ReductionParameters, for_instrument
from tasks.support.references import Calibrations, FrameSet, ProductSet


class ScienceSet(ProductSet):
    """One field in one band."""

    frames: FrameSet
    objects: tuple[str, ...]
    skies: tuple[str, ...]
    mode: str
    notes: tuple[str, ...] = ()

    @property
    def is_standard(self) -> bool:
        """Whether it is a standard field."""
        return is_standard(next(frame.facts for frame in self.frames.frames if frame.name in self.objects))

    @property
    def least(self) -> int:
        """The number of frames that are stacked, or of those that may serve as sky if these are fewer."""
        return min(len(self.objects), len(self.skies))

    def without(self, names: Collection[str]) -> ScienceSet:
        """Return the group without the frames of these names."""
        if not names:
            return self
        kept = {
            field: tuple(n for n in getattr(self, field) if n not in names) for field in ("objects", "skies")
        }
        return self.model_copy(update={"frames": self.frames.without(names), **kept})

    def served_by(self, calibrations: Calibrations) -> ScienceSet:
        """Return the group without the frames that have no calibrations."""
        return self.without({one.name for one in calibrations.unserved})


def for_group(parameters: ReductionParameters, group: ScienceSet) -> ReductionParameters:
    """Return the parameters with those of the group's instrument, and the decisions that depend on its size."""
    parameters = for_instrument(parameters, group.frames.frames[0].facts.table)
    return parameters.model_copy(update={"detrend": parameters.detrend.for_group(group.least)})
