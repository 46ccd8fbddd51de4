"""What tasks hand to each other: references, never pixels.

A reference is a path, a checksum or key and the few facts that the next step, the report and the Prefect UI
need. It is frozen and small.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from calib_store.model.records import input_key
from imaging.figures import Metric
from imaging.frames.facts import FrameFacts
from imaging.kinds import CalibrationKind, ProductKind


class Reference(BaseModel):
    """Base of the references."""

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
    """A file, frame or group that takes no part, and why."""

    name: str
    reason: str
    remedy: str = ""
    expected: bool = Field(default=False, description="no fault: an acquisition frame, a duplicate")


class Survey(Reference):
    """The frames of a night: those that can be reduced and those that cannot."""

    frames: tuple[RawFrame, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


class FrameSet(Reference):
    """Frames that are combined or reduced together."""

    label: str = Field(description="what a night observer would call it: 'dark 120 s 2013-11-20'")
    frames: tuple[RawFrame, ...]

    @property
    def first(self) -> RawFrame:
        """The frame that the product is named after."""
        return self.frames[0]

    @property
    def middle(self) -> RawFrame:
        """The frame in the middle of the set in time."""
        return sorted(self.frames, key=lambda f: f.facts.started)[len(self.frames) // 2]


class FlatSet(Reference):
    """The sets of one flat: lamp on and lamp off; in the K bands lamp off and darks like them."""

    label: str
    filter: str
    on: FrameSet | None
    off: FrameSet | None
    darks: FrameSet | None = None

    @property
    def thermal(self) -> bool:
        """The calibration unit's heat is the lamp, and darks take the place of the lamp-offs."""
        return self.on is None

    @property
    def first(self) -> FrameSet:
        """The set that the flat is named after: the one with light."""
        return self.light_and_none[0]

    @property
    def light_and_none(self) -> tuple[FrameSet, FrameSet | None]:
        """The set with light, and what is subtracted from it if there is any."""
        if self.on is not None:
            return self.on, self.off
        if self.off is None:
            raise ValueError(f"{self.label} has neither lamp-ons nor lamp-offs")
        return self.off, self.darks


class BpmSet(Reference):
    """The sets of one bad pixel mask."""

    label: str
    flat: FlatSet
    short_darks: FrameSet


class ScienceSet(Reference):
    """One field in one band."""

    label: str
    frames: FrameSet
    objects: tuple[str, ...]
    skies: tuple[str, ...]
    mode: str
    notes: tuple[str, ...] = ()

    def without(self, names: Collection[str]) -> ScienceSet:
        """The group without some of its frames."""
        if not names:
            return self
        kept = tuple(f for f in self.frames.frames if f.name not in names)
        return self.model_copy(
            update={
                "frames": self.frames.model_copy(update={"frames": kept}),
                "objects": tuple(n for n in self.objects if n not in names),
                "skies": tuple(n for n in self.skies if n not in names),
            }
        )


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
        default=(), description="the products whose place it took when it was made"
    )
    seconds: float = 0.0

    @property
    def uuid(self) -> UUID:
        """The id as the store has it."""
        return UUID(self.id)

    @property
    def name_and_id(self) -> str:
        """Name and first digits of the id, for people: several products may have one name."""
        return f"{self.name} ({self.id[:8]})"


class Calibrations(Reference):
    """The calibrations chosen for a group of frames; None where going on without was allowed."""

    dark: ProductRef | None = None
    bpm: ProductRef | None = None
    flat: ProductRef | None = None
    missing: tuple[CalibrationKind, ...] = ()
    overridden: tuple[CalibrationKind, ...] = Field(default=(), description="named by the user")
    reservations: tuple[str, ...] = Field(
        default=(), description="what speaks against those that were chosen"
    )
    disagreements: tuple[str, ...] = Field(
        default=(), description="in what a named calibration is of another configuration than the frames"
    )

    @property
    def present(self) -> tuple[ProductRef, ...]:
        """The calibrations there are."""
        return tuple(p for p in (self.dark, self.bpm, self.flat) if p is not None)

    def key(self) -> list[str]:
        """What of the calibrations goes into the key of a step that uses them."""
        return [input_key(p.kind, p.recipe_key) for p in self.present]

    def marks(self) -> list[str]:
        """What the user had to say about them; it is part of what a product says of itself."""
        return [
            *(f"named:{kind}" for kind in self.overridden),
            *(f"missing:{kind}" for kind in self.missing),
            *(f"disagrees:{told}" for told in self.disagreements),
        ]


class ScratchRef(Reference):
    """Planes of one frame between two steps, in a folder that is named after the key of its recipe."""

    frame: RawFrame
    key: str
    folder: Path
    metrics: dict[str, Metric] = Field(default_factory=dict)
    reused: bool = False

    @property
    def name(self) -> str:
        """The frame's name."""
        return self.frame.name
