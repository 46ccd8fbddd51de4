"""Objections to a product, derived from all that the store knows: rejected ancestors, exceptions, doubts."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from calib_store.tables.lineage import OWN_FRAME, OWN_PRODUCT

#: Given products and all their ancestors. The query also ends if a lineage is circular.
_UP = f"""up (product_id, ancestor) AS (
        SELECT id, id FROM unnest(CAST(:products AS uuid[])) w (id)
      UNION
        SELECT up.product_id, {OWN_PRODUCT} FROM up JOIN inputs i ON i.product_id = up.ancestor
        WHERE {OWN_PRODUCT} IS NOT NULL
    )"""

_BAD_FRAMES = """bad_frames AS MATERIALIZED (
        SELECT frame_sha256, author, reason, changed_at FROM (
            SELECT DISTINCT ON (frame_sha256) frame_sha256, status, author, reason, changed_at FROM frame_history
            ORDER BY frame_sha256, changed_at DESC, id DESC) last
        WHERE status = 'rejected'
    )"""

_REFRESH = text(f"""
    WITH RECURSIVE {_UP}, {_BAD_FRAMES}, tainted AS (
        SELECT up.product_id FROM up JOIN products a ON a.id = up.ancestor
        WHERE a.status = 'rejected' AND a.id <> up.product_id
      UNION
        SELECT up.product_id FROM up JOIN inputs i ON i.product_id = up.ancestor
        JOIN bad_frames b ON b.frame_sha256 = {OWN_FRAME}
    ), doubts AS (
        SELECT p.id, coalesce(p.gate @> '{{"passed": false}}', false) AND NOT EXISTS (
            SELECT FROM products r WHERE CAST(r.id AS text) = p.gate -> 'reference' ->> 'id'
            AND (r.status <> 'certified' OR r.tier = 3)) AS doubtful
        FROM products p WHERE p.id = ANY(CAST(:products AS uuid[]))
    ), found AS (
        SELECT p.id, p.tier AS previous, d.doubtful,
               CASE WHEN p.id IN (SELECT product_id FROM tainted) THEN 3 WHEN p.provisional IS NOT NULL THEN 2
                    WHEN d.doubtful THEN 1 ELSE 0 END AS tier
        FROM products p JOIN doubts d USING (id)
    ), changed AS (
        UPDATE products p SET tier = f.tier, doubtful = f.doubtful FROM found f
        WHERE f.id = p.id AND (f.tier <> p.tier OR f.doubtful <> p.doubtful)
        RETURNING p.id, f.previous, p.tier
    ), logged AS (
        INSERT INTO tier_changes (product_id, previous, tier)
        SELECT id, previous, tier FROM changed WHERE previous <> tier
    ), served AS (
        UPDATE serves v SET tier = c.tier FROM changed c WHERE v.product_id = c.id
    )
    SELECT id FROM changed
""")

_COMPARED_WITH = text("""
    SELECT id FROM products
    WHERE gate @> '{"passed": false}' AND gate -> 'reference' ->> 'id' = ANY(CAST(:products AS text[]))
""")

_REJECTED = text(f"""
    WITH RECURSIVE {_UP}, {_BAD_FRAMES}, bad AS (
        SELECT a.name, CAST(a.id AS text) AS identity, h.author, h.reason, h.changed_at
        FROM up JOIN products a ON a.id = up.ancestor
        CROSS JOIN LATERAL (
            SELECT author, reason, changed_at FROM status_history
            WHERE product_id = a.id ORDER BY id DESC LIMIT 1) h
        WHERE a.status = 'rejected' AND a.id <> up.product_id
      UNION
        SELECT f.name, f.sha256, b.author, b.reason, b.changed_at
        FROM up JOIN inputs i ON i.product_id = up.ancestor
        JOIN bad_frames b ON b.frame_sha256 = {OWN_FRAME}
        JOIN frames f ON f.sha256 = b.frame_sha256
    )
    SELECT * FROM bad ORDER BY changed_at, identity
""")


@dataclass(frozen=True)
class RejectedAncestor:
    """An ancestor of a product that a user rejected.

    Attributes
    ----------
    name
        File name.
    identity
        Id of a product, sha256 of a frame.
    author, reason, rejected_at
        Who rejected it, why and when.
    """

    name: str
    identity: str
    author: str
    reason: str
    rejected_at: datetime

    def __str__(self) -> str:
        """Return a description for display."""
        return (
            f"{self.name} was rejected by {self.author} on {self.rejected_at:%Y-%m-%d %H:%M}: {self.reason}"
        )


def refresh(connection: Connection, products: Iterable[UUID]) -> set[UUID]:
    """Determine the tiers of some products again, and return those that changed."""
    wanted = list(products)
    return set(connection.scalars(_REFRESH, {"products": wanted})) if wanted else set()


def compared_with(connection: Connection, references: Collection[UUID]) -> set[UUID]:
    """Return the products that failed the comparison with any of the references."""
    return set(connection.scalars(_COMPARED_WITH, {"products": [str(one) for one in references]}))


def rejected_ancestors(connection: Connection, product: UUID) -> tuple[RejectedAncestor, ...]:
    """Return the rejected ancestors of a product, of any generation, in the order of rejection."""
    rows = connection.execute(_REJECTED, {"products": [product]})
    return tuple(RejectedAncestor(r.name, r.identity, r.author, r.reason, r.changed_at) for r in rows)
