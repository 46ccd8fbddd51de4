"""How certified products of one configuration share the time: without overlaps, and without gaps in a validity."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from calib_store.model.records import Product
from calib_store.tables import products, status
from calib_store.tables.status import Validity
from calib_store.tables.status_log import history
from imaging.errors import StoreError

#: Author of the certification of products that passed their comparison.
GATE: Final = "gate"


def free_of_users(
    connection: Connection, product: Product, alike: Sequence[int], validity: Validity
) -> Validity:
    """Return the part of a validity around the product that is free of users' certifications."""
    start, end = validity
    for row in status.overlapping(connection, alike, validity, but=product.id):
        last = history(connection, row.id)[-1]
        if last.author == GATE:
            continue
        its_start, its_end = row.validity.lower, row.validity.upper
        if its_end is not None and its_end <= product.middle:
            start = its_end if start is None else max(start, its_end)
        elif its_start is not None and its_start > product.middle:
            end = its_start if end is None else min(end, its_start)
        else:
            raise StoreError(
                f"{row.name} ({str(row.id)[:8]}) was certified by {last.author} for the time of {product.name_and_id}.",
                remedy=f"To take part of that time: nirflow cal certify {product.short_id} --take-over",
            )
    return start, end


def joined(product: Product, better: Product) -> Validity:
    """Return the combined validity of both, which must not have a gap."""
    assert product.validity is not None
    start, end = product.validity
    if better.validity is None:
        return start, end
    its_start, its_end = better.validity
    before, after = its_end is not None and its_end == start, its_start is not None and its_start == end
    if not before and not after:
        raise StoreError(
            f"{better.name_and_id} is certified for {status.validity_text(better.validity)} and "
            f"cannot take over {status.validity_text(product.validity)} of {product.name}: there is a gap.",
            remedy="Supersede it without --by, and certify another one for that time.",
        )
    return (its_start if before else start, its_end if after else end)


def share(
    connection: Connection, product: Product, alike: Sequence[int], validity: Validity, author: str
) -> Validity:
    """Limit this validity and its neighbours' to half-way between them in time, or to the requested end of this one.

    A validity that ends before half-way is unchanged, and this one begins at its end: no validity is extended.
    """
    start, end = validity
    overlapping = status.overlapping(connection, alike, validity, but=product.id)
    neighbours = products.with_ids(connection, [row.id for row in overlapping])
    left: dict[UUID, Validity | None] = dict.fromkeys((one.id for one in neighbours), None)
    # Nearest first: those further away change only if nothing is left of the nearest.
    for neighbour in (one for one in reversed(neighbours) if one.middle < product.middle):
        assert neighbour.validity is not None
        its_start, its_end = neighbour.validity
        half = _half_way(neighbour, product)
        begins = half if start is None else max(half, start)
        its_end = begins if its_end is None else min(begins, its_end)
        if its_start is None or its_start < its_end:
            left[neighbour.id] = its_start, its_end
            start = its_end if start is None else max(start, its_end)
    for neighbour in (one for one in neighbours if one.middle > product.middle):
        assert neighbour.validity is not None
        its_start, its_end = neighbour.validity
        half = _half_way(neighbour, product)
        ends = half if end is None else min(half, end)
        its_start = ends if its_start is None else max(ends, its_start)
        if its_end is None or its_start < its_end:
            left[neighbour.id] = its_start, its_end
            end = its_start if end is None else min(end, its_start)
    for neighbour in neighbours:
        now = left[neighbour.id]
        if now == neighbour.validity:
            continue
        _refuse_gap(product, (start, end), neighbour, now)
        reason = f"time shared with {product.name_and_id}"
        if now is None:
            status.set_status(
                connection, neighbour, "superseded", author=author, reason=reason, by=product.id
            )
        else:
            status.set_status(
                connection, neighbour, "certified", author=author, reason=reason, validity=now, by=product.id
            )
    return start, end


def _half_way(one: Product, other: Product) -> datetime:
    return one.middle + (other.middle - one.middle) / 2


def _refuse_gap(product: Product, validity: Validity, neighbour: Product, left: Validity | None) -> None:
    """Refuse to take time from a neighbour if part of it would belong to neither: a validity has no gap."""
    assert neighbour.validity is not None
    (start, end), (its_start, its_end) = validity, neighbour.validity
    keeps_start = left is not None and left[0] == its_start
    keeps_end = left is not None and left[1] == its_end
    early = keeps_start or start is None or (its_start is not None and start <= its_start)
    late = keeps_end or end is None or (its_end is not None and its_end <= end)
    if not (early and late):
        raise StoreError(
            f"{neighbour.name_and_id} is certified for {status.validity_text(neighbour.validity)}: part of that would "
            f"have no certified {product.kind} if {product.name} took over {status.validity_text(validity)}.",
            remedy="Choose a time that extends to its end (--from, --to), or supersede it first.",
        )
