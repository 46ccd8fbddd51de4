"""Decisions about the status of products and frames, and those of another store adopted by an import.

Every decision has an id (``change``) that it keeps between stores. Therefore an import can find which decisions
elsewhere follow the latest one here, and adopt them; if both stores have decided since, it reports both decisions.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Self, TypeVar
from uuid import UUID

from psycopg.types.range import TimestamptzRange
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import Connection, Uuid, select

from calib_store.model.records import Frame, Product, Status
from calib_store.tables import status
from calib_store.tables.frames import any_of
from calib_store.tables.locks import changes_alone
from calib_store.tables.products import with_ids
from calib_store.tables.schema import frame_history, status_history
from calib_store.tables.schema import products as products_table
from calib_store.tables.status_log import log_status
from imaging.errors import StoreError

#: Name space for ids of decisions in a transfer of an earlier version, which lacks them.
_NAMESPACE = uuid.UUID("6f3c1d0e-6f63-5a7e-8b11-6e69726677c2")

_CANDIDATE = "a candidate"
_ELSEWHERE = " (elsewhere)"


class StatusDecision(BaseModel):
    """A decision about a product or frame, with its author and reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    change: UUID
    status: str
    author: str
    reason: str
    changed_at: datetime

    @model_validator(mode="before")
    @classmethod
    def _identify(cls, given: Any) -> Any:
        """Give a decision without an id one derived from its content."""
        if isinstance(given, dict) and given.get("change") is None:
            content = sorted((name, str(value)) for name, value in given.items() if name != "change")
            return {**given, "change": str(uuid.uuid5(_NAMESPACE, repr(content)))}
        return given

    @property
    def status_text(self) -> str:
        """The resulting status."""
        return self.status

    @property
    def content(self) -> tuple[object, ...]:
        """The content by which two decisions are the same if one of them has lost its id."""
        return self.status, self.author.removesuffix(_ELSEWHERE), self.reason

    def __str__(self) -> str:
        return f"by {self.author} on {self.changed_at:%Y-%m-%d}: {self.reason}"


class FrameDecision(StatusDecision):
    """A raw frame rejected, or reinstated (usable)."""

    status: Literal["rejected", "usable"]


class ProductDecision(StatusDecision):
    """A product certified, rejected or superseded, or a candidate again."""

    status: Status
    validity: tuple[datetime | None, datetime | None] | None = None
    by: UUID | None = Field(default=None, description="product that took its place")
    because: str | None = Field(default=None, description="product or frame that went bad or counts again")

    @model_validator(mode="after")
    def _valid(self) -> Self:
        if (self.status == "certified") != (self.validity is not None):
            raise ValueError("a certified product must have a validity, and any other must not")
        start, end = self.validity or (None, None)
        if start is not None and end is not None and start >= end:
            raise ValueError("the validity ends before it begins")
        return self

    @property
    def status_text(self) -> str:
        """The status, with the validity of a certified one."""
        return _CANDIDATE if self.status == "candidate" else status.status_text(self.status, self.validity)

    @property
    def content(self) -> tuple[object, ...]:
        """The content of every decision, with the validity and the cause."""
        return (*super().content, self.validity, self.because)


D = TypeVar("D", bound=StatusDecision)


def decisions_on_products(
    connection: Connection, ids: Collection[UUID]
) -> dict[UUID, tuple[ProductDecision, ...]]:
    """Return every decision about each of the products that have any, in order.

    An entry of the log that changes nothing, such as that of a file that was made again, is not a decision. Changes
    that the store made by its own rules are left out: they follow from the rest in any store.
    """
    rows = connection.execute(
        select(status_history)
        .where(status_history.c.product_id == any_of(ids, Uuid), ~status_history.c.automatic)
        .order_by(status_history.c.id)
    )
    found: dict[UUID, tuple[ProductDecision, ...]] = {}
    for row in rows:
        before = found.get(row.product_id, ())
        decision = ProductDecision(
            change=row.change, status=row.status, author=row.author, reason=row.reason,
            validity=(row.validity.lower, row.validity.upper) if row.validity is not None else None,
            changed_at=row.changed_at, by=row.by_product, because=row.because,
        )  # fmt: skip
        if _effect(decision) != (_effect(before[-1]) if before else ("candidate", None, None, None)):
            found[row.product_id] = (*before, decision)
    return found


def _effect(decision: ProductDecision) -> tuple[object, ...]:
    return decision.status, decision.validity, decision.by, decision.because


