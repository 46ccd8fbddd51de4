"""References, which tasks exchange instead of pixels.

A reference consists of a path, a checksum or key and the few facts that the next step, the report and the
Prefect UI need. It is frozen and small.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator

from calib_store.model.records import input_key
from imaging.figures import Metric
from imaging.frames.facts import FrameFacts
from imaging.kinds import PRODUCT_KINDS, REQUIRED_KINDS, CalibrationKind, ProductKind
from imaging.listed import Gathered, gathered


class Reference(BaseModel):
    """Base class of the references."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RawFrame(Reference):
    """A raw frame that can be reduced."""

    path: Path = Field(description="plain FITS file to read: the original or its unpacked copy")
    source: Path = Field(description="the file as the user gave it")
    sha256: str = Field(description="of the uncompressed bytes: the frame's identity")
    facts: FrameFacts

    @property
    def name(self) -> str:
        """File name without a compression suffix."""
        return self.facts.name


class LeftOut(Reference):
    """A file, frame or group that is not used, and why."""

    name: str
    reason: str
    remedy: str = ""
    expected: bool = Field(default=False, description="not a problem: an acquisition frame, a duplicate")
    noun: str = Field(default="file", description="what the name is the name of, in the singular")
    full_disk: bool = Field(default=False, description="only because a disk was full: it may be used later")


def gathered_left_out(left_out: Iterable[LeftOut]) -> tuple[LeftOut, ...]:
    """Return what is left out, with everything of the same reason as one: its name has the count and the names.

    For display only: the other parts compare names.
    """
    found: list[LeftOut] = []
    by_remedy: dict[tuple[str, bool, str], list[LeftOut]] = {}
    for one in left_out:
        by_remedy.setdefault((one.remedy, one.expected, one.noun), []).append(one)
    for (remedy, expected, noun), alike in by_remedy.items():
        found += [
            LeftOut(name=same.label, reason=same.text, remedy=remedy, expected=expected, noun=noun)
            for same in gathered(((one.name, one.reason) for one in alike), noun)
        ]
    return tuple(found)


class Note(Reference):
    """What the user should know about a frame or group that is used."""

    name: str
    text: str
    noun: str = Field(default="file", description="what the name is the name of, in the singular")


def gathered_notes(notes: Sequence[Note]) -> list[Gathered]:
    """Return notes of the same text on files, or on groups, as one."""
    return [
        same
        for noun in dict.fromkeys(one.noun for one in notes)
        for same in gathered(((one.name, one.text) for one in notes if one.noun == noun), noun)
    ]


