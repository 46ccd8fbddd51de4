"""Sequences of exposures: what a telescope takes at one time, and what is reduced when its last frame has arrived.

Pure functions of the facts of frames.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import date
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from imaging.frames.facts import FrameFacts
from imaging.frames.groups import shared
from imaging.frames.nights import check_night
from imaging.instruments import catalogue
from imaging.kinds import CALIBRATION_FRAMES, CalibrationFrame, ProductKind

SequenceKind = Literal["science", CalibrationFrame]

_NAME: Final = re.compile(
    r"(?P<night>[0-9]{4}-[0-9]{2}-[0-9]{2})\.(?:dark|(?:science|flat)(?:\.[A-Za-z0-9-]+)?)\.[0-9a-f]{8}"
)


class Sequence(BaseModel):
    """A sequence of one night. Lamp-ons and lamp-offs share a sequence: a flat needs both."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="the same for all its frames:  2013-11-21.science.Y.1f0c9a2b")
    kind: SequenceKind
    night: date = Field(description="date that the observatory gives to the night")
    instrument: str
    filter: str = Field(description="band; empty for darks")
    label: str = Field(description="description for observers: 'science Y FIELD 2013-11-21'")
    program: str = ""

    @classmethod
    def of(cls, facts: FrameFacts) -> Sequence | None:
        """Return the sequence of a frame; None for a frame that is excluded from the reduction."""
        if facts.processed or facts.unfit() is not None:
            return None
        kind: SequenceKind
        if facts.kind == "object":
            kind, what = "science", facts.target or facts.observation_id
            common = _shared(facts, "image") | {"program": facts.program, "observation": facts.observation_id}
        elif facts.kind in CALIBRATION_FRAMES:
            kind = "dark" if facts.kind == "dark" else "flat"
            what = f"{facts.exposure_time:g} s"
            common = _shared(facts, kind)
        else:
            return None
        band = "" if kind == "dark" else facts.filter
        if (
            facts.instrument != catalogue.instruments()[0].name
        ):  # sequences of the first table keep their names
            common |= {"instrument": facts.instrument}
        digest = hashlib.sha256(json.dumps(common, sort_keys=True).encode()).hexdigest()[:8]
        return cls(
            name=".".join(filter(None, (str(facts.night), kind, _plain(band), digest))),
            kind=kind,
            night=facts.night,
            instrument=facts.instrument,
            filter=band,
            label=" ".join(filter(None, (kind, band, what, str(facts.night)))),
            program=facts.program,
        )


def _shared(facts: FrameFacts, kind: ProductKind) -> dict[str, Any]:
    """Return the facts that the frames share, numbers with a tolerance rounded to twice that."""
    values = shared(facts, kind)
    for name, tolerance in facts.table.tolerance.items():
        if tolerance and isinstance(values.get(name), (int, float)):
            values[name] = round(round(values[name] / (2 * tolerance)) * 2 * tolerance, 6)
    return values


def night_in(name: str) -> date:
    """Return the night in the name of a sequence.

    Raises
    ------
    ValueError
        If it is not the complete name of a sequence, as given by `Sequence.of`.
    """
    parts = _NAME.fullmatch(name)
    if parts is None:
        raise ValueError(f"{name!r} is not the name of a sequence")
    return check_night(date.fromisoformat(parts["night"]))


def _plain(text: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in text)
