"""The parameters with which products were made: their own, and those of their ancestors.

An experiment (``--set dark.high=1.5``) makes products of a different variant. The choice prefers products that were
made with the parameters of the run.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Uuid, select, text

from calib_store.model.records import InputRef
from calib_store.tables.frames import any_of
from calib_store.tables.schema import products, variants
from imaging.kinds import CALIBRATIONS, KINDS, class_named
from imaging.parameters import StepParameters

#: Parameters by step.
Parameters = Mapping[str, Any]

_ADD = text("""
    INSERT INTO variants (kind, parameters) VALUES (:kind, CAST(:parameters AS jsonb)) ON CONFLICT DO NOTHING
""")
_FIND = text("""
    SELECT id FROM variants
    WHERE kind = :kind AND md5(CAST(parameters AS text)) = md5(CAST(CAST(:parameters AS jsonb) AS text))
""")


def number_of(connection: Connection, kind: str, parameters: Parameters, inputs: Sequence[InputRef]) -> int:
    """Return the number of a product's variant, which is recorded if it is new.

    Parameters of products that were made elsewhere are not part of it; nor those of an image's calibrations, as an
    image serves no frame.
    """
    serves = inputs if kind not in KINDS or KINDS[kind].is_calibration else ()
    made_with = select(products.c.parameters).where(products.c.id == any_of(_products(serves), Uuid))
    effective: dict[str, Any] = {}
    for theirs in connection.scalars(made_with.order_by(products.c.id)):
        effective |= {step: values for step, values in theirs.items() if isinstance(values, dict)}
    effective |= parameters
    given = {"kind": kind, "parameters": json.dumps(effective, sort_keys=True)}
    connection.execute(_ADD, given)
    return int(connection.execute(_FIND, given).scalar_one())


def inherited(connection: Connection, inputs: Sequence[InputRef]) -> str | None:
    """Return why a product is provisional if one that it was made from is, or None."""
    query = select(products.c.name, products.c.provisional).where(
        products.c.id == any_of(_products(inputs), Uuid), products.c.provisional.is_not(None)
    )
    first = connection.execute(query.order_by(products.c.id).limit(1)).one_or_none()
    return f"made with {first.name}, which is provisional: {first.provisional}" if first is not None else None


def agreeing(connection: Connection, kind: str, parameters: Parameters | None) -> tuple[int, ...]:
    """Return the numbers of a kind's variants whose parameters agree with those of a run (default: the defaults)."""
    run = default_parameters() if parameters is None else parameters
    rows = connection.execute(select(variants.c.id, variants.c.parameters).where(variants.c.kind == kind))
    return tuple(row.id for row in rows if not differences(row.parameters, run))


def differences(made_with: Parameters, run: Parameters) -> tuple[str, ...]:
    """Return how the parameters of a product differ from those of a run, with both values.

    What only one of the two has is not a difference: a step that the run does not execute, or a more recent parameter;
    nor is a parameter that had another meaning in an earlier version.
    """
    models = _models()
    return tuple(
        f"{step}.{name} is {_text(value)}, {_text(run[step][name])} in this run"
        for step, values in made_with.items()
        if isinstance(values, Mapping) and isinstance(run.get(step), Mapping)
        for name, value in (models[step].current(values) if step in models else values).items()
        if name in run[step] and run[step][name] != value
    )


def parameters_of(connection: Connection, numbers: Collection[int]) -> dict[int, Parameters]:
    """Return the parameters of variants by their number."""
    query = select(variants.c.id, variants.c.parameters).where(variants.c.id.in_(list(numbers)))
    return {row.id: row.parameters for row in connection.execute(query)}


@cache
def default_parameters() -> Parameters:
    """Return the parameters with which nirflow makes calibrations by default."""
    return {kind.name: class_named(kind.parameters)().model_dump(mode="json") for kind in CALIBRATIONS}


@cache
def _models() -> dict[str, type[StepParameters]]:
    return {kind.step: class_named(kind.parameters) for kind in CALIBRATIONS}


def _products(inputs: Sequence[InputRef]) -> list[UUID]:
    return [ref.source for ref in inputs if isinstance(ref.source, UUID)]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
