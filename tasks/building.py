"""A product: found by its recipe in the store, or built, added and placed in the output folder."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from prefect import runtime
from prefect.states import Completed, State
from pydantic import BaseModel

from calib_store.gate import verdict
from calib_store.products import NewProduct
from calib_store.records import InputRef, LineageEdge, Product, recipe_key
from calib_store.store import Store
from imaging.image import BadPixelMask, Image
from imaging.marks import Cards, Record
from imaging.parameters import StepParameters
from imaging.products import ProductFile, place_product, product_name, write_product
from imaging.rawio import RawFile, open_raw
from imaging.tables import HistoryRow, LineageRow, ProvenanceRow, Table, stamped
from tasks.artifacts import tell_product
from tasks.complete_sets import complete_set, refer_to_complete_set
from tasks.references import Calibrations, FrameSet, LeftOut, Metric, ProductKind, ProductRef, RawFrame
from tasks.standing import certified, counting, not_rejected, warnings_of
from tasks.step import step, timed
from tasks.workspace import Workspace

logger = logging.getLogger(__name__)

#: Keys under which the store keeps, beside a product's figures, what the report says about it.
_WARNINGS: Final = "warnings"
_LEFT_OUT: Final = "left_out"


@dataclass(frozen=True)
class Ingredient:
    """A raw frame and what it is for: dark, lamp_on, lamp_off, short_dark, science or sky."""

    role: str
    frame: RawFrame


@dataclass(frozen=True)
class Recipe:
    """All that decides what a product is.

    Parameters
    ----------
    kind
        Kind of product.
    label
        What a night observer would call it.
    version
        Version of the algorithm; raised whenever the same inputs and parameters give other pixels.
    ingredients
        Raw frames with their roles; the product is named after the first.
    parameters
        Step to parameters.
    calibrations
        Products that are applied.
    """

    kind: ProductKind
    label: str
    version: int
    ingredients: Sequence[Ingredient]
    parameters: Mapping[str, StepParameters]
    calibrations: Calibrations = field(default_factory=Calibrations)

    @cached_property
    def key(self) -> str:
        """The recipe key."""
        inputs = [f"{i.role}:{i.frame.sha256}" for i in self.ingredients]
        inputs += [*self.calibrations.key(), *self.calibrations.marks()]
        return recipe_key(self.kind, inputs, self.values, str(self.version))

    @property
    def values(self) -> dict[str, Any]:
        """The parameters as JSON values."""
        return {name: model.model_dump(mode="json") for name, model in self.parameters.items()}

    @property
    def inputs(self) -> list[InputRef]:
        """The raw frames and products, as the store has them."""
        frames = [InputRef(i.role, i.frame.sha256) for i in self.ingredients]
        return frames + [InputRef(p.kind, p.uuid) for p in self.calibrations.present]

    @property
    def first(self) -> RawFrame:
        """The frame that the product is named after."""
        return self.ingredients[0].frame

    @property
    def span(self) -> tuple[datetime, datetime]:
        """Beginning and end of the inputs' exposures."""
        facts = [i.frame.facts for i in self.ingredients]
        return min(f.started for f in facts), max(f.ended for f in facts)


@dataclass(frozen=True)
class Built:
    """What the science made of a recipe."""

    image: Image | BadPixelMask
    metrics: Mapping[str, Metric]
    warnings: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    linearised: bool = True
    cards: Cards = field(default_factory=dict)
    object_mask: NDArray[np.uint8] | None = None
    tables: Mapping[str, Table] = field(default_factory=dict)
    combined: tuple[str, ...] | None = None


def find_or_build(
    recipe: Recipe, build: Callable[[], Built], workspace: Workspace
) -> ProductRef | State[ProductRef]:
    """Give the product of ``recipe``: from the store, or built and added to it.

    Of several processes that want the same product one builds it; the others wait for the lock and take it. A
    calibration of a part of a set is not made where the store has the one of the complete set.

    Returns
    -------
    ProductRef or State
        The reference; in a state named Reused where nothing had to be built.
    """
    with step(recipe.kind, recipe.label, workspace) as current:
        complete = complete_set(recipe, workspace)
        product = complete or existing(recipe, workspace)
        current.reused = product is not None
        if product is None:
            store = workspace.store()
            with store.lock(recipe.key, waiting=lambda: logger.info("%s: in another run", recipe.label)):
                product = existing(recipe, workspace)
                current.reused = product is not None
                if product is None:
                    product = _make(recipe, build, workspace, store)
        product = certified(product, workspace)
        ref = placed(product, recipe, workspace, reused=current.reused)
        if complete is not None:
            ref = refer_to_complete_set(ref, complete, recipe, workspace)
    ref = ref.model_copy(update={"seconds": current.seconds})
    if not ref.reused:
        tell_product(ref)
    return Completed(name="Reused", data=ref) if ref.reused else ref


