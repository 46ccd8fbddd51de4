"""What a transfer says of the products and raw frames in it: its manifest, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from calib_store.decision_log import (
    FrameDecision,
    ProductDecision,
    decisions_on_frames,
    decisions_on_products,
)
from calib_store.products import NewProduct, software_version
from calib_store.records import Foreign, InputRef, Product
from calib_store.store import Store
from imaging.errors import StoreError
from imaging.facts import FrameFacts

_SHA256 = r"^[0-9a-f]{64}$"


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _read_earlier_version(given: Any, decision: type[BaseModel]) -> Any:
    """Read what versions 1 and 2 have in place of all decisions: the last one (``word``), or none for a candidate."""
    if not isinstance(given, dict) or not isinstance(given.get("word", 0), dict | None):
        return given
    word = given["word"]
    # The words about frames had members that only those about products need.
    decisions = [] if word is None else [{n: v for n, v in word.items() if n in decision.model_fields}]
    return {name: value for name, value in given.items() if name != "word"} | {"decisions": decisions}


class FrameEntry(_Entry):
    """A raw frame."""

    sha256: str = Field(pattern=_SHA256)
    name: str
    facts: FrameFacts | None
    quarantine: str | None
    header: dict[str, Any]
    decisions: tuple[FrameDecision, ...]

    @model_validator(mode="before")
    @classmethod
    def _earlier_version(cls, given: Any) -> Any:
        return _read_earlier_version(given, FrameDecision)


class InputEntry(_Entry):
    """What a product was made from: one of the three."""

    role: str
    frame: str | None = Field(default=None, pattern=_SHA256)
    product: UUID | None = None
    foreign: tuple[str, str] | None = None


class ProductEntry(_Entry):
    """A product."""

    kind: str
    name: str
    sha256: str = Field(pattern=_SHA256)
    size: int = Field(ge=0)
    recipe_key: str = Field(pattern=_SHA256)
    span: tuple[datetime, datetime]
    facts: FrameFacts
    inputs: tuple[InputEntry, ...]
    parameters: dict[str, Any]
    metrics: dict[str, Any]
    algorithm_version: str
    software_version: str
    flow_run_id: str | None
    gate: dict[str, Any] | None
    published: bool
    made_at: datetime
    provisional: str | None = None
    decisions: tuple[ProductDecision, ...]

    @model_validator(mode="before")
    @classmethod
    def _earlier_version(cls, given: Any) -> Any:
        return _read_earlier_version(given, ProductDecision)


class Manifest(_Entry):
    """What a transfer holds: products, each after those that it was made from, and raw frames."""

    format: Literal["nirflow-products"] = "nirflow-products"
    version: Literal[1, 2, 3] = 3
    made_at: datetime
    software: str
    products: tuple[ProductEntry, ...]
    frames: tuple[FrameEntry, ...]


def manifest_of(store: Store, wanted: Sequence[Product]) -> Manifest:
    """The manifest of products and their ancestors."""
    ordered: dict[UUID, Product] = {}
    frames: set[str] = set()

    def visit(product: Product) -> None:
        if product.id in ordered:
            return
        for ref in store.inputs_of(product):
            if isinstance(ref.source, UUID):
                visit(store.get(ref.source))
            elif isinstance(ref.source, str):
                frames.add(ref.source)
        ordered[product.id] = product

    for product in wanted:
        visit(product)
    known = store.frames.with_sha256s(frames)
    decisions = store.database.read(lambda connection: decisions_on_frames(connection, frames))
    return Manifest(
        made_at=datetime.now(UTC),
        software=software_version(),
        products=tuple(product_entry(store, product) for product in ordered.values()),
        frames=tuple(
            FrameEntry(
                sha256=sha256, name=frame.name, facts=frame.facts, quarantine=frame.quarantine,
                header=store.frames.header_of(sha256),
                decisions=decisions.get(sha256, ()),
            )
            for sha256, frame in sorted(known.items())
        ),
    )  # fmt: skip


def product_entry(store: Store, product: Product) -> ProductEntry:
    """A product of the store as a manifest has it."""
    given = product.model_dump(include=set(ProductEntry.model_fields))
    inputs = [
        InputEntry(
            role=ref.role,
            frame=ref.source if isinstance(ref.source, str) else None,
            product=ref.source if isinstance(ref.source, UUID) else None,
            foreign=(ref.source.name, ref.source.checksum) if isinstance(ref.source, Foreign) else None,
        )
        for ref in store.inputs_of(product)
    ]
    decisions = store.database.read(lambda connection: decisions_on_products(connection, [product.id]))
    return ProductEntry.model_validate(given | {"inputs": inputs, "decisions": decisions.get(product.id, ())})


def new_product(entry: ProductEntry, author: str) -> NewProduct:
    """A product of a manifest, to be added by somebody."""
    return NewProduct(
        kind=entry.kind, name=entry.name, recipe_key=entry.recipe_key, span=entry.span, facts=entry.facts,
        inputs=[_ref(entry, one) for one in entry.inputs], parameters=entry.parameters, metrics=entry.metrics,
        algorithm_version=entry.algorithm_version, author=author, flow_run_id=entry.flow_run_id,
        gate=entry.gate, published=entry.published, software=entry.software_version, made_at=entry.made_at,
        provisional=entry.provisional,
    )  # fmt: skip


def _ref(entry: ProductEntry, one: InputEntry) -> InputRef:
    sources: list[str | UUID | Foreign] = [s for s in (one.frame, one.product) if s is not None]
    sources += [Foreign(*one.foreign)] if one.foreign is not None else []
    if len(sources) != 1:
        raise StoreError(
            f"An input of {entry.name} in the manifest is not one thing.", remedy="Export it again."
        )
    return InputRef(one.role, sources[0])
