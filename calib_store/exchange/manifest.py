"""The manifest of a transfer: a description of its products and raw frames, as JSON.

In an accepted manifest every number is finite, every text short and printable, every name a plain file name and every
time plausible, and every product comes after those that it was made from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from calib_store.exchange.decision_log import (
    FrameDecision,
    ProductDecision,
    StatusDecision,
    decisions_on_frames,
    decisions_on_products,
)
from calib_store.model.records import Foreign, InputRef, Product
from calib_store.model.values import problem_of, problem_of_facts, problem_of_json
from calib_store.store import Store
from calib_store.tables.products import NewProduct, product_id, software_version
from imaging.errors import StoreError
from imaging.frames.facts import FrameFacts
from imaging.frames.find_files import is_plain_name
from imaging.io.limits import product_bytes
from imaging.kinds import ProductKind

_SHA256 = r"^[0-9a-f]{64}$"
_CHECKSUM = r"^((sha256|md5):[0-9a-f]{1,64})?$"
#: Largest manifest that is read, bytes, and the most values in it: thousands of products and frames with their headers.
LARGEST_MANIFEST: Final = 64 << 20
_MOST_VALUES: Final = 3_000_000
#: Longest text, and longest author and role, characters.
_LONGEST_TEXT: Final = 20_000
_LONGEST_WORD: Final = 300
#: Earliest time of an exposure or product.
_FIRST_YEAR: Final = 1990
#: Largest difference by which another machine's clock may be ahead.
_CLOCKS: Final = timedelta(days=1)


def _plain_name(name: str) -> str:
    if not is_plain_name(name):
        raise ValueError(f"{name!r} is not a plain file name: letters, digits, '.', '_', '+' and '-' only")
    return name


_Word = Annotated[str, Field(max_length=_LONGEST_WORD)]


def _size(size: int) -> int:
    if size > product_bytes():
        raise PydanticCustomError(
            "less_than_equal", "Input should be less than or equal to {most}", {"most": product_bytes()}
        )
    return size


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _read_earlier_version(given: Any, decision: type[BaseModel]) -> Any:
    """Convert the single decision of versions 1 and 2, absent for a candidate, to a list of decisions."""
    if not isinstance(given, dict) or not isinstance(given.get("word", 0), dict | None):
        return given
    decided = given["word"]
    # Decisions about frames had members that only those about products need.
    decisions = [] if decided is None else [{n: v for n, v in decided.items() if n in decision.model_fields}]
    return {name: value for name, value in given.items() if name != "word"} | {"decisions": decisions}


class FrameEntry(_Entry):
    """A raw frame."""

    sha256: str = Field(pattern=_SHA256)
    name: _Word
    facts: FrameFacts | None
    quarantine: str | None
    header: dict[str, Any]
    decisions: tuple[FrameDecision, ...]

    @model_validator(mode="before")
    @classmethod
    def _earlier_version(cls, given: Any) -> Any:
        return _read_earlier_version(given, FrameDecision)


class InputEntry(_Entry):
    """An input of a product: one of the three."""

    role: _Word
    frame: str | None = Field(default=None, pattern=_SHA256)
    product: UUID | None = None
    foreign: tuple[_Word, Annotated[str, Field(pattern=_CHECKSUM)]] | None = None


class ProductEntry(_Entry):
    """A product."""

    kind: ProductKind
    name: Annotated[str, AfterValidator(_plain_name)]
    sha256: str = Field(pattern=_SHA256)
    size: Annotated[int, AfterValidator(_size)] = Field(ge=0)
    recipe_key: str = Field(pattern=_SHA256)
    span: tuple[AwareDatetime, AwareDatetime]
    facts: FrameFacts
    inputs: tuple[InputEntry, ...]
    parameters: dict[str, Any]
    metrics: dict[str, Any]
    algorithm_version: _Word
    software_version: _Word
    flow_run_id: _Word | None
    gate: dict[str, Any] | None
    published: bool
    made_at: AwareDatetime
    provisional: str | None = None
    decisions: tuple[ProductDecision, ...]

    @model_validator(mode="before")
    @classmethod
    def _earlier_version(cls, given: Any) -> Any:
        return _read_earlier_version(given, ProductDecision)


class Manifest(_Entry):
    """Contents of a transfer: products, each after its inputs, and raw frames."""

    format: Literal["nirflow-products"] = "nirflow-products"
    version: Literal[1, 2, 3] = 3
    made_at: AwareDatetime
    software: _Word
    products: tuple[ProductEntry, ...]
    frames: tuple[FrameEntry, ...]


def manifest_text(manifest: Manifest) -> bytes:
    """Return the manifest as JSON."""
    return json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False).encode()


def read_manifest(text: bytes) -> Manifest:
    """Read the manifest of another store.

    Characters that are not printable are escaped: they would reach terminals, headers and pages.

    Raises
    ------
    StoreError
        If it is invalid; the message has the place in it.
    """
    if text.count(b",") + text.count(b"[") + text.count(b"{") > _MOST_VALUES:
        raise StoreError(f"more than {_MOST_VALUES} values.", remedy="Export fewer products at a time.")
    try:
        given = json.loads(text, parse_constant=_finite, parse_float=_finite)
        manifest = Manifest.model_validate(readable(given))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise StoreError(f"{place}: {first['msg']}.", remedy="Export it again where it was made.") from None
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{error}.", remedy="Export it again where it was made.") from None
    for problem in _problems(manifest):
        raise StoreError(f"{problem}.", remedy="Export it again where it was made.")
    return manifest


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is not a finite number")
    return number


def readable(given: Any) -> Any:
    """Return a JSON value with printable texts; refuse long texts."""
    if isinstance(given, str):
        if len(given) > _LONGEST_TEXT:
            raise ValueError(f"a text of {len(given)} characters, which begins with {given[:40]!r}")
        return given if given.isprintable() else "".join(map(_escaped, given))
    if isinstance(given, list):
        return [readable(value) for value in given]
    if isinstance(given, dict):
        return {readable(name): readable(value) for name, value in given.items()}
    return given


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


def _problems(manifest: Manifest) -> Iterator[str]:
    """Yield contradictions between the entries of a manifest."""
    frames: set[str] = set()
    for frame in manifest.frames:
        if frame.sha256 in frames:
            yield f"the raw frame {frame.name} is named twice"
        wrong = problem_of_json(frame.header) or (frame.facts and problem_of_facts(frame.facts))
        if wrong:
            yield f"{frame.name}: {wrong}"
        frames.add(frame.sha256)
    names: dict[str, str] = {}
    known: set[UUID] = set()
    for product in manifest.products:
        if names.setdefault(product.sha256, product.name) != product.name:
            yield f"{names[product.sha256]} and {product.name} are the same file"
        if (own := product_id(product.recipe_key)) in known:
            yield f"two products have the recipe key of {product.name}"
        wrong = problem_of(
            facts=product.facts, metrics=product.metrics, parameters=product.parameters, gate=product.gate
        )
        if wrong is not None:
            yield f"{product.name}: {wrong}"
        if product.span[0] > product.span[1]:
            yield f"{product.name}: its exposures end before they begin"
        for moment in (*product.span, product.made_at):
            if not _can_be(moment):
                yield f"{product.name}: taken or made at {moment}"
        for one in product.inputs:
            if sum(source is not None for source in (one.frame, one.product, one.foreign)) != 1:
                yield f"an input of {product.name} is not exactly one frame, product or foreign file"
            if one.product == own:
                yield f"{product.name} is named among its own inputs"
            if one.product is not None and one.product not in known:
                yield f"{product.name} comes before one of its inputs, or without it"
            if one.frame is not None and one.frame not in frames:
                yield f"{product.name} was made from a raw frame that the manifest does not describe"
        for decision in product.decisions:
            if (problem := _decision_problem(decision)) is not None:
                yield f"{product.name}: {problem}"
        known.add(own)
    for frame in manifest.frames:
        for one_decision in frame.decisions:
            if (problem := _decision_problem(one_decision)) is not None:
                yield f"{frame.name}: {problem}"


def _can_be(moment: datetime) -> bool:
    """Return whether a time is plausible for a product or decision."""
    if moment.tzinfo is None or moment.year < _FIRST_YEAR:
        return False
    return moment <= datetime.now(UTC) + _CLOCKS


def _decision_problem(decision: StatusDecision) -> str | None:
    if len(decision.author) > _LONGEST_WORD:
        return f"an author of {len(decision.author)} characters"
    if not _can_be(decision.changed_at):
        return f"decided at {decision.changed_at}"
    validity = getattr(decision, "validity", None) or ()
    if any(side is not None and side.tzinfo is None for side in validity):
        return "a validity without a time zone"
    return None


def manifest_of(store: Store, wanted: Sequence[Product]) -> Manifest:
    """Return the manifest of products and their ancestors."""
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
    """Return the manifest's entry for a product of the store."""
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
    """Return the product of a manifest's entry, to be added by an author."""
    return NewProduct(
        kind=entry.kind, name=entry.name, recipe_key=entry.recipe_key, span=entry.span, facts=entry.facts,
        inputs=[_ref(one) for one in entry.inputs], parameters=entry.parameters, metrics=entry.metrics,
        algorithm_version=entry.algorithm_version, author=author, flow_run_id=entry.flow_run_id,
        gate=entry.gate, published=entry.published, software=entry.software_version, made_at=entry.made_at,
        provisional=entry.provisional,
    )  # fmt: skip


def _ref(one: InputEntry) -> InputRef:
    sources: list[str | UUID | Foreign] = [s for s in (one.frame, one.product) if s is not None]
    sources += [Foreign(*one.foreign)] if one.foreign is not None else []
    (source,) = sources  # `read_manifest` has checked that there is one
    return InputRef(one.role, source)
