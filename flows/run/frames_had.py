"""The raw frames that a run was for: they are no longer new, whether they were used or left out."""

from __future__ import annotations

from collections.abc import Iterator

from flows.run.in_progress import Night
from flows.run.report import NightReport
from imaging.frames.sequences import Sequence as Exposures
from imaging.kinds import STACK


def frames_had(night: Night, report: NightReport, sequence: str | None) -> Iterator[str]:
    """Yield the sha256 of the frames that a run was for: those of its sequence, or of the kinds and bands requested.

    Science that lacks a calibration is left to a run of its sequence, which waits for it.
    """
    options = night.options
    waits = {one.label for one in report.failures if one.step == STACK.target and one.waits_for}
    left = {
        frame.sha256 for one in night.plan.of(STACK.name) if one.label in waits for frame in one.frames.frames
    }
    science = not options.only or STACK.target in options.only
    calibrations = not options.only or any(target != STACK.target for target in options.only)
    for frame in night.survey.frames:
        facts = frame.facts
        if sequence is not None:
            own = Exposures.of(facts)
            wanted = own is not None and own.name == sequence
        elif facts.kind == "object":
            wanted = (
                science and frame.sha256 not in left and (not options.bands or facts.filter in options.bands)
            )
        else:
            wanted = calibrations
        if wanted:
            yield frame.sha256
