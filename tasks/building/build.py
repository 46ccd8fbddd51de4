"""Products found in the store by their recipe, or built, added to it and copied to the output folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from prefect import runtime
from prefect.states import Completed, State

from calib_store.curation.compare import doubted, verdict
from calib_store.exchange.acceptance import check_readable
from calib_store.model.records import InputRef, Product
from calib_store.model.values import packed_exposures
from calib_store.private import private_folder
from calib_store.store import Store
from calib_store.tables.products import NewProduct
from imaging.figures import Metric
from imaging.frames.facts import FrameFacts
from imaging.io.raw_file import RawFile, open_raw
from imaging.pixels.image import BadPixelMask, Image
from imaging.products.header_cards import Cards, Record
from imaging.products.product_file import ProductFile, product_name, write_product
from imaging.products.product_tables import HistoryRow, Plane, Table, stamped
from tasks.building.complete_sets import complete_set, refer_to_complete_set
from tasks.building.plain_names import place
from tasks.building.product_status import certified, confirmed, not_rejected, warnings_of
from tasks.building.provenance import lineage, provenance
from tasks.building.recipe import OWN_STEPS, Ingredient, Recipe, provisional, rejected_meanwhile
from tasks.support.artifacts import publish_product
from tasks.support.hashing import hashed
from tasks.support.references import Calibrations, FrameSet, LeftOut, ProductRef
from tasks.support.step import step, timed
from tasks.support.workspace import Workspace

logger = logging.getLogger(__name__)

#: Keys under which the store keeps the report's notes on a product, together with its figures.
_WARNINGS: Final = "warnings"
_LEFT_OUT: Final = "left_out"
#: Key for the sha256 of frames that are in the recipe but were not used for the product.
_UNUSED: Final = "unused"
#: Roles of the frames whose role differs between recipe and product, or that have no role in the product.
_GIVEN_AS: Final = "given_as"
#: The exposures whose persistence is flagged in the frames of the recipe (`Recipe.exposed_before`).
_EXPOSED: Final = "exposed_before"
#: Maximum number of frames left out that a header names.
_MOST_CARDS: Final = 99


@dataclass(frozen=True)
class Built:
    """The result of the algorithm for a recipe.

    Attributes
    ----------
    combined
        Names of the frames that were combined; None for all frames of the recipe.
    skies
        Names of the frames that were used as sky for those, combined or not.
    doubts
        The warnings for which a user has to judge the product; it is not certified automatically.
    facts
        Facts that describe its pixels; None for those of the first frame that was combined.
    """

    image: Image | BadPixelMask
    metrics: Mapping[str, Metric]
    warnings: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    linearised: bool = True
    cards: Cards = field(default_factory=dict)
    object_mask: NDArray[np.uint8] | None = None
    maps: Mapping[str, Plane] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    combined: tuple[str, ...] | None = None
    skies: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    facts: FrameFacts | None = None

    def made_from(self, recipe: Recipe) -> list[Ingredient]:
        """Return the ingredients that the product is made from: the combined frames, then those used only as
        sky.

        A frame that is neither is not an input: it contributed nothing to the product.
        """
        if self.combined is None:
            return list(recipe.ingredients)
        combined = [i for i in recipe.ingredients if i.name in self.combined]
        skies = [
            Ingredient("sky", i.frame)
            for i in recipe.ingredients
            if i.name in self.skies and i.name not in self.combined
        ]
        return [*combined, *skies]


def find_or_build(
    recipe: Recipe, build: Callable[[], Built], workspace: Workspace
) -> ProductRef | State[ProductRef]:
    """Return the product of ``recipe`` from the store, or build and add it.

    If several processes need the same product, one builds it while the others wait for the lock and reuse it.
    A calibration from part of a set is not made if the store has one from the complete set.

    Returns
    -------
    ProductRef or State
        The reference; in a state named Reused if nothing had to be built.
    """
    with step(recipe.kind, recipe.label, workspace) as current:
        complete = complete_set(recipe, workspace)
        product = complete or existing(recipe, workspace)
        current.reused = product is not None
        if product is None:
            store = workspace.store()
            with store.lock(
                recipe.key, waiting=lambda: logger.info("%s: another run is making it", recipe.label)
            ):
                product = existing(recipe, workspace)
                current.reused = product is not None
                if product is None:
                    product = _make(recipe, build, workspace, store)
        product = confirmed(product, provisional(recipe, workspace), workspace)
        product = certified(product, workspace)
        ref = placed(product, recipe, workspace, reused=current.reused)
        if complete is not None:
            ref = refer_to_complete_set(ref, complete, recipe, workspace)
    ref = ref.model_copy(update={"seconds": current.seconds})
    if not ref.reused:
        publish_product(ref, recipe.first.facts.readout.pixel_scale)
    return Completed(name="Reused", data=ref) if ref.reused else ref


def find_reused(recipe: Recipe, name: str, workspace: Workspace) -> State[ProductRef] | None:
    """Return the product of ``recipe`` if the store has it, as a step of that name in a state named Reused; or None."""
    product = existing(recipe, workspace)
    if product is None:
        return None
    with step(name, recipe.label, workspace) as current:
        current.reused = True
        ref = placed(product, recipe, workspace, reused=True)
    return Completed(name="Reused", data=ref.model_copy(update={"seconds": current.seconds}))


@contextmanager
def open_frames(workspace: Workspace, *sets: FrameSet | None) -> Iterator[list[list[RawFile]]]:
    """Open the raw frames of some sets, each file once; None counts as an empty set."""
    with ExitStack() as stack:
        yield [
            [
                stack.enter_context(open_raw(workspace.readable(f), name=f.name, shape=None, sha256=f.sha256))
                for f in (part.frames if part is not None else ())
            ]
            for part in sets
        ]


def existing(recipe: Recipe, workspace: Workspace) -> Product | None:
    """Return the recipe's product if the store has it with an intact file.

    Raises
    ------
    StoreError
        If a user rejected it: made again, it would be the same.
    """
    store = workspace.store()
    return store.intact(not_rejected(store.known(recipe.key), workspace))


def placed(product: Product, recipe: Recipe, workspace: Workspace, *, reused: bool) -> ProductRef:
    """Copy a product and its preview to the output folder and return a reference to it."""
    own = workspace.store().file_of(product)
    folder = workspace.folder_of(recipe.first.facts.night)
    folder.mkdir(parents=True, exist_ok=True)
    there = place(product, own, folder, workspace)
    output = there.path
    preview = output.with_suffix(".png") if workspace.previews else None
    if preview is not None and not (preview.is_file() and there.outcome == "unchanged"):
        from imaging.products.preview import preview_product  # pillow is slow to import

        with timed("preview", recipe.label), ProductFile(own) as file:
            preview_product(preview, file)
    left_out = [LeftOut.model_validate(one) for one in product.metrics.get(_LEFT_OUT, [])]
    unused = product.metrics.get(_UNUSED, ())
    return ProductRef(
        id=str(product.id),
        kind=recipe.kind,
        name=product.name,
        sha256=product.sha256,
        recipe_key=product.recipe_key,
        output=output,
        preview=preview,
        label=recipe.label,
        inputs=tuple(i.name for i in recipe.ingredients if i.frame.sha256 not in unused),
        calibrations=tuple(p.name for p in recipe.calibrations.present),
        metrics={
            k: v
            for k, v in product.metrics.items()
            if k not in (_WARNINGS, _LEFT_OUT, _UNUSED, _GIVEN_AS, _EXPOSED)
        },
        warnings=(*product.metrics.get(_WARNINGS, ()), *warnings_of(product, workspace)),
        left_out=tuple(left_out),
        reused=reused,
        replaces=() if reused else tuple(one.name_and_id for one in workspace.store().superseded_by(product)),
    )


def _make(recipe: Recipe, build: Callable[[], Built], workspace: Workspace, store: Store) -> Product:
    began = datetime.now(UTC)
    with hashed([i.frame for i in recipe.ingredients], workspace) as md5_sums:
        built = build()
        made_from = built.made_from(recipe)
        md5_of = dict(zip((i.frame.sha256 for i in recipe.ingredients), md5_sums(), strict=True))
    combined = [i for i in made_from if i.name in (built.combined or (i.name,))]
    span = min(i.span[0] for i in combined), max(i.span[1] for i in combined)
    facts = built.facts or combined[0].frame.facts
    warnings = (*_missing(recipe.calibrations), *rejected_meanwhile(recipe, workspace), *built.warnings)
    applied: dict[str, str] = {p.kind: p.name for p in recipe.calibrations.present}
    keys: dict[str, str] = {p.kind: p.recipe_key for p in recipe.calibrations.present}
    record = Record(
        kind=recipe.kind,
        facts=facts,
        inputs=built.combined or tuple(i.name for i in recipe.ingredients),
        stamp=datetime.now(UTC),
        version=version("nirflow"),
        key=recipe.key,
        span=span,
        linearised=built.linearised,
        cards={**built.cards, **_warning_cards(warnings), **_left_out_cards(built.left_out)},
        history=_history(recipe, began),
        provenance=provenance(recipe, made_from, md5_of, began, workspace),
        lineage=lineage(recipe, made_from, store),
        calibrations=applied,
        calibration_keys=keys,
    )
    name = product_name(recipe.first.name, recipe.kind)
    taken = {i.frame.sha256 for i in made_from}
    reported: dict[str, Any] = {
        _UNUSED: [sha256 for sha256 in md5_of if sha256 not in taken],
        _GIVEN_AS: {
            i.frame.sha256: i.role for i in recipe.ingredients if i not in made_from and i.product is None
        },
        _EXPOSED: packed_exposures(recipe.exposed_before) if recipe.exposed_before else {},
        _WARNINGS: list(warnings),
        _LEFT_OUT: [one.model_dump() for one in built.left_out],
    }
    private_folder(workspace.staging)
    with timed("write", recipe.label), TemporaryDirectory(dir=workspace.staging) as folder:
        written = write_product(
            Path(folder) / name,
            built.image,
            record,
            object_mask=built.object_mask,
            maps=built.maps,
            tables=built.tables,
        )
        check_readable(written.path, recipe.kind)
        new = NewProduct(
            kind=recipe.kind,
            name=name,
            facts=facts,
            span=span,
            inputs=_inputs(recipe, made_from),
            parameters=recipe.values,
            metrics={**built.metrics, **{k: v for k, v in reported.items() if v}},
            recipe_key=recipe.key,
            algorithm_version=recipe.algorithm_version,
            flow_run_id=str(runtime.flow_run.id) if runtime.flow_run.id else None,
            provisional=provisional(recipe, workspace),
        )
        gate = verdict(store, recipe.kind, written.path, new.facts, workspace.parameters.gate)
        new = replace(new, gate=doubted(gate, built.doubts))
        product = store.add(new, written.path, move=True)
    return product


def _inputs(recipe: Recipe, made_from: Sequence[Ingredient]) -> list[InputRef]:
    return [*(i.ref for i in made_from), *recipe.made_with]


def _missing(calibrations: Calibrations) -> list[str]:
    without = [f"made without a {kind}, as the user allowed" for kind in calibrations.missing]
    named = [f"the {kind} was named by the user" for kind in calibrations.overridden]
    against = list(calibrations.reservations)
    return without + named + against + [f"used as named: {value}" for value in calibrations.disagreements]


def _warning_cards(warnings: Sequence[str]) -> dict[str, str]:
    return {f"NFWARN{n}": text for n, text in enumerate(warnings[:9], start=1)}


def _left_out_cards(left_out: Sequence[LeftOut]) -> Cards:
    """Return the number of frames that were left out, and the first ones with their reasons."""
    lost = [one for one in left_out if not one.expected]
    named = {f"NFOUT{n}": f"{one.name}: {one.reason}" for n, one in enumerate(lost[:_MOST_CARDS], start=1)}
    return {"NFOUT": (len(lost), "Number of frames left out"), **named} if lost else {}


def _history(recipe: Recipe, began: datetime) -> list[HistoryRow]:
    now = stamped(datetime.now(UTC))
    values = {name: model.model_dump_json() for name, model in recipe.parameters.items()}
    if recipe.own_steps:
        values[OWN_STEPS] = json.dumps(recipe.own_steps, sort_keys=True)
    if recipe.calibrations.user_decisions():
        fields = {"missing", "overridden", "disagreements"}
        values["calibrations"] = recipe.calibrations.model_dump_json(include=fields)
    return [HistoryRow(name, value, stamped(began), now) for name, value in values.items()]
