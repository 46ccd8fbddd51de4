"""Products: rows and files together; the file is always written first."""

from __future__ import annotations

import importlib.metadata
import logging
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, Select, Uuid, and_, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from calib_store.files.objects import StoredObject
from calib_store.model.product_nights import nights_of
from calib_store.model.records import InputRef, Product
from calib_store.model.values import problem_of
from calib_store.rules.order import noise_of
from calib_store.rules.rules import check_kind
from calib_store.tables import succession, variants
from calib_store.tables.frames import any_of, plain_json
from calib_store.tables.lineage import add_inputs, inputs_of
from calib_store.tables.locks import changes_alone
from calib_store.tables.rulebook import active_rules, configuration_id
from calib_store.tables.schema import configurations, products, serves
from calib_store.tables.status_log import history, log_status
from imaging.errors import StoreError
from imaging.frames.facts import FrameFacts
from imaging.frames.find_files import is_plain_name
from imaging.frames.nights import span_anywhere
from imaging.kinds import KINDS, in_a_sentence

logger = logging.getLogger(__name__)

_HEX = re.compile(r"[0-9a-f]{6,64}")
#: Name space of product ids, so that an id follows from the recipe key alone.
_NAMESPACE = uuid.UUID("a9b7f0f6-5c0e-5f2a-9d38-6e69726677c1")

SELECT_PRODUCT: Select[Any] = select(
    products, configurations.c.rule, configurations.c["keys"].label("configuration_keys")
).join_from(products, configurations, isouter=True)


@dataclass(frozen=True)
class NewProduct:
    """A product to be added.

    Parameters
    ----------
    kind
        A name in `imaging.kinds.KINDS`.
    name
        The product's file name.
    recipe_key, algorithm_version
        See `calib_store.model.records.recipe_key`.
    span
        Beginning and end of its inputs' exposures.
    facts
        Facts of its first input, which determine what the product serves.
    inputs
        Frames (ingested), products (added) and foreign files that it was made from, in order.
    parameters, metrics
        How it was made and how good it is, as JSON has it.
    author
        Who adds it, for the status log.
    flow_run_id
        The run that made it.
    gate
        Its comparison with a certified product (`calib_store.curation.compare`).
    published
        A bad pixel mask that the observatory publishes.
    software, made_at
        What made it and when, if that was not this nirflow, now.
    provisional
        Why it should serve others only as a last resort, for example because it was made without a calibration.

    Raises
    ------
    StoreError
        For an unknown kind, a name that is not a plain file name, a key that is not a sha256, a span that ends before
        it begins or has no time zone, a published product that is not a mask, or unreadable JSON.
    """

    kind: str
    name: str
    recipe_key: str
    span: tuple[datetime, datetime]
    facts: FrameFacts
    inputs: Sequence[InputRef]
    parameters: Mapping[str, Any]
    metrics: Mapping[str, Any]
    algorithm_version: str
    author: str = "pipeline"
    flow_run_id: str | None = None
    gate: Mapping[str, Any] | None = None
    published: bool = False
    software: str = ""
    made_at: datetime | None = None
    provisional: str | None = None

    def __post_init__(self) -> None:
        """Refuse values that could become an unsafe path or an invalid row."""
        check_kind(self.kind)
        if not is_plain_name(self.name):
            raise StoreError(
                f"{self.name!r} is not a plain file name.",
                remedy="Use letters, digits, '.', '_', '+' and '-' only.",
            )
        if not re.fullmatch(r"[0-9a-f]{64}", self.recipe_key):
            raise StoreError(f"{self.recipe_key!r} is not a recipe key (64 hexadecimal digits).")
        start, end = self.span
        if start.tzinfo is None or end.tzinfo is None or end < start:
            raise StoreError(
                f"{self.name}: the time span {start} to {end} ends before it begins, or has no time zone."
            )
        if self.published and not KINDS[self.kind].published:
            some = in_a_sentence(kind.label for kind in KINDS.values() if kind.published)
            raise StoreError(f"Only a {some} can be a published product, not a {self.kind}.")
        try:
            problem = problem_of(
                facts=self.facts, metrics=plain_json(self.metrics), parameters=plain_json(self.parameters),
                gate=plain_json(self.gate),
            )  # fmt: skip
        except RecursionError:
            problem = "its metrics, parameters or gate have endlessly nested lists and tables"
        if problem is not None:
            raise StoreError(f"{self.name}: {problem}.", remedy="Make it, or export it, again.")

    @property
    def id(self) -> UUID:
        """The id of the product."""
        return product_id(self.recipe_key)


