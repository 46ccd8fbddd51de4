"""Products: rows and files together, the file always first."""

from __future__ import annotations

import importlib.metadata
import logging
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from psycopg.types.range import TimestamptzRange
from sqlalchemy import Connection, Row, Select, and_, func, insert, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError

from calib_store.frames import plain_json
from calib_store.models import configurations, inputs, products, status_history
from calib_store.objects import ObjectStore, StoredObject
from calib_store.records import InputRef, Lineage, LineageEdge, Product, Status
from calib_store.rules import Configuration
from imaging.errors import StoreError

logger = logging.getLogger(__name__)

_FILE_NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,199}", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{6,64}")
#: Name space of product ids, so that an id follows from the recipe key alone.
_NAMESPACE = uuid.UUID("a9b7f0f6-5c0e-5f2a-9d38-6e69726677c1")

SELECT_PRODUCT: Select[Any] = select(
    products, configurations.c.rule, configurations.c["keys"].label("configuration_keys")
).join_from(products, configurations, isouter=True)


@dataclass(frozen=True)
class NewProduct:
    """A product to be added; the arguments of `calib_store.store.Store.add_product`."""

    kind: str
    name: str
    recipe_key: str
    configuration: Configuration | None
    span: tuple[datetime, datetime]
    facts: Mapping[str, Any]
    inputs: Sequence[InputRef]
    parameters: Mapping[str, Any]
    metrics: Mapping[str, Any]
    algorithm_version: str
    flow_run_id: str | None
    preview: str | None
    author: str

    def __post_init__(self) -> None:
        """Refuse what could become a strange path or row.

        Raises
        ------
        StoreError
            For a name that is no plain file name, a key that is no sha256, a span that ends before it
            begins or has no time zone.
        """
        if not _FILE_NAME.fullmatch(self.name):
            raise StoreError(
                f"{self.name!r} is not a plain file name.",
                remedy="Use letters, digits, '.', '_', '+' and '-' only.",
            )
        if not re.fullmatch(r"[0-9a-f]{64}", self.recipe_key):
            raise StoreError(f"{self.recipe_key!r} is not a recipe key (64 hexadecimal digits).")
        start, end = self.span
        if start.tzinfo is None or end.tzinfo is None or end < start:
            raise StoreError(
                f"{self.name}: the time span {start} to {end} makes no sense, or has no time zone."
            )

    @property
    def id(self) -> uuid.UUID:
        """The id of the product."""
        return product_id(self.recipe_key)


def product_id(recipe_key: str) -> uuid.UUID:
    """The id that the product of a recipe has in every store."""
    return uuid.uuid5(_NAMESPACE, recipe_key)


@cache
def software_version() -> str:
    """The version of nirflow that runs."""
    return f"nirflow {importlib.metadata.version('nirflow')}"


def to_product(row: Row[Any], objects: ObjectStore) -> Product:
    """A row of `SELECT_PRODUCT` as a product."""
    validity = row.validity
    return Product(
        id=row.id, kind=row.kind, name=row.name, sha256=row.sha256, size=row.size, recipe_key=row.recipe_key,
        status=row.status, validity=(validity.lower, validity.upper) if validity is not None else None,
        rule=row.rule, keys=row.configuration_keys or {}, span=(row.span_start, row.span_end),
        middle=row.middle, facts=row.facts, metrics=row.metrics, parameters=row.parameters,
        algorithm_version=row.algorithm_version, software_version=row.software_version,
        flow_run_id=row.flow_run_id, preview=row.preview, made_at=row.made_at, damaged=row.damaged,
        path=objects.path(row.sha256),
    )  # fmt: skip


def by_recipe(connection: Connection, key: str, objects: ObjectStore) -> Product | None:
    """The product of a recipe, whether its file is whole or not."""
    row = connection.execute(SELECT_PRODUCT.where(products.c.recipe_key == key)).one_or_none()
    return None if row is None else to_product(row, objects)


