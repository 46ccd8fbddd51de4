"""What goes into the store and what comes out of it, as frozen records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from calib_store.model.values import json_digest
from imaging.errors import StoreError
from imaging.frames.facts import FrameFacts

if TYPE_CHECKING:
    from imaging.pixels.bright_pixels import BrightPixels

Status = Literal["candidate", "certified", "rejected", "superseded"]
#: Those of products that nothing speaks against.
COUNTING: Final[tuple[Status, ...]] = ("candidate", "certified")
#: Why an imported product that nobody here has approved serves only as a last resort.
IMPORTED: Final = "imported from another store, and neither added nor certified here"


class Tier(IntEnum):
    """The most serious objection to a product; the choice takes it into account (`calib_store.rules.order`)."""

    SOUND = 0
    DOUBTFUL = 1
    """It failed the comparison with a certified product, or its frames disagree."""
    PROVISIONAL = 2
    """Made as an exception (without a calibration, with one named by a user, as of an earlier time), or imported."""
    TAINTED = 3
    """Something that it was made from was rejected."""


class KnownFile(NamedTuple):
    """A raw file as it was last seen: if size and time of the last change still match, so does the content."""

    size: int
    changed_ns: int
    sha256: str


@dataclass(frozen=True)
class FrameRecord:
    """A raw frame to be recorded.

    Parameters
    ----------
    path
        The file.
    sha256
        Of the uncompressed bytes.
    size, changed_ns
        Size of the file as stored (compressed or not) and time of its last change (`imaging.io.examine.last_change`),
        to detect later whether it has changed.
    facts
        What the frame is, or None if that cannot be determined; ``quarantine`` is then the reason.
    header
        Keywords and values of the header, to be stored.
    quarantine
        Why the frame must not be used.
    bright
        Its bright pixels (`imaging.pixels.bright_pixels`); None if they were not looked for.
    """

    path: Path
    sha256: str
    size: int
    changed_ns: int
    facts: FrameFacts | None
    header: Mapping[str, Any] = field(default_factory=dict)
    quarantine: str | None = None
    bright: BrightPixels | None = None


@dataclass(frozen=True)
class IngestReport:
    """What `Store.ingest` found.

    Parameters
    ----------
    new, known
        Frames (not files) that are new to the store, and those that it already knew.
    duplicates
        Frames given as several files: sha256 and paths; the first path is the one to use.
    renamed_content
        Names under which the store has seen different contents: name and the sha256 of each such frame. They
        are different frames.
    """

    new: int
    known: int
    duplicates: tuple[tuple[str, tuple[Path, ...]], ...]
    renamed_content: tuple[tuple[str, tuple[str, ...]], ...]

    def messages(self) -> tuple[str, ...]:
        """Return messages about duplicates and reused names, one line each."""
        twice = [
            f"{paths[0].name}: the same frame as {', '.join(str(p) for p in paths[1:])}; used once"
            for _, paths in self.duplicates
        ]
        other = [
            f"{name}: {len(shas)} different files have had this name "
            f"({', '.join(sha[:12] for sha in shas)}); they are different frames"
            for name, shas in self.renamed_content
        ]
        return (*twice, *other)


@dataclass(frozen=True)
class Foreign:
    """An input that the store does not have, of a product that was made elsewhere.

    The checksum is ``sha256:`` or ``md5:`` and the digits, of the file as its maker read it; empty if unknown.
    """

    name: str
    checksum: str = ""


@dataclass(frozen=True)
class InputRef:
    """One input of a product: a raw frame (its sha256), a product (its id) or a foreign file, and its role."""

    role: str
    source: str | UUID | Foreign


class Frame(BaseModel):
    """A raw frame in the store. Times are UTC."""

    model_config = ConfigDict(frozen=True)

    sha256: str = Field(description="of the uncompressed bytes: the frame's identity")
    name: str = Field(description="file name without a compression suffix")
    facts: FrameFacts | None = Field(description="what it is, or None if that cannot be determined")
    quarantine: str | None = Field(description="why the software cannot use it")
    rejected: str | None = Field(description="why a user rejected it")
    paths: tuple[Path, ...] = Field(description="where it was seen")
    added_at: datetime


class Run(BaseModel):
    """The report of a finished run of a night's flow. Times are UTC."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    nights: tuple[date, ...] = Field(description="nights of the frames that it reduced")
    flow: str = Field(description="name of the flow")
    sequence: str | None = Field(
        default=None, description="the sequence of exposures that it reduced, if only one"
    )
    waits_for: tuple[str, ...] = Field(default=(), description="kinds of calibration that it did not find")
    started: datetime
    ended: datetime
    report: dict[str, Any] = Field(description="the report as JSON: products, failures, what was left out")
    frames: frozenset[str] = Field(default=frozenset(), description="sha256 of its raw frames; not read back")