@contextmanager
def open_frames(workspace: Workspace, *sets: FrameSet | None) -> Iterator[list[list[RawFile]]]:
    """Open the raw frames of some sets, each file once; of no set there are none."""
    with ExitStack() as stack:
        yield [
            [
                stack.enter_context(open_raw(workspace.readable(f), name=f.name, shape=None, sha256=f.sha256))
                for f in (part.frames if part is not None else ())
            ]
            for part in sets
        ]


def figures(metrics: BaseModel) -> dict[str, Metric]:
    """The figures of a step as flat names and plain values: ``pedestal.value`` becomes ``pedestal``."""
    told: dict[str, Metric] = {}
    for name, value in metrics.model_dump(mode="json").items():
        if isinstance(value, dict):
            told |= {
                name if inner == "value" else f"{name}_{inner}": v
                for inner, v in value.items()
                if isinstance(v, (int, float, str)) and v != ""
            }
        elif value is None or isinstance(value, (int, float, str)):
            told[name] = value
    return told


def existing(recipe: Recipe, workspace: Workspace) -> Product | None:
    """The recipe's product where the store has it, whole.

    Raises
    ------
    StoreError
        Where a person rejected it: made again it would be the same.
    """
    store = workspace.store()
    return store.whole(not_rejected(store.known(recipe.key), workspace))


def placed(product: Product, recipe: Recipe, workspace: Workspace, *, reused: bool) -> ProductRef:
    """Copy a product, and its preview, to the output folder and refer to it; it counts again, where it may."""
    product, instead_of = counting(product, workspace)
    own = workspace.store().file_of(product)
    folder = workspace.folder_of(recipe.first.facts.night)
    folder.mkdir(parents=True, exist_ok=True)
    place = place_product(own, folder / product.name, key=product.recipe_key, overwrite=workspace.overwrite)
    output = place.path
    preview = output.with_suffix(".png") if workspace.previews else None
    if preview is not None and not (preview.is_file() and place.outcome == "unchanged"):
        from imaging.preview import preview_product  # pillow is slow to import

        with timed("preview", recipe.label), ProductFile(own) as file:
            preview_product(preview, file, title=output.stem)
    left_out = [LeftOut.model_validate(one) for one in product.metrics.get(_LEFT_OUT, [])]
    return ProductRef(
        id=str(product.id),
        kind=recipe.kind,
        name=product.name,
        sha256=product.sha256,
        recipe_key=product.recipe_key,
        output=output,
        preview=preview,
        label=recipe.label,
        inputs=tuple(i.frame.name for i in recipe.ingredients),
        calibrations=tuple(p.name for p in recipe.calibrations.present),
        metrics={k: v for k, v in product.metrics.items() if k not in (_WARNINGS, _LEFT_OUT)},
        warnings=(*product.metrics.get(_WARNINGS, ()), *warnings_of(product, workspace)),
        left_out=tuple(left_out),
        reused=reused,
        instead_of=instead_of,
    )


