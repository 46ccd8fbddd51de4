"""Figures of the products of a kind over time: of each product, or the medians of nights over years."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Date, Double, Text, case, cast, column, func, literal, select, true
from sqlalchemy.dialects.postgresql import INTERVAL, JSONB

from calib_store.model.product_nights import night_of
from calib_store.rules.rules import check_kind
from calib_store.tables.schema import products
from imaging.instruments import catalogue
from imaging.instruments.site import Site

#: Facts that the night of a product depends on.
_OF_NIGHT: Final = ("instrument", "exposure_time", "coadds")


@dataclass(frozen=True)
class FigureRow:
    """The figures of one product.

    Attributes
    ----------
    id, name
        Its id and file name.
    middle
        Middle of its inputs' exposures.
    night
        Their night, as the observatory names it.
    facts
        The requested facts that it has, as text.
    values
        The requested figures that it has and that are finite numbers.
    texts
        The requested figures that are anything else.
    """

    id: UUID
    name: str
    middle: datetime
    night: date
    facts: Mapping[str, str]
    values: Mapping[str, float]
    texts: Mapping[str, str]


def figure_history(
    connection: Connection,
    kind: str,
    *,
    facts: Sequence[str],
    figures: Sequence[str],
    since: datetime,
    before: datetime,
) -> tuple[FigureRow, ...]:
    """Return figures of the products of a kind, in order of time.

    Rejected, superseded and damaged ones do not count.

    Parameters
    ----------
    connection
        To the store.
    kind
        Kind of the products.
    facts, figures
        Names of facts and figures to return; a product may lack some.
    since, before
        Limits of the middle of their inputs' exposures.
    """
    check_kind(kind)
    wanted = tuple(dict.fromkeys((*_OF_NIGHT, *facts)))
    of_facts = _unpacked(products.c.facts, wanted, "f")
    of_figures = _unpacked(products.c.metrics, figures, "m")
    query = (
        select(
            products.c.id,
            products.c.name,
            products.c.middle,
            products.c.span_start,
            products.c.span_end,
            *of_facts.c,
            *of_figures.c,
        )
        .select_from(products.join(of_facts, true()).join(of_figures, true()))
        .where(*_counting(kind, since, before))
        .order_by(products.c.middle, products.c.id)
    )
    return tuple(_row(row, wanted, figures) for row in connection.execute(query))


@dataclass(frozen=True)
class NightMedians:
    """The medians of the figures of a night's products of one configuration.

    Attributes
    ----------
    night
        Night of the middle of their exposures, as their observatory names it.
    groups
        The values by which they were grouped, as text; those that they lack are missing.
    medians
        The figures that any of them has.
    products
        How many there are.
    """

    night: date
    groups: Mapping[str, str]
    medians: Mapping[str, float]
    products: int


def night_medians(
    connection: Connection,
    kind: str,
    *,
    facts: Sequence[str],
    texts: Sequence[str] = (),
    figures: Sequence[str],
    since: datetime,
    before: datetime,
) -> tuple[NightMedians, ...]:
    """Return the medians of each night and configuration, in order of time, as the database calculates them.

    An index on kind and time restricts the search, and the figures of each product are unpacked once: three years of
    some twelve products a night take a few tenths of a second.

    Parameters
    ----------
    connection
        To the store.
    kind
        Kind of the products; rejected, superseded and damaged ones do not count.
    facts, texts
        Names of the facts, and of the figures that are texts, by which the products of a night are grouped; the
        instrument always is.
    figures
        Names of the figures; values that are no numbers do not count.
    since, before
        Limits of the middle of their inputs' exposures.
    """
    check_kind(kind)
    grouping = tuple(dict.fromkeys(("instrument", *facts)))
    of_facts = _unpacked(products.c.facts, grouping, "f")
    of_figures = _unpacked(products.c.metrics, texts, "m", numbers=figures)
    night = _night_in_sql(of_facts.c.instrument).label("night")
    groups = [of_facts.c[name] for name in grouping] + [of_figures.c[name] for name in texts]
    numbers = [
        case((func.jsonb_typeof(of_figures.c[name]) == "number", cast(of_figures.c[name], Double)))
        for name in figures
    ]
    medians = [func.percentile_cont(literal(0.5, Double)).within_group(number) for number in numbers]
    query = (
        select(night, *groups, *medians, func.count())
        .select_from(products.join(of_facts, true()).join(of_figures, true()))
        .where(*_counting(kind, since, before))
        .group_by(night, *groups)
        .order_by(night)
    )
    found = []
    for row in connection.execute(query):
        first, *rest, count = row
        names = (*grouping, *texts)
        values = zip(names, rest[: len(names)], strict=True)
        measured = zip(figures, rest[len(names) :], strict=True)
        found.append(
            NightMedians(
                first,
                {name: value for name, value in values if value is not None},
                {name: value for name, value in measured if value is not None and math.isfinite(value)},
                count,
            )
        )
    return tuple(found)


def _counting(kind: str, since: datetime, before: datetime) -> tuple[Any, ...]:
    return (
        products.c.kind == kind,
        products.c.middle >= since,
        products.c.middle < before,
        products.c.status.not_in(("rejected", "superseded")),
        ~products.c.damaged,
    )


def _night_in_sql(instrument: Any) -> Any:
    """Return the night of a product's middle, as `imaging.instruments.site.Site.night_of` does."""

    def shift(site: Site) -> Any:
        return literal(timedelta(hours=site.utc_offset + 24 - site.rollover), INTERVAL)

    sites = {one.name: shift(one.site) for one in catalogue.instruments()}
    local = func.timezone("UTC", products.c.middle) + case(sites, value=instrument, else_=shift(Site()))
    return cast(local, Date)


def _unpacked(table: Any, texts: Sequence[str], alias: str, *, numbers: Sequence[str] = ()) -> Any:
    """Return the values of a JSON object as columns: the object is read once, not once for each value."""
    columns = [column(name, Text) for name in texts] + [column(name, JSONB) for name in numbers]
    return (
        func.jsonb_to_record(table)
        .table_valued(*columns)
        .render_derived(name=alias, with_types=True)
        .lateral()
    )


def _row(row: Any, facts: Sequence[str], figures: Sequence[str]) -> FigureRow:
    id_, name, middle, start, end, *rest = row
    known = {fact: value for fact, value in zip(facts, rest[: len(facts)], strict=True) if value is not None}
    values: dict[str, float] = {}
    texts: dict[str, str] = {}
    for figure, text in zip(figures, rest[len(facts) :], strict=True):
        number = _number(text)
        if number is not None:
            values[figure] = number
        elif text is not None:
            texts[figure] = text
    return FigureRow(id_, name, middle, night_of(known, (start, end)), known, values, texts)


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None
