"""Decisions of other stores that came with an import and have not been adopted here.

They are shown, but have no effect: certification, rejection and superseding are decided in each store. A proposal is
open until a user here decides about the product or frame, or adopts the decision (``cal import --trust``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.types.range import TimestamptzRange
from sqlalchemy import ColumnElement, Connection, Row, Uuid, and_, exists, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert

from calib_store.exchange.decision_log import FrameDecision, ProductDecision, StatusDecision, following
from calib_store.tables.frames import any_of
from calib_store.tables.schema import frame_history, proposals, status_history
from calib_store.tables.status import Validity, status_text


@dataclass(frozen=True)
class Proposal:
    """A decision of another store about a product or raw frame.

    Attributes
    ----------
    status, validity, author, reason, changed_at
        The decision there.
    source
        Name of the transfer that it came with.
    imported_at, imported_by
        When it came, and who imported it.
    """

    status: str
    validity: Validity | None
    author: str
    reason: str
    changed_at: datetime
    source: str
    imported_at: datetime
    imported_by: str

    @property
    def status_text(self) -> str:
        """The status that it proposes, with the time of a certified one."""
        return status_text(self.status, self.validity)


def record(
    connection: Connection,
    what: UUID | str,
    decision: StatusDecision,
    *,
    source: str,
    author: str,
) -> bool:
    """Record a decision about a product (its id) or raw frame (its sha256), and return whether it is new here."""
    validity = decision.validity if isinstance(decision, ProductDecision) else None
    values = {
        "change": decision.change, "product_id": what if isinstance(what, UUID) else None,
        "frame_sha256": what if isinstance(what, str) else None, "status": decision.status,
        "validity": None if validity is None else TimestamptzRange(*validity), "author": decision.author,
        "reason": decision.reason, "decided_at": decision.changed_at, "source": source, "imported_by": author,
    }  # fmt: skip
    write = upsert(proposals).values(values).on_conflict_do_nothing(index_elements=["change"])
    return connection.execute(write.returning(proposals.c.id)).one_or_none() is not None


def on_products(connection: Connection, ids: Collection[UUID]) -> dict[UUID, tuple[Proposal, ...]]:
    """Return the open proposals about products, in the order of arrival."""
    answered = exists().where(
        status_history.c.product_id == proposals.c.product_id,
        or_(
            status_history.c.change == proposals.c.change,
            and_(status_history.c.changed_at > proposals.c.imported_at, ~status_history.c.automatic),
        ),
    )
    found: dict[UUID, tuple[Proposal, ...]] = {}
    for row in _open(connection, proposals.c.product_id == any_of(ids, Uuid), answered):
        found[row.product_id] = (*found.get(row.product_id, ()), _proposal(row))
    return found


def on_frame(connection: Connection, sha256: str) -> tuple[Proposal, ...]:
    """Return the open proposals about a raw frame, in the order of arrival."""
    answered = exists().where(
        frame_history.c.frame_sha256 == proposals.c.frame_sha256,
        or_(
            frame_history.c.change == proposals.c.change,
            frame_history.c.changed_at > proposals.c.imported_at,
        ),
    )
    return tuple(_proposal(row) for row in _open(connection, proposals.c.frame_sha256 == sha256, answered))


def is_open(
    here: Sequence[StatusDecision], there: Sequence[ProductDecision] | Sequence[FrameDecision]
) -> bool:
    """Return whether another store's decision is not known here and differs from the latest one here."""
    if not there or following(here, there) == ():
        return False
    last = there[-1]
    status_text = here[-1].status_text if here else _FIRST[type(last)]
    return last.status_text != status_text


_FIRST: dict[type[StatusDecision], str] = {ProductDecision: "a candidate", FrameDecision: "usable"}


def _open(connection: Connection, which: ColumnElement[bool], answered: ColumnElement[bool]) -> Sequence[Row]:
    return connection.execute(select(proposals).where(which, ~answered).order_by(proposals.c.id)).all()


def _proposal(row: Row) -> Proposal:
    return Proposal(
        row.status, (row.validity.lower, row.validity.upper) if row.validity is not None else None, row.author,
        row.reason, row.decided_at, row.source, row.imported_at, row.imported_by,
    )  # fmt: skip
