"""The stacks of a field that count: what a mosaic is made from."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection, func, select

from calib_store.curation.certify import status_as_of
from calib_store.model.product_nights import nights_of
from calib_store.model.records import Product, Tier
from calib_store.store import Store
from calib_store.tables.products import SELECT_PRODUCT, to_product
from calib_store.tables.schema import products as table
from imaging.errors import StoreError
from imaging.kinds import STACK
from imaging.listed import listed

#: Names of targets or bands that a message lists.
_MOST_NAMED = 12


@dataclass(frozen=True)
class PassedOver:
    """A stack of the field that is not used.

    Attributes
    ----------
    product
        The stack.
    reason
        Why it is not used.
    expected
        Nothing is lost without it.
    """

    product: Product
    reason: str
    expected: bool = True


@dataclass(frozen=True)
class FieldStacks:
    """The stacks of a field: those that count, in order of time, and those that are passed over."""

    chosen: tuple[Product, ...]
    passed_over: tuple[PassedOver, ...] = ()


def field_stacks(
    store: Store,
    *,
    target: str = "",
    observation: str = "",
    nights: tuple[date | None, date | None] = (None, None),
    bands: Collection[str] = (),
    as_of: datetime | None = None,
) -> FieldStacks:
    """Return the stacks of a target or an observation that count, each raw frame in one of them only.

    Of stacks that share frames, a certified one comes before the others, one without objections before one with, then
    the one of more frames, and the one made last.

    Parameters
    ----------
    store
        The store. A stack whose file is found damaged is set aside.
    target
        Name of the target, in any capitals.
    observation
        Observation id, as the headers have it.
    nights
        First and last night; None for no limit. A stack of several nights has all of them within.
    bands
        Filters; empty: all.
    as_of
        Choose as the store would have at that moment.

    Raises
    ------
    StoreError
        If no stack of such a target, observation, night or band counts; the message lists those that exist.
    """
    found = store.database.read(lambda connection: _of_field(connection, target, observation))
    what = f"target {target!r}" if target else f"observation {observation!r}"
    if as_of is not None:
        found = [one for one in found if one.made_at <= as_of]
    if not found:
        raise StoreError(f"The store has no stack of the {what}{_known(store, target)}.", remedy=_REDUCE)
    within = [one for one in found if _within(one, nights)]
    if not within:
        there = sorted({f"{night}" for one in found for night in nights_of(one.facts, one.span)})
        raise StoreError(
            f"The {what} has no stack of {_range(nights)}; it has stacks of {listed(there, _MOST_NAMED)}.",
            remedy="Give other nights (--nights), or reduce these first: nirflow reduce.",
        )
    missing = [band for band in bands if band not in {_band(one) for one in within}]
    if missing:
        there = sorted({_band(one) for one in within})
        raise StoreError(
            f"The {what} has no stack in {', '.join(missing)}; it has stacks in {', '.join(there)}.",
            remedy="Give another --band, or reduce the frames in this one first: nirflow reduce.",
        )
    wanted = [one for one in within if not bands or _band(one) in bands]
    chosen, passed_over = _counting(store, wanted, as_of)
    if not chosen:
        reasons = listed((f"{one.product.name_and_id}: {one.reason}" for one in passed_over), 5)
        raise StoreError(f"No stack of the {what} counts ({reasons}).", remedy=_REDUCE)
    return FieldStacks(tuple(sorted(chosen, key=lambda one: (one.span[0], one.name))), tuple(passed_over))


_REDUCE = "Reduce its frames first (nirflow reduce), or see `nirflow cal list --kind image`."


def _of_field(connection: Connection, target: str, observation: str) -> list[Product]:
    name, value = ("target", target) if target else ("observation_id", observation)
    query = SELECT_PRODUCT.where(
        table.c.kind == STACK.name, func.lower(table.c.facts[name].astext) == value.strip().lower()
    )
    return [to_product(row) for row in connection.execute(query.order_by(table.c.span_start, table.c.id))]


def _known(store: Store, target: str) -> str:
    """Return the targets, or the observations, that have stacks, for a message."""
    name = "target" if target else "observation_id"
    column = table.c.facts[name].astext
    query = select(column).where(table.c.kind == STACK.name).distinct().order_by(column)
    known = [one for one in store.database.read(lambda c: list(c.scalars(query))) if one]
    return f"; it has stacks of {listed(known, _MOST_NAMED)}" if known else ""


def _band(product: Product) -> str:
    return str(product.facts.get("filter") or "")


def _within(product: Product, nights: tuple[date | None, date | None]) -> bool:
    first, last = nights_of(product.facts, product.span)
    return (nights[0] is None or first >= nights[0]) and (nights[1] is None or last <= nights[1])


def _range(nights: tuple[date | None, date | None]) -> str:
    first, last = nights
    if first is not None and last is not None:
        return f"the night {first}" if first == last else f"the nights {first} to {last}"
    return f"the nights from {first}" if first is not None else f"the nights until {last}"


def _counting(
    store: Store, found: list[Product], as_of: datetime | None
) -> tuple[list[Product], list[PassedOver]]:
    """Return the stacks that count, no raw frame in two of them, and the others with reasons."""
    passed_over: list[PassedOver] = []
    candidates: list[tuple[Product, str]] = []
    for product in found:
        status = product.status if as_of is None else status_as_of(store, product, as_of).status
        if status in ("rejected", "superseded"):
            passed_over.append(PassedOver(product, f"it is {status}"))
        elif product.tier is Tier.TAINTED and as_of is None:
            ancestors = listed((str(one) for one in store.rejected_ancestors(product)), 3)
            passed_over.append(
                PassedOver(product, f"it was made with something rejected: {ancestors}", expected=False)
            )
        elif as_of is None and store.intact(product) is None:
            passed_over.append(PassedOver(product, "its file is missing or damaged", expected=False))
        else:
            candidates.append((product, status))
    frames = {product.id: _frames(store, product) for product, _ in candidates}
    candidates.sort(
        key=lambda one: (
            one[1] != "certified",
            one[0].tier,
            -len(frames[one[0].id]),
            -one[0].made_at.timestamp(),
        )
    )
    chosen: list[Product] = []
    for product, _ in candidates:
        rival = next((one for one in chosen if frames[one.id] & frames[product.id]), None)
        if rival is None:
            chosen.append(product)
        else:
            shared = len(frames[rival.id] & frames[product.id])
            passed_over.append(
                PassedOver(
                    product, f"it shares {shared} raw frames with {rival.name_and_id}, which comes first"
                )
            )
    return chosen, passed_over


def _frames(store: Store, product: Product) -> frozenset[str]:
    """Return the sha256 of the raw frames that are stacked; the product's own id if they are not known."""
    stacked = {ref.source for ref in store.inputs_of(product) if ref.role == "science"}
    return frozenset(str(one) for one in stacked) or frozenset([str(product.id)])