class Survey(Reference):
    """The frames of a night: those that can be reduced and those that cannot."""

    frames: tuple[RawFrame, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[Note, ...] = ()
    refused: frozenset[str] = Field(
        default=frozenset(), description="sha256 of the frames left out, as far as their bytes were read"
    )


class ProductSet(Reference):
    """The frames that one product is made from; a step extends it by the frames that it takes."""

    label: str = Field(description="the name that an observer would give it: 'dark 120 s 2013-11-20'")


class FrameSet(ProductSet):
    """Frames that are combined or reduced together."""

    frames: tuple[RawFrame, ...]

    def without(self, names: Container[str]) -> Self:
        """Return the set without the frames of these names."""
        return self.model_copy(update={"frames": tuple(f for f in self.frames if f.name not in names)})

    @property
    def first(self) -> RawFrame:
        """The frame that the product is named after."""
        return self.frames[0]

    @property
    def middle(self) -> RawFrame:
        """The frame in the middle of the set in time."""
        return sorted(self.frames, key=lambda f: f.facts.started)[len(self.frames) // 2]


class ProductRef(Reference):
    """A product in the store, and its copy in the output folder."""

    id: str
    kind: ProductKind
    name: str
    sha256: str
    recipe_key: str
    output: Path | None = Field(default=None, description="the copy in the output folder")
    preview: Path | None = None
    label: str = ""
    inputs: tuple[str, ...] = Field(default=(), description="names of the frames it was made from")
    calibrations: tuple[str, ...] = Field(default=(), description="names of the products it was made with")
    metrics: dict[str, Metric] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = Field(default=(), description="members that could not be used")
    reused: bool = False
    replaces: tuple[str, ...] = Field(
        default=(), description="the products that it replaced when it was made"
    )
    seconds: float = 0.0

    @property
    def uuid(self) -> UUID:
        """The id as the store has it."""
        return UUID(self.id)

    @property
    def name_and_id(self) -> str:
        """Name and first digits of the id, for display: several products may share a name."""
        return f"{self.name} ({self.id[:8]})"


class InputProduct(Reference):
    """A product of the store from which another product is made."""

    id: str
    kind: ProductKind
    name: str
    sha256: str
    recipe_key: str
    facts: FrameFacts = Field(description="those of its first frame")
    span: tuple[datetime, datetime] = Field(description="beginning and end of its frames' exposures")
    nights: tuple[date, ...] = Field(description="first and last night of its frames")

    @property
    def uuid(self) -> UUID:
        """The id as the store has it."""
        return UUID(self.id)

    @property
    def name_and_id(self) -> str:
        """Name and first digits of the id, for display: several products may share a name."""
        return f"{self.name} ({self.id[:8]})"


class NamedProduct(Reference):
    """A product of the store that an argument of a user's own step names."""

    id: str
    name: str
    sha256: str

    @property
    def uuid(self) -> UUID:
        """The id as the store has it."""
        return UUID(self.id)


class Calibrations(Reference):
    """The calibrations chosen for a group of frames; a kind may be missing if the user allowed it."""

    present: tuple[ProductRef, ...] = Field(
        default=(), description="those that were found, in the order of the kinds"
    )
    missing: tuple[CalibrationKind, ...] = ()
    overridden: tuple[CalibrationKind, ...] = Field(default=(), description="named by the user")
    reservations: tuple[str, ...] = Field(default=(), description="objections to those that were chosen")
    unserved: tuple[LeftOut, ...] = Field(
        default=(), description="frames of the group that are left out because none of a kind serves them"
    )
    disagreements: tuple[str, ...] = Field(
        default=(), description="differences in configuration between a named calibration and the frames"
    )

    @field_validator("present")
    @classmethod
    def _in_order(cls, present: tuple[ProductRef, ...]) -> tuple[ProductRef, ...]:
        """Sort by kind: the order is part of the keys of what is made with them."""
        if len({ref.kind for ref in present}) < len(present):
            raise ValueError("two calibrations of one kind")
        return tuple(sorted(present, key=lambda ref: PRODUCT_KINDS.index(ref.kind)))

    def of(self, kind: CalibrationKind) -> ProductRef | None:
        """Return the calibration of a kind, or None."""
        return next((ref for ref in self.present if ref.kind == kind), None)

    @property
    def required(self) -> Calibrations:
        """Those without which something is missing; detrending applies these only."""
        kept = tuple(ref for ref in self.present if ref.kind in REQUIRED_KINDS)
        named = tuple(kind for kind in self.overridden if kind in REQUIRED_KINDS)
        return self.model_copy(update={"present": kept, "overridden": named})

    def key(self) -> list[str]:
        """Return the part of a step's key that comes from its calibrations."""
        return [input_key(p.kind, p.recipe_key) for p in self.present]

    def user_decisions(self) -> list[str]:
        """Return the user's decisions about them, which are part of a product's identity."""
        return [
            *(f"named:{kind}" for kind in self.overridden),
            *(f"missing:{kind}" for kind in self.missing),
            *(f"disagrees:{one}" for one in self.disagreements),
        ]


class ScratchRef(Reference):
    """Planes of one frame between two steps, in a folder named after the key of its recipe."""

    frame: RawFrame
    key: str
    folder: Path
    metrics: dict[str, Metric] = Field(default_factory=dict)
    reused: bool = False

    @property
    def name(self) -> str:
        """The frame's name."""
        return self.frame.name