class Product(BaseModel):
    """A product in the store. Times are UTC."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    kind: str
    name: str = Field(description="file name")
    sha256: str = Field(description="of the file, and its name among the objects")
    size: int = Field(description="bytes")
    recipe_key: str
    status: Status
    validity: tuple[datetime | None, datetime | None] | None = Field(
        default=None, description="when a certified product serves: from (included) and to (excluded)"
    )
    rule: str | None = Field(default=None, description="rule of association by which it serves")
    keys: dict[str, Any] = Field(default_factory=dict, description="facts that a frame must have")
    span: tuple[datetime, datetime] = Field(description="beginning and end of its inputs' exposures")
    middle: datetime
    facts: dict[str, Any]
    metrics: dict[str, Any]
    parameters: dict[str, Any]
    algorithm_version: str
    software_version: str
    flow_run_id: str | None = None
    gate: dict[str, Any] | None = Field(
        default=None, description="comparison with a certified product: passed, reasons, figures, reference"
    )
    published: bool = Field(default=False, description="by the observatory, not made of frames")
    made_at: datetime
    damaged: bool = Field(default=False, description="its file was found missing or damaged")
    doubtful: bool = Field(
        default=False,
        description="it failed the comparison with a product that is certified now, or its frames disagree",
    )
    provisional: str | None = Field(default=None, description="why it serves others only as a last resort")
    tier: Tier = Field(default=Tier.SOUND, description="the most serious objection to it")
    variant: int = Field(
        default=0, description="number of the parameters that it and its inputs were made with"
    )

    @property
    def counts(self) -> bool:
        """Whether it is neither rejected nor superseded."""
        return self.status in COUNTING

    @property
    def disputed(self) -> bool:
        """Whether its own frames disagree, so that only a user can judge it."""
        gate = self.gate or {}
        return gate.get("passed") is False and gate.get("reference") is None

    @property
    def state(self) -> str:
        """Status and all objections, for display."""
        against = {
            "made with something rejected": self.tier is Tier.TAINTED, "provisional": self.provisional is not None,
            "doubtful": self.doubtful, "damaged": self.damaged,
        }  # fmt: skip
        return ", ".join([self.status, *(label for label, holds in against.items() if holds)])

    @property
    def short_id(self) -> str:
        """First digits of the id, by which a user may refer to it."""
        return str(self.id)[:8]

    @property
    def name_and_id(self) -> str:
        """Name and first digits of the id, for display: several products may have the same name."""
        return f"{self.name} ({self.short_id})"

    @property
    def described(self) -> str:
        """Id, name, status and time, to distinguish it from others of the same name."""
        return f"{self.id} ({self.name}, {self.status}, made {self.made_at:%Y-%m-%d %H:%M})"


@dataclass(frozen=True)
class Candidate:
    """A product that was considered for a frame.

    Parameters
    ----------
    product
        The product.
    serves
        Whether it meets every rule.
    taken
        Whether it was chosen.
    reason
        Why it was taken, why another one was, or the first rule that it fails, with both values.
    """

    product: Product
    serves: bool
    taken: bool
    reason: str

    def as_json(self) -> dict[str, Any]:
        """Return the candidate for the record of a decision."""
        return {
            "product": str(self.product.id),
            "name": self.product.name,
            "status": self.product.status,
            "serves": self.serves,
            "taken": self.taken,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Match:
    """The product of a kind that serves a frame, with the candidates."""

    frame: str
    kind: str
    product: Product | None
    candidates: tuple[Candidate, ...]
    rules_version: str
    as_of: datetime | None = None
    order: int = 0


@dataclass(frozen=True)
class Override:
    """A user's choice that overrides the rules."""

    author: str
    reason: str


@dataclass(frozen=True)
class Decision:
    """Which product was taken for a frame, if any served it."""

    frame_sha256: str
    match: Match
    product: Product | None
    override: Override | None = None
    flow_run_id: str | None = None


@dataclass(frozen=True)
class StatusChange:
    """One line of the log of a product's or a frame's status.

    Attributes
    ----------
    by
        The product that took the place of one that is superseded.
    because
        What went bad or was reinstated, if the status changed for that reason: id of a product, sha256 of a frame.
    automatic
        Whether the store made the change by its own rules; it reverts it when the reason no longer holds.
    """

    status: str
    validity: tuple[datetime | None, datetime | None] | None
    author: str
    reason: str
    changed_at: datetime
    by: UUID | None = None
    because: str | None = None
    automatic: bool = False


@dataclass(frozen=True)
class LineageEdge:
    """One step of a lineage: a product, and a frame, product or foreign file that it was made from.

    If it is neither a frame nor a product, the store does not have it and knows only its name and checksum.
    """

    depth: int
    product_id: UUID
    role: str
    frame_sha256: str | None
    input_product_id: UUID | None
    name: str
    checksum: str = ""


@dataclass(frozen=True)
class Lineage:
    """All that a product was made from, nearest first."""

    edges: tuple[LineageEdge, ...]

    @property
    def frames(self) -> tuple[str, ...]:
        """Sha256 of every raw frame, each once."""
        return tuple(dict.fromkeys(e.frame_sha256 for e in self.edges if e.frame_sha256 is not None))

    @property
    def products(self) -> tuple[UUID, ...]:
        """Id of every product in the lineage, each once."""
        return tuple(dict.fromkeys(e.input_product_id for e in self.edges if e.input_product_id is not None))


def input_key(role: str, identity: str) -> str:
    """Return an input's part of a recipe key: its role, and the sha256 of a frame or the recipe key of a product."""
    return f"{role}:{identity}"


def recipe_key(
    kind: str,
    input_sha256s: Sequence[str],
    parameters: BaseModel | Mapping[str, Any],
    algorithm_version: str,
) -> str:
    """Return the identity of a recipe: what is made, from what (in order), how, and by which algorithm.

    The same key means the same product. Parameters are serialized as JSON with sorted names, so a model and its
    dump give the same key.

    Raises
    ------
    StoreError
        If the parameters contain something that JSON cannot represent (NaN, an object).
    """
    values = parameters.model_dump(mode="json") if isinstance(parameters, BaseModel) else dict(parameters)
    recipe = {
        "kind": kind,
        "inputs": list(input_sha256s),
        "parameters": values,
        "algorithm": algorithm_version,
    }
    try:
        return json_digest(recipe)
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"The parameters of a {kind} cannot be represented as JSON: {error}.",
            remedy="Use finite numbers, texts, lists and tables.",
        ) from error
