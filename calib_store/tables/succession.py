"""Which product supersedes another by the store's own rules, and when the other is restored.

A product is superseded automatically if another one of its kind, configuration and parameters, without any objection,
is made of all its raw frames and more, and has no more noise (an image only by one of the same nights). It is also
superseded by one that is made of all its frames except rejected or quarantined ones, if it is made with such frames
itself. A calibration need not contain frames that it was given and left out as unlike their peers. A product is
restored when this no longer holds. The result does not depend on the order in which products were made. Decisions of
users are never changed.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, text, update

from calib_store.model.product_nights import nights_of
from calib_store.model.records import COUNTING, Tier
from calib_store.rules.order import noise_of
from calib_store.tables import lineage
from calib_store.tables.schema import products as table
from calib_store.tables.status_log import log_status
from calib_store.tables.tiers import compared_with, refresh, rejected_ancestors
from imaging.kinds import STACK

logger = logging.getLogger(__name__)

#: Author of changes that the store makes by its own rules.
AUTHOR: Final = "nirflow"

#: The products that share a raw frame, kind, configuration and variant with given ones; and the given ones.
_RIVALS = text("""
    SELECT DISTINCT other.id
    FROM products one
    JOIN inputs i ON i.product_id = one.id
    JOIN inputs j ON j.frame_sha256 = i.frame_sha256
    JOIN products other ON other.id = j.product_id AND other.kind = one.kind AND other.variant_id = one.variant_id
         AND other.configuration_id IS NOT DISTINCT FROM one.configuration_id
    WHERE one.id = ANY(CAST(:products AS uuid[]))
""")

_STATES = text("""
    SELECT p.id, p.name, p.kind, p.configuration_id, p.variant_id, p.status, p.tier, p.damaged, p.metrics, p.made_at,
           p.span_start, p.span_end, p.facts,
           h.automatic, h.because,
           NOT EXISTS (SELECT FROM status_history WHERE product_id = p.id AND id < h.id) AS first,
           ARRAY(SELECT ARRAY[i.role, i.frame_sha256] FROM inputs i
                 WHERE i.product_id = p.id AND i.frame_sha256 IS NOT NULL) AS frames
    FROM products p
    CROSS JOIN LATERAL (SELECT id, automatic, because FROM status_history
                        WHERE product_id = p.id ORDER BY id DESC LIMIT 1) h
    WHERE p.id = ANY(CAST(:products AS uuid[]))
""")

#: Which product once replaced which, while an ancestor of the other was rejected.
_STOOD_IN = text("""
    SELECT DISTINCT ON (product_id, by_product) product_id, by_product, because FROM status_history
    WHERE automatic AND status = 'superseded' AND because IS NOT NULL AND by_product IS NOT NULL
      AND product_id = ANY(CAST(:products AS uuid[]))
    ORDER BY product_id, by_product, id DESC
""")

_QUARANTINED_FRAMES = text("""
    SELECT sha256, name, quarantine FROM frames
    WHERE sha256 = ANY(CAST(:frames AS text[])) AND quarantine IS NOT NULL ORDER BY name, sha256
""")

_REJECTED_FRAMES = text("""
    SELECT frame_sha256 FROM (
        SELECT DISTINCT ON (frame_sha256) frame_sha256, status FROM frame_history
        WHERE frame_sha256 = ANY(CAST(:frames AS text[]))
        ORDER BY frame_sha256, changed_at DESC, id DESC) last
    WHERE status = 'rejected'