def product_id(recipe_key: str) -> UUID:
    """Return the id that the product of a recipe has in every store."""
    return uuid.uuid5(_NAMESPACE, recipe_key)


@cache
def software_version() -> str:
    """Return the version of the running nirflow."""
    return f"nirflow {importlib.metadata.version('nirflow')}"


def to_product(row: Row[Any]) -> Product:
    """Return a row of `SELECT_PRODUCT` as a product."""
    validity = row.validity
    return Product(
        id=row.id, kind=row.kind, name=row.name, sha256=row.sha256, size=row.size, recipe_key=row.recipe_key,
        status=row.status, validity=(validity.lower, validity.upper) if validity is not None else None,
        rule=row.rule, keys=row.configuration_keys or {}, span=(row.span_start, row.span_end),
        middle=row.middle, facts=row.facts, metrics=row.metrics, parameters=row.parameters,
        algorithm_version=row.algorithm_version, software_version=row.software_version,
        flow_run_id=row.flow_run_id, gate=row.gate, published=row.published, made_at=row.made_at,
        damaged=row.damaged, doubtful=row.doubtful, provisional=row.provisional, tier=row.tier,
        variant=row.variant_id,
    )  # fmt: skip


def by_recipe(connection: Connection, key: str) -> Product | None:
    """Return the product of a recipe, whether or not its file is intact."""
    row = connection.execute(SELECT_PRODUCT.where(products.c.recipe_key == key)).one_or_none()
    return None if row is None else to_product(row)


def add(connection: Connection, new: NewProduct, stored: StoredObject) -> Product:
    """Write the rows of a product whose file is already in the store.

    If the recipe has a product, that one stays; the new file replaces the old one only if that was damaged.
    """
    start, end = new.span
    changes_alone(connection)
    rules = active_rules(connection)
    configuration = rules.configuration(new.kind, new.facts, published=new.published)
    serving = None if configuration is None else configuration_id(connection, rules, configuration)
    middle = start + (end - start) / 2
    row = {
        "id": new.id,
        "recipe_key": new.recipe_key,
        "kind": new.kind,
        "name": new.name,
        "sha256": stored.sha256,
        "size": stored.size,
        "published": new.published,
        "configuration_id": serving,
        "span_start": start,
        "span_end": end,
        "middle": middle,
        "facts": plain_json(new.facts.model_dump(mode="json")),
        "metrics": plain_json(new.metrics),
        "parameters": plain_json(new.parameters),
        "algorithm_version": new.algorithm_version,
        "software_version": new.software or software_version(),
        "flow_run_id": new.flow_run_id,
        "gate": plain_json(new.gate) if new.gate is not None else None,
        "provisional": new.provisional or variants.inherited(connection, new.inputs),
        "variant_id": variants.number_of(connection, new.kind, new.parameters, new.inputs),
    } | ({"made_at": new.made_at} if new.made_at is not None else {})
    write = upsert(products).on_conflict_do_nothing(index_elements=["recipe_key"]).returning(products.c.id)
    if connection.execute(write, row).one_or_none() is not None:
        if serving is not None:
            connection.execute(
                upsert(serves).values(
                    product_id=new.id,
                    configuration_id=serving,
                    middle=middle,
                    variant_id=row["variant_id"],
                    noise=noise_of(new.metrics),
                )
            )
        add_inputs(connection, new.id, new.name, new.inputs)
        log_status(connection, new.id, "candidate", None, author=new.author, reason="made")
        succession.reexamine(connection, [new.id])
    else:
        _repair(connection, new, row)
    product = by_recipe(connection, new.recipe_key)
    assert product is not None
    return product


def _repair(connection: Connection, new: NewProduct, row: Mapping[str, Any]) -> None:
    """Give a damaged product its new file; leave an intact one alone."""
    changed = ("sha256", "size", "metrics", "software_version", "flow_run_id")
    repaired = connection.execute(
        update(products)
        .where(products.c.recipe_key == new.recipe_key, products.c.damaged)
        .values({name: row[name] for name in changed} | {"damaged": False})
        .returning(products.c.status, products.c.validity)
    ).one_or_none()
    if repaired is not None:
        # The latest decision about it also applies to the new file, under its author's name.
        latest = history(connection, new.id)[-1]
        log_status(
            connection, new.id, repaired.status, repaired.validity, author=latest.author, by=latest.by,
            because=latest.because, automatic=latest.automatic or latest.reason == "made",
            reason=f"{latest.reason} (its file was damaged; {new.author} made it again as {row['sha256'][:12]})",
        )  # fmt: skip
        succession.reexamine(connection, [new.id])


