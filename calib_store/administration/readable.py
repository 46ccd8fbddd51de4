"""A check that all rows of a store can be read by its commands, before rows from elsewhere are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection, CursorResult, Row, Select, select

from calib_store.exchange.decision_log import decisions_on_frames, decisions_on_products
from calib_store.model.records import Run
from calib_store.model.values import problem_of, problem_of_facts, problem_of_json
from calib_store.tables.products import SELECT_PRODUCT, to_product
from calib_store.tables.schema import (
    bright_pixels,
    catalogue_answers,
    configurations,
    decisions,
    frame_headers,
    frames,
    products,
    proposals,
    runs,
    variants,
)
from calib_store.tables.services.catalogue_answers import unpacked
from imaging.frames.facts import FrameFacts

#: Number of rows in memory at once.
_AT_ONCE: Final = 500


def unreadable(connection: Connection) -> str | None:
    """Return the first table with an unreadable row, and why it is unreadable, or None.

    Parameters
    ----------
    connection
        A transaction on tables of the newest version.
    """
    for table, query, read in _READERS:
        try:
            with _rows(connection, query) as rows:
                for row in rows:
                    if (problem := read(row)) is not None:
                        return f"a row of {table} that cannot be read: {problem[:300]}"
        # The driver parses JSON while it fetches.
        except (ValueError, TypeError, ArithmeticError, RecursionError, LookupError) as error:
            return f"a row of {table} that cannot be read: {' '.join(str(error).split())[:300]}"
    try:
        with _rows(connection, select(products.c.id)) as rows:
            for ids in rows.scalars().partitions():
                decisions_on_products(connection, ids)
        with _rows(connection, select(frames.c.sha256)) as rows:
            for sha256s in rows.scalars().partitions():
                decisions_on_frames(connection, sha256s)
    except ValueError as error:
        return f"a decision that cannot be read: {' '.join(str(error).split())[:300]}"
    return None


def _rows(connection: Connection, query: Select[Any]) -> CursorResult[Any]:
    """Return the rows of a server-side cursor, which the caller closes."""
    return connection.execute(query, execution_options={"yield_per": _AT_ONCE})


def _product(row: Row[Any]) -> str | None:
    product = to_product(row)
    facts = FrameFacts.model_validate(product.facts)
    return problem_of(
        facts=facts, metrics=product.metrics, parameters=product.parameters, gate=product.gate
    ) or problem_of_json(product.keys)


def _frame(row: Row[Any]) -> str | None:
    if row.exposure_time is not None and abs(row.exposure_time) == float("inf"):
        return "an infinite exposure"
    return problem_of_facts(FrameFacts.model_validate(row.facts)) if row.facts is not None else None


def _header(row: Row[Any]) -> str | None:
    return problem_of_json(dict(row.header))


def _bright(row: Row[Any]) -> str | None:
    from imaging.pixels.bright_pixels import BrightPixels  # late: numpy

    BrightPixels.from_bytes(bytes(row.pixels))
    return None


def _answer(row: Row[Any]) -> str | None:
    unpacked(bytes(row.answer), row.sha256)
    return None


def _decision(row: Row[Any]) -> str | None:
    for one in row.candidates:
        if not (isinstance(one["reason"], str) and isinstance(one["taken"], bool)):
            return "a candidate without a reason"
    return problem_of_json(row.candidates)


def _proposal(row: Row[Any]) -> str | None:
    return None if row.validity is None or not row.validity.isempty else "a validity that is empty"


def _run(row: Row[Any]) -> str | None:
    return problem_of_json(Run.model_validate(dict(row._mapping)).report)


def _configuration(row: Row[Any]) -> str | None:
    return problem_of_json(dict(row._mapping["keys"]))


def _variant(row: Row[Any]) -> str | None:
    return problem_of_json(dict(row.parameters))


_READERS: Final[tuple[tuple[str, Select[Any], Callable[[Row[Any]], str | None]], ...]] = (
    ("products", SELECT_PRODUCT, _product),
    ("frames", select(frames), _frame),
    ("frame_headers", select(frame_headers), _header),
    ("bright_pixels", select(bright_pixels), _bright),
    ("catalogue_answers", select(catalogue_answers), _answer),
    ("decisions", select(decisions), _decision),
    ("runs", select(runs), _run),
    ("proposals", select(proposals), _proposal),
    ("configurations", select(configurations), _configuration),
    ("variants", select(variants), _variant),
)
