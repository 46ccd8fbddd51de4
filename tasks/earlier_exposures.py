"""The exposures before the frames of a group, of any kind and of any run, which may have left persistence in them."""

from __future__ import annotations

import logging
import math
from collections.abc import Container, Sequence
from datetime import datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from calib_store.store import Store
from calib_store.tables.frames import Exposed
from imaging.detrend.detrend import DetrendParameters
from imaging.detrend.persistence import Earlier, largest_charge
from imaging.frames.facts import FrameFacts
from imaging.instruments.detector import Persistence
from imaging.products.product_file import ProductFile
from tasks.support.decorator import step_task
from tasks.support.references import Calibrations, FrameSet, RawFrame, Reference
from tasks.support.step import step
from tasks.support.workspace import Workspace

logger = logging.getLogger(__name__)

#: Times in headers are rounded, to a second at worst: an exposure may seem to end as much after the next one began, s.
_ROUNDING: Final = 1.0
#: A pixel's noise is at least this part of that of the frame's median: where less light falls there is less noise.
_LEAST_NOISE: Final = 0.5


class EarlierExposure(Reference):
    """An exposure that may have left persistence in a frame."""

    sha256: str
    name: str
    age: float = Field(description="time from its end to the start of the frame, s")


class Exposures(Reference):
    """The exposures that may have left persistence in the frames of a group, as the store knew them at one moment."""

    before: dict[str, tuple[EarlierExposure, ...]] = Field(
        default_factory=dict,
        description="by the sha256 of the frame, in order of time; only frames that have some",
    )
    notes: tuple[str, ...] = Field(default=(), description="exposures whose times are impossible")

    def of(self, frame: RawFrame) -> tuple[EarlierExposure, ...]:
        """Return those before a frame."""
        return self.before.get(frame.sha256, ())

    def history(self, frames: Sequence[RawFrame]) -> dict[str, list[str]]:
        """Return their sha256 by that of the frame, for the identity of what is made from the frames."""
        return {f.sha256: [one.sha256 for one in self.of(f)] for f in frames if self.of(f)}


#: For frames that nothing was exposed before.
NONE_BEFORE: Final = Exposures()


@step_task("exposures", "exposures before {label}")
def find_exposures(
    label: str,
    frames: FrameSet,
    calibrations: Calibrations,
    parameters: DetrendParameters,
    workspace: Workspace,
) -> Exposures:
    """Find in the store the earlier exposures of the detector that matter for persistence in ``frames``.

    An exposure matters if its brightest good pixel alone could exceed the limit of a frame, so that the arrival of any
    other does not change what is made from the frames.
    """
    law = frames.first.facts.table.detector.persistence
    if law is None or parameters.persistence is None:
        return Exposures()
    store = workspace.store()
    before: dict[str, tuple[EarlierExposure, ...]] = {}
    notes: dict[str, None] = {}
    with step("exposures", label, workspace):
        bad = _bad_pixels(calibrations, workspace)
        own = {frame.sha256 for frame in frames.frames}
        largest: dict[str, float] = {}
        for frame in frames.frames:
            near, odd = _near(store, frame, own, law, workspace)
            notes |= dict.fromkeys(odd)
            new = [one.sha256 for one in near if one.sha256 not in largest]
            for sha256, bright in store.frames.bright_pixels(new).items():
                largest[sha256] = largest_charge(bright, law, frame.facts.readout, bad)
            least = parameters.persistence * _least_noise(frame.facts)
            found = tuple(
                one
                for one in near
                if law.released(one.age, frame.facts.exposure) * largest.get(one.sha256, 0.0) > least
            )
            if found:
                before[frame.sha256] = found
    for text in notes:
        logger.warning("%s: %s", label, text)
    return Exposures(before=before, notes=tuple(notes))


def earlier_of(exposures: Sequence[EarlierExposure], workspace: Workspace) -> list[Earlier]:
    """Return exposures with their bright pixels, from the store."""
    if not exposures:
        return []
    bright = workspace.store().frames.bright_pixels(one.sha256 for one in exposures)
    return [Earlier(bright[one.sha256], one.age) for one in exposures]


def _near(
    store: Store, frame: RawFrame, own: Container[str], law: Persistence, workspace: Workspace
) -> tuple[list[EarlierExposure], list[str]]:
    """Return the exposures within the horizon before a frame, and notes on those whose times overlap its own.

    Of several files of one exposure, which have the same start, the one among ``own`` counts, else the first recorded.
    """
    facts = frame.facts
    horizon = timedelta(seconds=law.horizon)
    around = store.frames.exposed(
        facts, facts.started - horizon, facts.ended + horizon, as_of=workspace.as_of
    )
    by_start: dict[datetime, Exposed] = {}
    for one in sorted(around, key=lambda one: one.sha256 not in own):
        if one.started != facts.started:
            by_start.setdefault(one.started, one)
    near, odd = [], []
    for _, one in sorted(by_start.items()):
        late = (one.ended - facts.started).total_seconds()
        if late <= _ROUNDING:
            near.append(EarlierExposure(sha256=one.sha256, name=one.name, age=max(0.0, -late)))
        elif (facts.ended - one.started).total_seconds() > _ROUNDING:
            odd.append(
                f"{min(one.name, frame.name)} and {max(one.name, frame.name)} overlap in time, which exposures of one "
                "detector cannot do: a clock is wrong, and persistence of one in the other is not looked for"
            )
    return near, odd


def _least_noise(facts: FrameFacts) -> float:
    """Return a lower limit of the noise of a frame's pixels, electrons, before it is detrended."""
    read = facts.readout.read_noise
    light = facts.pixels.level * facts.readout.gain if facts.pixels is not None else 0.0
    return max(read, _LEAST_NOISE * math.sqrt(read**2 + max(light, 0.0)))


def _bad_pixels(calibrations: Calibrations, workspace: Workspace) -> NDArray[np.bool_] | None:
    mask = calibrations.of("bpm")
    if mask is None:
        return None
    with ProductFile(workspace.file_of(mask)) as file:
        return np.asarray(file.bad_pixels(slice(0, file.shape[0])) != 0)