def add(connection: Connection, new: NewProduct, stored: StoredObject, objects: ObjectStore) -> Product:
    """Write the rows of a product whose file is in the store already.

    Where the recipe has a product, that one stays; only if it was damaged does the new file replace the
    old one.
    """
    start, end = new.span
    row = {
        "id": new.id,
        "recipe_key": new.recipe_key,
        "kind": new.kind,
        "name": new.name,
        "sha256": stored.sha256,
        "size": stored.size,
        "configuration_id": _configuration_id(connection, new.configuration),
        "span_start": start,
        "span_end": end,
        "middle": start + (end - start) / 2,
        "facts": plain_json(new.facts),
        "metrics": plain_json(new.metrics),
        "parameters": plain_json(new.parameters),
        "algorithm_version": new.algorithm_version,
        "software_version": software_version(),
        "flow_run_id": new.flow_run_id,
        "preview": new.preview,
    }
    write = upsert(products).on_conflict_do_nothing(index_elements=["recipe_key"]).returning(products.c.id)
    if connection.execute(write, row).one_or_none() is not None:
        _add_inputs(connection, new)
        _log_status(connection, new.id, "candidate", None, new.author, "made")
    else:
        _repair(connection, new, row)
    product = by_recipe(connection, new.recipe_key, objects)
    assert product is not None
    return product


def _add_inputs(connection: Connection, new: NewProduct) -> None:
    if not new.inputs:
        return
    rows = [
        {
            "product_id": new.id,
            "ordinal": ordinal,
            "role": ref.role,
            "frame_sha256": ref.source if isinstance(ref.source, str) else None,
            "input_product_id": ref.source if isinstance(ref.source, uuid.UUID) else None,
        }
        for ordinal, ref in enumerate(new.inputs)
    ]
    try:
        connection.execute(insert(inputs), rows)
    except IntegrityError as error:
        raise StoreError(
            f"{new.name} names an input that the store does not know: {_detail(error)}",
            remedy="Ingest the frames and add the products that it was made from first.",
        ) from error


def _repair(connection: Connection, new: NewProduct, row: Mapping[str, Any]) -> None:
    """Give a damaged product its new file; leave a whole one alone."""
    changed = ("sha256", "size", "metrics", "software_version", "flow_run_id")
    repaired = connection.execute(
        update(products)
        .where(products.c.recipe_key == new.recipe_key, products.c.damaged)
        .values({name: row[name] for name in changed} | {"damaged": False})
        .returning(products.c.status, products.c.validity)
    ).one_or_none()
    if repaired is not None:
        reason = f"file was damaged; made again as {row['sha256'][:12]}"
        _log_status(connection, new.id, repaired.status, repaired.validity, new.author, reason)


def _configuration_id(connection: Connection, configuration: Configuration | None) -> int | None:
    if configuration is None:
        return None
    digest = configuration.digest
    look = select(configurations.c.id).where(configurations.c.digest == digest)
    found = connection.scalar(look)
    if found is None:
        values = {
            "digest": digest,
            "rule": configuration.rule,
            "kind": configuration.kind,
            "keys": dict(configuration.keys),
        }
        connection.execute(upsert(configurations).values(values).on_conflict_do_nothing())
        found = connection.scalar(look)
    assert found is not None
    return int(found)


def mark_damaged(connection: Connection, product: Product) -> None:
    """Note that a product's file is missing or damaged: it is not found any more until it is made again."""
    logger.error("%s (%s): its file is missing or damaged; it is not used", product.name, product.id)
    connection.execute(
        update(products)
        .where(products.c.id == product.id, products.c.sha256 == product.sha256)
        .values(damaged=True)
    )


def set_status(
    connection: Connection,
    product: Product,
    status: Status,
    *,
    author: str,
    reason: str,
    validity: tuple[datetime | None, datetime | None] | None,
) -> None:
    """Change a product's status and log who did it and why."""
    start, end = validity if validity is not None else (None, None)
    if start is not None and end is not None and start >= end:
        raise StoreError(
            f"{product.name} cannot be valid from {start} to {end}: that is no time at all.",
            remedy="Give an end that is later than the beginning.",
        )
    span = None if validity is None else TimestamptzRange(start, end)
    try:
        connection.execute(
            update(products).where(products.c.id == product.id).values(status=status, validity=span)
        )
    except IntegrityError as error:
        constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
        if constraint == "products_certified_once":
            raise StoreError(
                f"{product.name} cannot be certified for that time: another {product.kind} of the same "
                f"configuration is. {_detail(error)}",
                remedy="Choose a validity that does not overlap, or supersede the other one first.",
            ) from error
        raise StoreError(
            f"{product.name} cannot become {status} with the validity {validity}: {constraint} forbids it.",
            remedy="Only a certified product has a validity, and not an empty one; an image has none.",
        ) from error
    _log_status(connection, product.id, status, span, author, reason)