def _make(recipe: Recipe, build: Callable[[], Built], workspace: Workspace, store: Store) -> Product:
    began = datetime.now(UTC)
    with ThreadPoolExecutor(1, thread_name_prefix="md5") as pool:
        # DRAGONS' provenance wants md5 sums; hashing releases the interpreter while the kernels run.
        sums = pool.submit(lambda: [_md5_of_frame(i.frame, workspace) for i in recipe.ingredients])
        built = build()
        provenance = _provenance(recipe, sums.result(), began, workspace)
    warnings = (*_missing(recipe.calibrations), *built.warnings)
    applied = {p.kind: p.name for p in recipe.calibrations.present}
    record = Record(
        kind=recipe.kind,
        facts=recipe.first.facts,
        inputs=built.combined or tuple(i.frame.name for i in recipe.ingredients),
        stamp=datetime.now(UTC),
        version=version("nirflow"),
        key=recipe.key,
        span=recipe.span,
        linearised=built.linearised,
        cards={**built.cards, **_warning_cards(warnings)},
        history=_history(recipe, began),
        provenance=provenance,
        lineage=_lineage(recipe, store),
        dark=applied.get("dark", ""),
        flat=applied.get("flat", ""),
        bpm=applied.get("bpm", ""),
    )
    name = product_name(recipe.first.name, recipe.kind)
    said: dict[str, Any] = {
        _WARNINGS: list(warnings),
        _LEFT_OUT: [one.model_dump() for one in built.left_out],
    }
    workspace.staging.mkdir(parents=True, exist_ok=True)
    with timed("write", recipe.label), TemporaryDirectory(dir=workspace.staging) as folder:
        written = write_product(
            Path(folder) / name, built.image, record, object_mask=built.object_mask, tables=built.tables
        )
        new = NewProduct(
            kind=recipe.kind,
            name=name,
            facts=recipe.first.facts,
            span=recipe.span,
            inputs=recipe.inputs,
            parameters=recipe.values,
            metrics={**built.metrics, **{k: v for k, v in said.items() if v}},
            recipe_key=recipe.key,
            algorithm_version=str(recipe.version),
            flow_run_id=str(runtime.flow_run.id) if runtime.flow_run.id else None,
        )
        new = replace(new, gate=verdict(store, recipe.kind, written.path, new.facts, workspace.gate))
        product = store.add(new, written.path, move=True)
    return product


def _missing(calibrations: Calibrations) -> list[str]:
    without = [f"made without a {kind}, as the user allowed" for kind in calibrations.missing]
    named = [f"the {kind} was named by the user" for kind in calibrations.overridden]
    doubtful = [f"differs from the certified one: {told}" for told in calibrations.doubtful]
    return without + named + doubtful + [f"used as named: {told}" for told in calibrations.disagreements]


def _warning_cards(warnings: Sequence[str]) -> dict[str, str]:
    return {f"NFWARN{n}": text for n, text in enumerate(warnings[:9], start=1)}


def _history(recipe: Recipe, began: datetime) -> list[HistoryRow]:
    now = stamped(datetime.now(UTC))
    said = {name: model.model_dump_json() for name, model in recipe.parameters.items()}
    if recipe.calibrations.marks():
        fields = {"missing", "overridden", "disagreements"}
        said["calibrations"] = recipe.calibrations.model_dump_json(include=fields)
    return [HistoryRow(name, told, stamped(began), now) for name, told in said.items()]


def _provenance(
    recipe: Recipe, sums: Sequence[str], stamp: datetime, workspace: Workspace
) -> list[ProvenanceRow]:
    rows = [
        ProvenanceRow(stamped(stamp), i.frame.name, md5, "nirflow")
        for i, md5 in zip(recipe.ingredients, sums, strict=True)
    ]
    return rows + [
        ProvenanceRow(stamped(stamp), p.name, _md5(workspace.file_of(p)), "nirflow")
        for p in recipe.calibrations.present
    ]


def _lineage(recipe: Recipe, store: Store) -> list[LineageRow]:
    """Every ancestor: the frames, the calibrations, and what those were made from."""
    own = product_name(recipe.first.name, recipe.kind)
    rows = [LineageRow(i.frame.name, i.frame.sha256, i.role, own) for i in recipe.ingredients]
    for calibration in recipe.calibrations.present:
        rows.append(LineageRow(calibration.name, calibration.sha256, calibration.kind, own))
        product = store.get(calibration.uuid)
        edges = store.lineage(product).edges
        names = {product.id: product.name}
        names |= {e.input_product_id: e.name for e in edges if e.input_product_id is not None}
        for edge in edges:
            rows.append(
                LineageRow(edge.name, _identity(edge, store), edge.role, names.get(edge.product_id, ""))
            )
    return list(dict.fromkeys(rows))


def _identity(edge: LineageEdge, store: Store) -> str:
    """The sha256 of an ancestor; of one that the store does not have, the checksum that is known, if any."""
    if edge.frame_sha256 is not None:
        return edge.frame_sha256
    if edge.input_product_id is not None:
        return store.get(edge.input_product_id).sha256
    return edge.checksum.removeprefix("sha256:")


def _md5_of_frame(frame: RawFrame, workspace: Workspace) -> str:
    """A raw frame's md5 sum; lamp flats are in two products, so it is kept for the process."""
    if frame.sha256 not in _md5_sums:
        _md5_sums[frame.sha256] = _md5(workspace.readable(frame))
    return _md5_sums[frame.sha256]


_md5_sums: Final[dict[str, str]] = {}


def _md5(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
