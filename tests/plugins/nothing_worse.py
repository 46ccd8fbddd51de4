"""Invariants after every action on a store: no valid product and no choice was replaced by a worse one.

Everything is verified with the store's own records: why a product became invalid, and the content of its
successor.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from calib_store.choice.matching import Wanted, judge
from calib_store.model.records import Product, Tier
from calib_store.rules.order import EQUALLY_NEAR, noise_of, rank
from calib_store.rules.rules import RuleSet
from calib_store.store import Store
from calib_store.tables import succession, variants
from calib_store.tables.products import with_ids
from calib_store.tables.rulebook import active_rules
from imaging.frames.facts import FrameFacts

Frames = frozenset[tuple[str, str]]
#: Kinds of calibration to match frames with.
KINDS = ("dark", "bpm", "flat")

_OF_TIME = text("SELECT id FROM products WHERE middle >= :first AND middle < :last ORDER BY made_at, id")


@dataclass(frozen=True)
class Act:
    """An action.

    Attributes
    ----------
    label
        Label for the message.
    decided
        Products (ids) and raw frames (sha256) whose status the user changed.
    redone
        The bad input because of which products were made again, if any: id or sha256.
    """

    label: str
    decided: Collection[UUID | str] = ()
    redone: str | None = None


@dataclass(frozen=True)
class Seen:
    """The products of a store at a moment, and which of them serve the probes."""

    products: Mapping[UUID, Product]
    choices: Mapping[tuple[str, str], UUID | None]


@dataclass
class Watch:
    """A store that is verified after every action.

    Parameters
    ----------
    store
        The store.
    probes
        Frames for which the choice is verified.
    between
        Only products of this period.
    """

    store: Store
    probes: Sequence[FrameFacts]
    between: tuple[datetime, datetime]
    kinds: Sequence[str] = KINDS
    last: Seen = field(default_factory=lambda: Seen({}, {}))
    _frames: dict[UUID, Frames] = field(default_factory=dict)

    def look(self) -> Seen:
        """Return the state of the store, with choices by its rules and order, which `explained` compares with
        its own.
        """
        first, last = self.between

        def ask(connection: Connection) -> tuple[tuple[Product, ...], RuleSet, dict[str, tuple[int, ...]]]:
            ids = connection.scalars(_OF_TIME, {"first": first, "last": last}).all()
            agreeing = {kind: variants.agreeing(connection, kind, None) for kind in self.kinds}
            return with_ids(connection, ids), active_rules(connection), agreeing

        products, rules, agreeing = self.store.database.read(ask)
        choices: dict[tuple[str, str], UUID | None] = {}
        for probe, kind in itertools.product(self.probes, self.kinds):
            wanted = Wanted(probe, kind, rules, variants=agreeing[kind])
            serve = [p for p in products if p.kind == kind and judge(p, wanted) is None]
            taken = min(serve, key=lambda p: rank(p, wanted.asked, rules.order), default=None)
            choices[probe.name, kind] = taken.id if taken is not None else None
        return Seen({product.id: product for product in products}, choices)

    def after(self, act: Act) -> None:
        """Verify the effect of an action."""
        before, now = self.last, self.look()
        self.last = now
        for one in before.products.values():
            current = now.products[one.id]
            if one.counts and not current.counts:
                self._verify_lost(one, current, now, act)
        for (name, kind), was in before.choices.items():
            taken = now.choices[name, kind]
            if was is not None and taken != was:
                probe = next(p for p in self.probes if p.name == name)
                self._verify_choice(probe, before, now, was, taken, act)

    def explained(self) -> None:
        """Verify that the store's own choices and explanations agree."""
        for probe in self.probes:
            for kind in self.kinds:
                match, taken = self.store.explain(probe, kind), self.last.choices[probe.name, kind]
                first = [one for one in match.candidates if one.serves]
                explained = match.product and match.product.name_and_id
                what = f"{kind} of {probe.name}: explained {explained}, chosen {taken}"
                assert (match.product.id if match.product else None) == taken, what
                assert [one.product.id for one in match.candidates if one.taken] == [taken] * bool(taken), (
                    what
                )
                assert first[:1] == [one for one in first if one.taken], what

    def settled(self) -> None:
        """Verify that deriving everything again changes nothing."""
        ids = list(self.last.products)
        self.store.database.run(lambda connection: succession.reexamine(connection, ids))
        again = self.look()
        assert _standings(again) == _standings(self.last), "something changes when it is derived again"

    def frames_of(self, product: Product | UUID) -> Frames:
        """Return the raw frames of a product with their roles."""
        one = product if isinstance(product, UUID) else product.id
        if one not in self._frames:
            refs = self.store.inputs_of(self.store.get(one))
            self._frames[one] = frozenset((r.role, r.source) for r in refs if isinstance(r.source, str))
        return self._frames[one]

    def usable_of(self, product: Product) -> Frames:
        """Return those of them that are not rejected."""
        frames = self.frames_of(product)
        bad = self.store.frames.rejections(sha256 for _, sha256 in frames)
        return frozenset((role, sha256) for role, sha256 in frames if sha256 not in bad)

    def _verify_lost(self, one: Product, current: Product, now: Seen, act: Act) -> None:
        last = self.store.history(current)[-1]
        what = f"{act.label}: {one.name_and_id} was {one.state}, is {current.state} ({last.reason})"
        if one.id in act.decided and not last.automatic:
            return
        assert current.status == "superseded", what
        assert last.by in now.products, what
        new = now.products[last.by]
        while not new.counts and (then := self.store.history(new)[-1]).automatic and then.by is not None:
            new = now.products[then.by]  # which was itself replaced in the same action
        what = f"{what}, by {new.name_and_id} ({new.state})"
        if not last.automatic:
            assert act.redone is not None, what
            assert last.because == act.redone, what
            assert _contains(self.frames_of(new), self.usable_of(current)), what
            return
        assert new.counts, what
        assert not new.damaged, what
        assert new.tier < Tier.PROVISIONAL, what
        assert new.variant == one.variant, what
        if current.tier is Tier.TAINTED:
            assert self.store.rejected_ancestors(current), what
            assert _contains(self.frames_of(new), self.usable_of(current)), what
            return
        assert new.tier <= current.tier, what
        left_out = set(new.metrics.get("given_as", {})) if one.kind != "image" else set()
        held = {(role, sha256) for role, sha256 in self.frames_of(one) if sha256 not in left_out}
        assert _contains(self.frames_of(new), held), f"{what}: it lacks frames"
        if last.because is None:
            assert len(self.frames_of(new)) > len(held), f"{what}: it does not have more frames"
            assert not _noisier(new, one), f"{what}: it has more noise"

    def _verify_choice(
        self, probe: FrameFacts, before: Seen, now: Seen, was: UUID, taken: UUID | None, act: Act
    ) -> None:
        old, old_now = before.products[was], now.products[was]
        new = now.products[taken] if taken is not None else None
        what = f"{act.label}: {old.kind} of {probe.name} was {old.name_and_id} ({old.state}), is "
        what += f"{new.name_and_id} ({new.state})" if new is not None else "none"
        if old_now.damaged:
            return
        if not old_now.counts:  # the reason was verified; the product used instead serves as well
            assert new is not None or old.id in act.decided, what
            return
        if _standing(old) != _standing(old_now):
            assert act.decided or old.tier is Tier.PROVISIONAL, what
            return
        assert new is not None, what
        there = before.products.get(new.id)
        if there is not None:
            # It existed before: its status has changed, for a reason given by the user.
            assert _standing(there) != _standing(new), what
            assert act.decided or there.damaged or there.tier is Tier.PROVISIONAL, what
            return
        if old.tier > new.tier or old.variant != new.variant:
            return
        frames, own = self.frames_of(new), self.frames_of(old)
        assert not frames < own, f"{what}: made from part of the frames"
        if _steps(new, probe) < _steps(old, probe):
            return
        assert not _noisier(new, old), f"{what}: it has more noise"


def _contains(frames: Collection[tuple[str, str]], others: Collection[tuple[str, str]]) -> bool:
    """Return whether the frames are among others; those used only as sky do not matter."""
    any_role = {sha256 for _, sha256 in frames}
    return all((role, sha) in frames or (role == "sky" and sha in any_role) for role, sha in others)


def _noisier(one: Product, other: Product) -> bool:
    first, second = noise_of(one.metrics), noise_of(other.metrics)
    return first is not None and second is not None and first > second


def _steps(product: Product, probe: FrameFacts) -> int:
    return abs(product.middle - probe.middle) // EQUALLY_NEAR


def _standing(product: Product) -> tuple[Any, ...]:
    return product.status, product.tier, product.validity, product.damaged


def _standings(seen: Seen) -> dict[UUID, tuple[Any, ...]]:
    return {one.id: _standing(one) for one in seen.products.values()}
