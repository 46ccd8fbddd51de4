"""The products of a night: those of its runs, and others in the store made from its frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from calib_store.curation.objections import objections
from calib_store.model.records import Product
from calib_store.store import Store
from calib_store.tables import products as product_rows
from flows.page.model import NightProduct
from imaging.figures import Figure, shown
from imaging.instruments import catalogue
from imaging.own_steps.uses import POINTS, OwnStepParameters, step_summary
from imaging.product_figures import figures_of
from tasks.building.recipe import OWN_STEPS
from tasks.support.references import LeftOut, ProductRef


@dataclass(frozen=True)
class Stored:
    """Products of a night as the store has them.

    Attributes
    ----------
    products
        By id.
    frames
        Sha256 of the raw frames that each was made from, in order.
    calibrations
        Names of the products that each was made with, in order.
    """

    products: Mapping[UUID, Product]
    frames: Mapping[UUID, tuple[str, ...]]
    calibrations: Mapping[UUID, tuple[str, ...]]


def stored_products(store: Store, night: date, wanted: Iterable[UUID], own: set[str]) -> Stored:
    """Find the products of runs and those made from a night's frames.

    Parameters
    ----------
    store
        The store.
    night
        The night.
    wanted
        Ids of the runs' products; those no longer in the store are ignored.
    own
        Sha256 of the night's frames.
    """
    ids = list(wanted)
    products = {
        p.id: p for p in store.database.run(lambda connection: product_rows.with_ids(connection, ids))
    }
    frames: dict[UUID, tuple[str, ...]] = {}
    parents: dict[UUID, list[UUID]] = {}
    for product in {**products, **{p.id: p for p in store.products(night=night)}}.values():
        sources = [one.source for one in store.inputs_of(product)]
        raw = tuple(one for one in sources if isinstance(one, str))
        if product.id in products or not own.isdisjoint(raw):
            products[product.id], frames[product.id] = product, raw
            parents[product.id] = [one for one in sources if isinstance(one, UUID)]
    used = list({id_ for ids in parents.values() for id_ in ids})
    names = {p.id: p.name for p in store.database.run(lambda c: product_rows.with_ids(c, used))}
    calibrations = {id_: tuple(names[one] for one in of if one in names) for id_, of in parents.items()}
    return Stored(products, frames, calibrations)


def describe_products(
    store: Store, id_: UUID, ref: ProductRef | None, stored: Stored, names: Mapping[str, str]
) -> NightProduct:
    """Describe a product for the page, by its current record in the store and the report of the last run.

    Parameters
    ----------
    store
        The store.
    id_
        The product's id.
    ref
        The product in the run's report; None if it comes from no run of the night.
    stored
        Its record in the store.
    names
        Name of each raw frame by its sha256.
    """
    product = stored.products.get(id_)
    if product is None:
        assert ref is not None, "a product comes from a run or from the store"
        return _gone(id_, ref)
    metrics = product.metrics
    inputs = tuple(names.get(one, one[:12]) for one in stored.frames[id_])
    return NightProduct(
        id=id_,
        kind=product.kind,
        name=product.name,
        label=ref.label if ref is not None else "",
        recipe_key=product.recipe_key,
        sha256=product.sha256,
        inputs=inputs,
        sources=stored.frames[id_],
        calibrations=stored.calibrations[id_],
        own_steps=_own_steps(product),
        reused=ref.reused if ref is not None else False,
        status=product.state,
        status_reason=_status_reason(store, product),
        figures=page_figures(product.kind, metrics, product.facts),
        warnings=_warnings(store, product, ref),
        left_out=tuple(LeftOut.model_validate(one) for one in metrics.get("left_out", ())),
        output=ref.output if ref is not None else None,
        preview=ref.preview if ref is not None else None,
        seconds=ref.seconds if ref is not None else None,
        span=product.span,
        made_at=product.made_at,
        metrics=metrics,
        facts=product.facts,
    )


def _own_steps(product: Product) -> tuple[str, ...]:
    """Return the user's own steps that a product was made with, one line each."""
    with suppress(ValidationError):  # recorded by a version that names other points
        parameters = OwnStepParameters.model_validate(product.parameters.get("steps", {}))
        recorded = product.parameters.get(OWN_STEPS, {})
        return tuple(
            f"{point}: {step_summary(use, identity)}"
            for point in POINTS
            for use, identity in zip(parameters.at(point), recorded.get(point, ()), strict=False)
        )
    return ()


def _gone(id_: UUID, ref: ProductRef) -> NightProduct:
    """Return a product that the store no longer has, as reported by the run."""
    return NightProduct(
        id=id_,
        kind=ref.kind,
        name=ref.name,
        label=ref.label,
        recipe_key=ref.recipe_key,
        sha256=ref.sha256,
        inputs=ref.inputs,
        calibrations=ref.calibrations,
        reused=ref.reused,
        status_reason="the store no longer has it",
        figures=page_figures(ref.kind, ref.metrics),
        warnings=ref.warnings,
        left_out=ref.left_out,
        output=ref.output,
        preview=ref.preview,
        seconds=ref.seconds,
        metrics=ref.metrics,
    )


def _status_reason(store: Store, product: Product) -> str:
    """Return the last decision about its status after it was made, if any."""
    history = store.history(product)
    if len(history) < 2:
        return ""
    last = history[-1]
    return f"{last.author} on {last.changed_at:%Y-%m-%d}: {last.reason}"


def _warnings(store: Store, product: Product, ref: ProductRef | None) -> tuple[str, ...]:
    """Return the warnings from when it was made, and current objections."""
    made = ref.warnings if ref is not None else product.metrics.get("warnings", ())
    return tuple(dict.fromkeys((*made, *(f"it {text}" for text in objections(store, product)))))


def page_figures(
    kind: str, metrics: Mapping[str, Any], facts: Mapping[str, Any] | None = None
) -> tuple[Figure, ...]:
    """Return the figures of a product of some kind for the page, electrons with a superscript minus."""
    figures = shown(figures_of(kind), metrics, pixel_scale=pixel_scale_of(facts or {}))
    return tuple(replace(one, unit=one.unit.replace("e-", "e\N{SUPERSCRIPT MINUS}")) for one in figures)


def pixel_scale_of(facts: Mapping[str, Any]) -> float | None:
    """Return the pixel scale in arcsec, if the product's facts and a table of its instrument are known."""
    instrument = catalogue.find(str(facts.get("instrument")))
    return None if instrument is None else instrument.detector.number("pixel_scale", facts)
