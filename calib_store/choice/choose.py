"""The choice for a frame: queried from the database, checked against the files, with all candidates."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from calib_store.choice import matching
from calib_store.choice.standard_stacks import match_standard
from calib_store.model.records import Match, Product
from calib_store.model.values import STANDARD
from calib_store.tables import rulebook, variants
from calib_store.tables.database import Database
from imaging.frames.facts import FrameFacts

#: What is wrong with a product, so that the next best is taken, or None if nothing is.
FlawOf = Callable[[Product], str | None]


@dataclass(frozen=True)
class Question:
    """Which product of a kind serves a frame: see `calib_store.store.Store.match`."""

    facts: FrameFacts
    kind: str
    as_of: datetime | None = None
    prefer: Sequence[UUID] = field(default=())
    without: Collection[UUID] = field(default=())
    parameters: variants.Parameters | None = None


def match(database: Database, question: Question, flaw_of: FlawOf) -> Match:
    """Return the product that serves a frame, or none, and the others that were considered."""
    if question.kind == STANDARD:
        return match_standard(database, question.facts, as_of=question.as_of, system=_system(question))
    return _matched(database, question, flaw_of)[0]


def explain(database: Database, question: Question, flaw_of: FlawOf, limit: int) -> Match:
    """Return the choice of `match` with products that do not serve: at most ``limit`` before and after the frame."""
    if question.kind == STANDARD:
        return match_standard(
            database, question.facts, as_of=question.as_of, system=_system(question), others=2 * limit
        )
    found, wanted = _matched(database, question, flaw_of)
    near = database.read(lambda connection: matching.nearest(connection, wanted, limit))
    there = {candidate.product.id for candidate in found.candidates}
    judged = [(p, matching.judge(p, wanted)) for p in near if p.id not in there]
    judged.sort(key=lambda one: matching.first_failure(one[0], one[1], wanted))
    rest = matching.judged_candidates(judged, found.product, wanted)
    return replace(found, candidates=(*found.candidates, *rest))


def _system(question: Question) -> str:
    """Return the magnitude system of the run, or the usual one."""
    return str((question.parameters or {}).get("photometry", {}).get("system", "Vega"))


def _matched(database: Database, question: Question, flaw_of: FlawOf) -> tuple[Match, matching.Wanted]:
    facts, kind, as_of = question.facts, question.kind, question.as_of
    run = variants.default_parameters() if question.parameters is None else question.parameters

    def ask(but: Collection[UUID]) -> tuple[matching.Wanted, list[Product]]:
        def read(connection: Connection) -> tuple[matching.Wanted, list[Product]]:
            rules = rulebook.active_rules(connection, as_of)
            agreeing = variants.agreeing(connection, kind, run)
            wanted = matching.Wanted(facts, kind, rules, as_of, question.prefer, but, agreeing, run)
            return wanted, matching.serving(connection, wanted, matching.SERVING_LIMIT + len(but))

        return database.read(read)

    wanted, taken, considered = matching.first_intact(ask, flaw_of, question.without)
    candidates = matching.judged_candidates(considered, taken, wanted)
    return Match(facts.name, kind, taken, candidates, wanted.rules.version, as_of, wanted.rules.order), wanted