def _log_status(
    connection: Connection,
    product: uuid.UUID,
    status: str,
    validity: object,
    author: str,
    reason: str,
) -> None:
    connection.execute(
        insert(status_history).values(
            product_id=product, status=status, validity=validity, author=author, reason=reason
        )
    )


def _detail(error: IntegrityError) -> str:
    return getattr(getattr(error.orig, "diag", None), "message_detail", None) or ""


def listed(
    connection: Connection,
    objects: ObjectStore,
    *,
    kind: str | None,
    status: str | None,
    limit: int,
) -> tuple[Product, ...]:
    """Products, newest first."""
    query = SELECT_PRODUCT.order_by(products.c.made_at.desc(), products.c.id).limit(limit)
    if kind is not None:
        query = query.where(products.c.kind == kind)
    if status is not None:
        query = query.where(products.c.status == status)
    return tuple(to_product(row, objects) for row in connection.execute(query))


def named(connection: Connection, objects: ObjectStore, name: str) -> tuple[Product, ...]:
    """Products that ``name`` may mean: an id, a file name, or first digits (6 or more) of an id, a file's
    sha256 or a recipe key."""
    conditions = [products.c.name == name]
    digits = name.lower().replace("-", "")
    if _HEX.fullmatch(digits):
        conditions += [products.c.sha256.like(f"{digits}%"), products.c.recipe_key.like(f"{digits}%")]
        if len(digits) <= 32:
            first, last = uuid.UUID(digits.ljust(32, "0")), uuid.UUID(digits.ljust(32, "f"))
            conditions.append(and_(products.c.id >= first, products.c.id <= last))
    query = SELECT_PRODUCT.where(or_(*conditions)).order_by(products.c.made_at.desc(), products.c.id)
    return tuple(to_product(row, objects) for row in connection.execute(query.limit(20)))


def inputs_of(connection: Connection, product: uuid.UUID) -> tuple[InputRef, ...]:
    """What a product was made from, in order."""
    rows = connection.execute(
        select(inputs.c.role, inputs.c.frame_sha256, inputs.c.input_product_id)
        .where(inputs.c.product_id == product)
        .order_by(inputs.c.ordinal)
    )
    return tuple(InputRef(row.role, row.frame_sha256 or row.input_product_id) for row in rows)


_LINEAGE = text("""
    WITH RECURSIVE up (depth, product_id, ordinal, role, frame_sha256, input_product_id) AS (
        SELECT 1, product_id, ordinal, role, frame_sha256, input_product_id
        FROM inputs WHERE product_id = :product
      UNION
        SELECT up.depth + 1, i.product_id, i.ordinal, i.role, i.frame_sha256, i.input_product_id
        FROM up JOIN inputs i ON i.product_id = up.input_product_id
    )
    SELECT up.*, coalesce(f.name, p.name) AS name
    FROM up LEFT JOIN frames f ON f.sha256 = up.frame_sha256
            LEFT JOIN products p ON p.id = up.input_product_id
    ORDER BY depth, product_id, ordinal
""")


def lineage(connection: Connection, product: uuid.UUID) -> Lineage:
    """Every frame and product that a product was made from, through all generations."""
    rows = connection.execute(_LINEAGE, {"product": product})
    return Lineage(
        tuple(
            LineageEdge(r.depth, r.product_id, r.role, r.frame_sha256, r.input_product_id, r.name)
            for r in rows
        )
    )


def count(connection: Connection) -> int:
    """Number of products."""
    return int(connection.scalar(select(func.count()).select_from(products)) or 0)