""")


def descendants_and(connection: Connection, source: UUID | str) -> set[UUID]:
    """Return a product and its descendants, or the descendants of a raw frame (its sha256)."""
    found = set(lineage.affected(connection, source))
    return found | {source} if isinstance(source, UUID) else found


def reexamine(connection: Connection, products: Iterable[UUID]) -> None:
    """Determine tiers and successions again for changed products and everything that depends on them.

    The caller holds `calib_store.tables.locks.changes_alone`.
    """
    queue = set(products)
    while queue:
        retiered = refresh(connection, queue)
        moved = _Family(connection, queue | retiered).settle()
        # Comparisons with a reference count only while it is certified.
        queue = compared_with(connection, queue | retiered | moved) - queue


#: A raw frame in its role.
Member = tuple[str, str]


@dataclass(frozen=True)
class _State:
    """The facts that decide whether a product supersedes another, or is superseded.

    Attributes
    ----------
    line
        Kind, configuration and variant: a product has rivals only among those that share them. For an image also its
        nights: the stack of several nights does not compete with that of each.
    frames
        The raw frames that it is made of.
    left_out
        Frames that a calibration was given and left out, because they are unlike their peers.
    """

    id: UUID
    label: str
    line: tuple[Any, ...]
    status: str
    tier: Tier
    damaged: bool
    noise: float | None
    frames: frozenset[Member]
    left_out: frozenset[Member]
    made_at: datetime
    automatic: bool
    first: bool
    because: str | None

    @property
    def eligible(self) -> bool:
        """Whether it may supersede others."""
        return self.status in COUNTING and self.tier < Tier.PROVISIONAL and not self.damaged

    @property
    def replaceable(self) -> bool:
        """Whether the store may supersede it: no user has decided about it, except before an ancestor went bad."""
        if self.status == "certified":
            return self.tier is Tier.TAINTED
        return self.status == "candidate" and (self.automatic or self.first)

    @property
    def set_aside(self) -> bool:
        """Whether the store has superseded it."""
        return self.status == "superseded" and self.automatic

    def contains(self, members: Collection[Member]) -> bool:
        """Return whether it is made of all these frames, each in its role; for sky frames any role will do."""
        anywhere = {sha256 for _, sha256 in self.frames}
        return all(one in self.frames or (one[0] == "sky" and one[1] in anywhere) for one in members)


class _Family:
    """Products of one kind, configuration and variant that share raw frames, as they are now."""

    def __init__(self, connection: Connection, products: Iterable[UUID]) -> None:
        self.connection = connection
        members = set(products)
        while (wider := members | set(connection.scalars(_RIVALS, {"products": list(members)}))) != members:
            members = wider
        given = {"products": list(members)}
        self.states = [_state(row) for row in connection.execute(_STATES, given)]
        frames = {sha256 for state in self.states for _, sha256 in state.frames}
        self.rejected = set(connection.scalars(_REJECTED_FRAMES, {"frames": list(frames)}))
        self.quarantined = {
            row.sha256: f"{row.name} is in quarantine: {row.quarantine}"
            for row in connection.execute(_QUARANTINED_FRAMES, {"frames": list(frames)})
        }
        self.stood_in = {
            (row.product_id, row.by_product): str(row.because) for row in connection.execute(_STOOD_IN, given)
        }
        # Products that may supersede come before those that may be superseded: the largest without objections first.
        self.states.sort(key=lambda s: (self._has_unusable(s), -len(s.frames | s.left_out), s.made_at, s.id))

    def settle(self) -> set[UUID]:
        """Supersede and restore products, and return those whose status changed."""
        decided: list[_State] = []
        moved = set()
        for state in self.states:
            better = next((one for one in decided if self._takes_place(one, state)), None)
            if better is not None and state.replaceable:
                state = self._supersede(state, better)
                moved.add(state.id)
            elif better is None and state.set_aside:
                state = self._bring_back(state)
                moved.add(state.id)
            decided.append(state)
        return moved

    def _has_unusable(self, state: _State) -> bool:
        """Return whether any ancestor of a product is rejected, or a frame of it in quarantine."""
        return state.tier is Tier.TAINTED or any(sha256 in self.quarantined for _, sha256 in state.frames)

    def _takes_place(self, better: _State, state: _State) -> bool:
        if better.line != state.line or not better.eligible or self._has_unusable(better):
            return False
        if self._has_unusable(state):
            unusable = self.rejected | self.quarantined.keys()
            usable = {(role, sha256) for role, sha256 in state.frames if sha256 not in unusable}
            return bool(usable) and better.contains(usable)
        if better.tier > state.tier:
            return False
        if (better.id, state.id) in self.stood_in and better.made_at < state.made_at:
            return better.contains(state.frames)
        noisier = better.noise is not None and state.noise is not None and better.noise > state.noise
        return not noisier and _has_more(better, state)

    def _supersede(self, state: _State, better: _State) -> _State:
        because = None
        if state.tier is Tier.TAINTED:
            first = rejected_ancestors(self.connection, state.id)[0]
            because, reason = first.identity, f"{first}; {better.label} is made without it"
        elif self._has_unusable(state):
            because = next(
                sha256 for sha256 in self.quarantined if any(sha256 == one for _, one in state.frames)
            )
            reason = f"{self.quarantined[because]}; {better.label} is made without it"
        elif _has_more(better, state):
            held = state.frames - better.left_out
            reason = f"{better.label} is made of all its frames and {len(better.frames) - len(held)} more"
            if len(held) < len(state.frames):
                reason += f", without {len(state.frames) - len(held)} that it left out as unlike the others"
        else:
            because = self.stood_in[better.id, state.id]
            reason = f"{better.label}, which it replaced, counts again"
        self._change(state, "superseded", reason, because, better.id)
        if state.status == "certified":
            logger.warning("%s was certified; examine %s, then certify it", state.label, better.label)
        return replace(state, status="superseded", automatic=True, because=because)

    def _bring_back(self, state: _State) -> _State:
        again = (
            "all that it was made with counts again" if state.because else "no other product supersedes it"
        )
        self._change(state, "candidate", again, state.because, None)
        return replace(state, status="candidate", automatic=True)

    def _change(self, state: _State, status: str, reason: str, because: str | None, by: UUID | None) -> None:
        log_status(
            self.connection, state.id, status, None, author=AUTHOR, reason=reason, by=by, because=because,
            automatic=True,
        )  # fmt: skip
        self.connection.execute(
            update(table).where(table.c.id == state.id).values(status=status, validity=None)
        )
        logger.info("%s is %s: %s", state.label, status, reason)


def _has_more(better: _State, state: _State) -> bool:
    """Return whether a product contains all frames of another one and more, except for those that it left out."""
    held = state.frames - better.left_out
    return bool(held) and len(better.frames) > len(held) and better.contains(held)


def _state(row: Row[Any]) -> _State:
    given = row.metrics.get("given_as", {}) if row.kind != STACK.name else {}
    nights = nights_of(row.facts, (row.span_start, row.span_end)) if row.kind == STACK.name else ()
    return _State(
        id=row.id, label=f"{row.name} ({str(row.id)[:8]})",
        line=(row.kind, row.configuration_id, row.variant_id, *nights),
        status=row.status, tier=Tier(row.tier), damaged=row.damaged, noise=noise_of(row.metrics),
        frames=frozenset((role, sha256) for role, sha256 in row.frames),
        left_out=frozenset((role, sha256) for sha256, role in given.items()), made_at=row.made_at,
        automatic=row.automatic, first=row.first, because=row.because,
    )  # fmt: skip