def set_comparison(connection: Connection, product: Product, gate: Mapping[str, Any]) -> None:
    """Replace the comparison of a product with a certified one."""
    changes_alone(connection)
    connection.execute(update(products).where(products.c.id == product.id).values(gate=plain_json(gate)))
    succession.reexamine(connection, [product.id])


def confirm(connection: Connection, product: Product) -> None:
    """Make a provisional product an ordinary one, unless one of its ancestors is provisional."""
    changes_alone(connection)
    inherited = variants.inherited(connection, inputs_of(connection, product.id))
    connection.execute(update(products).where(products.c.id == product.id).values(provisional=inherited))
    succession.reexamine(connection, [product.id])


def mark_damaged(connection: Connection, product: Product, damaged: bool = True) -> None:
    """Record that a product's file is missing or damaged: the product is not found until the file is intact again.

    A read-only account cannot record it: then only this process skips the product.
    """
    if damaged:
        logger.error("%s (%s): its file is missing or damaged; it is not used", product.name, product.id)
    if not connection.scalar(text("SELECT has_column_privilege('products', 'damaged', 'UPDATE')")):
        return
    changes_alone(connection)
    connection.execute(
        update(products)
        .where(products.c.id == product.id, products.c.sha256 == product.sha256)
        .values(damaged=damaged)
    )
    succession.reexamine(connection, [product.id])


def listed(
    connection: Connection,
    *,
    kind: str | None = None,
    status: str | None = None,
    night: date | None = None,
    after: Product | None = None,
    limit: int,
) -> tuple[Product, ...]:
    """Return products, newest first; a product belongs to the nights from that of its first input to that of its last.

    Its instrument decides which nights these are: rows of a wider time are read, and selected by their own nights.
    """
    query = SELECT_PRODUCT.order_by(products.c.made_at.desc(), products.c.id)
    if kind is not None:
        query = query.where(products.c.kind == kind)
    if status is not None:
        query = query.where(products.c.status == status)
    if night is not None:
        begins, ends = span_anywhere(night, night)
        query = query.where(products.c.span_start < ends, products.c.span_end >= begins)
    if after is not None:
        query = query.where(
            or_(
                products.c.made_at < after.made_at,
                and_(products.c.made_at == after.made_at, products.c.id > after.id),
            )
        )
    if night is None:
        return tuple(to_product(row) for row in connection.execute(query.limit(limit)))
    rows = (row for row in connection.execute(query) if _is_of(night, row))
    return tuple(to_product(row) for row in islice(rows, limit))


def _is_of(night: date, row: Row[Any]) -> bool:
    first, last = nights_of(row.facts, (row.span_start, row.span_end))
    return first <= night <= last


def with_ids(connection: Connection, ids: Sequence[UUID]) -> tuple[Product, ...]:
    """Return the products of those ids, in the order of the ids; unknown ones are skipped."""
    rows = connection.execute(SELECT_PRODUCT.where(products.c.id == any_of(ids, Uuid))) if ids else ()
    found = {row.id: to_product(row) for row in rows}
    return tuple(found[one] for one in ids if one in found)


def resolved(found: Sequence[Product], name: str) -> Sequence[Product]:
    """Return the products that a name refers to: of several with that file name, the one that counts."""
    counting = [product for product in found if product.counts]
    by_name = all(product.name in (name, f"{name}.fits") for product in found)
    return counting if by_name and len(counting) == 1 else found


def named(connection: Connection, name: str) -> tuple[Product, ...]:
    """Return products that match ``name``: an id, a file name (with or without ``.fits``), or first digits (6 or
    more) of an id, a file's sha256 or a recipe key."""
    conditions = [products.c.name == name, products.c.name == f"{name}.fits"]
    digits = name.lower().replace("-", "")
    if _HEX.fullmatch(digits):
        first, last = digits.ljust(64, "0"), digits.ljust(64, "f")
        conditions += [column.between(first, last) for column in (products.c.sha256, products.c.recipe_key)]
        if len(digits) <= 32:
            conditions.append(products.c.id.between(UUID(first[:32]), UUID(last[:32])))
    query = SELECT_PRODUCT.where(or_(*conditions)).order_by(products.c.made_at.desc(), products.c.id)
    return tuple(to_product(row) for row in connection.execute(query.limit(20)))