def decisions_on_frames(
    connection: Connection, sha256s: Collection[str]
) -> dict[str, tuple[FrameDecision, ...]]:
    """Return every decision about each of the raw frames that have any, in order."""
    rows = connection.execute(
        select(frame_history)
        .where(frame_history.c.frame_sha256 == any_of(sha256s))
        .order_by(frame_history.c.id)
    )
    found: dict[str, tuple[FrameDecision, ...]] = {}
    for row in rows:
        before = found.get(row.frame_sha256, ())
        if row.status != (before[-1].status if before else "usable"):
            decision = FrameDecision(
                change=row.change, status=row.status, author=row.author, reason=row.reason,
                changed_at=row.changed_at,
            )  # fmt: skip
            found[row.frame_sha256] = (*before, decision)
    return found


def following(here: Sequence[D], there: Sequence[D]) -> Sequence[D] | None:
    """Return the decisions of another store that follow the latest one here, or None if both have decided since."""
    if not here or not there:
        return there
    for number, decision in enumerate(there):
        if _same(decision, here[-1]):
            return there[number + 1 :]
    return () if any(_same(there[-1], decision) for decision in here) else None


def _same(one: StatusDecision, other: StatusDecision) -> bool:
    return one.change == other.change or one.content == other.content


class Taken(BaseModel):
    """The result of importing decisions about a product or frame: a change of its status, or a disagreement."""

    changed: str = ""
    remark: str = ""


def take_product_decisions(
    connection: Connection, product: Product, there: Sequence[ProductDecision]
) -> Taken:
    """Take over the decisions about a product that follow the last one here, or report a disagreement."""
    here = decisions_on_products(connection, [product.id]).get(product.id, ())
    new = following(here, there)
    if not new:
        return _compared(product.name_and_id, here, there)
    try:
        with connection.begin_nested():
            _decide(connection, product, new)
    except StoreError as error:
        status_text = here[-1].status_text if here else _CANDIDATE
        return Taken(remark=f"{product.name_and_id} stays {status_text}: {error.message}")
    return _changed(product.name_and_id, here, new[-1], _CANDIDATE)


def take_frame_decisions(connection: Connection, frame: Frame, there: Sequence[FrameDecision]) -> Taken:
    """Take over the decisions about a raw frame that follow the last one here, or report a disagreement."""
    here = decisions_on_frames(connection, [frame.sha256]).get(frame.sha256, ())
    label = f"raw frame {frame.name} ({frame.sha256[:8]})"
    new = following(here, there)
    if not new:
        return _compared(label, here, there)
    for one in new:
        status.set_frame_status(
            connection, frame, one.status, author=elsewhere(one.author), reason=one.reason, change=one.change
        )
    return _changed(label, here, new[-1], "usable")


def elsewhere(author: str) -> str:
    """Return the author of another store's decision, marked as from there to avoid confusion with users here."""
    return author if author.endswith(_ELSEWHERE) else f"{author}{_ELSEWHERE}"


def _decide(connection: Connection, product: Product, new: Sequence[ProductDecision]) -> None:
    """Log the decisions in order; the last one takes effect."""
    changes_alone(connection)
    connection.execute(select(products_table.c.id).where(products_table.c.id == product.id).with_for_update())
    named = [one.by for one in new if one.by is not None]
    known = {one.id for one in with_ids(connection, named)}
    for one in new:
        said: Mapping[str, Any] = {
            "author": elsewhere(one.author), "reason": one.reason, "change": one.change, "because": one.because,
            "by": one.by if one.by in known else None,
        }  # fmt: skip
        if one is new[-1]:
            status.set_status(connection, product, one.status, validity=one.validity, **said)
        else:
            span = None if one.validity is None else TimestamptzRange(*one.validity)
            log_status(connection, product.id, one.status, span, **said)


def _changed(label: str, here: Sequence[StatusDecision], last: StatusDecision, first: str) -> Taken:
    before = here[-1].status_text if here else first
    if before == last.status_text:
        return Taken()
    return Taken(changed=f"{label} was {before} and is {last.status_text} now, {last}")


def _compared(label: str, here: Sequence[StatusDecision], there: Sequence[StatusDecision]) -> Taken:
    """Report a disagreement between two stores that have both decided."""
    if not here or not there or here[-1].status_text == there[-1].status_text:
        return Taken()
    return Taken(
        remark=f"{label} stays {here[-1].status_text}, {here[-1]}; in the other store it is "
        f"{there[-1].status_text}, {there[-1]}"
    )
