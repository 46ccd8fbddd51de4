"""The order in which products serve a frame, best first: one list for the query, the explanation and the docs.

Each criterion is an SQL expression and the equivalent Python key, smaller first; a test checks that the two agree. The
last criterion is the id, so the order is total. A version of the rules names the version of the order that it uses, and
old versions are kept, so that an old choice can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from calib_store.model.records import Product, Tier

#: Masters whose distances in time from the frame are the same number of such steps, rounded down, are equally near:
#: among them the one with less noise is taken.
EQUALLY_NEAR: Final = timedelta(days=1)


_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)

#: Labels of the criteria that an explanation describes in more detail.
PROVISIONAL_LAST: Final = "made in the ordinary way, or in this run"
OTHER_PARAMETERS: Final = "made with the parameters of this run"
LESS_NOISE: Final = "less noise"


@dataclass(frozen=True)
class Asked:
    """What the order depends on in addition to the product.

    Parameters
    ----------
    middle
        Middle of the frame's exposure.
    own
        Products that the run has made from its own frames.
    variants
        Numbers of the variants whose parameters agree with those of the run.
    """

    middle: datetime
    own: Collection[UUID]
    variants: Collection[int]


@dataclass(frozen=True)
class Criterion:
    """One criterion of the order.

    Parameters
    ----------
    label
        Name in the docs and in explanations: it describes the products that come first.
    sql
        Expression over ``p`` (products), ``s`` (status and tier at the moment asked about) and the query's values.
    key
        The same for a product.
    outranked
        Why a product came after the one that was taken; empty if the distances in time show it.
    """

    label: str
    sql: str
    key: Callable[[Product, Asked], Any]
    outranked: str = ""


def noise_of(metrics: Mapping[str, Any]) -> float | None:
    """Return the noise of a master in its unit, or None if it is not known."""
    value = metrics.get("noise")
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _noise(product: Product, asked: Asked) -> tuple[bool, float]:
    noise = noise_of(product.metrics)
    return noise is None, noise or 0.0


_DISTANCE: Final = "abs(extract(epoch FROM p.middle - CAST(:middle AS timestamptz)))"

_UNTAINTED = Criterion(
    "made of nothing that was rejected", "s.tier = 3",
    lambda p, asked: p.tier is Tier.TAINTED,
    "made with something that was rejected; another was taken",
)  # fmt: skip
_CERTIFIED = Criterion(
    "certified for the time", "s.status <> 'certified'",
    lambda p, asked: p.status != "certified",
    "a candidate; a certified one was taken",
)  # fmt: skip
_ORDINARY = Criterion(
    PROVISIONAL_LAST, "s.tier = 2 AND NOT p.id = ANY(CAST(:prefer AS uuid[]))",
    lambda p, asked: p.tier is Tier.PROVISIONAL and p.id not in asked.own,
    "provisional; another was taken",
)  # fmt: skip
_COMPARED = Criterion(
    "not doubtful", "s.tier = 1",
    lambda p, asked: p.tier is Tier.DOUBTFUL,
    "doubtful; another was taken",
)  # fmt: skip
_PARAMETERS = Criterion(
    OTHER_PARAMETERS, "NOT p.variant_id = ANY(CAST(:variants AS bigint[]))",
    lambda p, asked: p.variant not in asked.variants,
    "made with other parameters than this run's; another was taken",
)  # fmt: skip
_OWN = Criterion(
    "made of this run's own frames", "NOT p.id = ANY(CAST(:prefer AS uuid[]))",
    lambda p, asked: p.id not in asked.own,
    "not of this night's own frames; one of them was taken",
)  # fmt: skip
_STEP = Criterion(
    f"nearest in time, in steps of {EQUALLY_NEAR / timedelta(hours=1):g} hours",
    f"floor({_DISTANCE} / {EQUALLY_NEAR.total_seconds():.0f})",
    lambda p, asked: abs(p.middle - asked.middle) // EQUALLY_NEAR,
)  # fmt: skip
_LESS_NOISE = Criterion(
    LESS_NOISE, "CASE WHEN jsonb_typeof(p.metrics -> 'noise') = 'number'"
    " THEN CAST(p.metrics ->> 'noise' AS float8) END NULLS LAST",
    _noise,
    "equally near in time, with more noise",
)  # fmt: skip
_NEAREST = Criterion("nearest in time", _DISTANCE, lambda p, asked: abs(p.middle - asked.middle))
_EARLIER = Criterion(
    "earlier than the frame", "p.middle > CAST(:middle AS timestamptz)",
    lambda p, asked: p.middle > asked.middle,
    "as near in time but later",
)  # fmt: skip
_NEWEST = Criterion(
    "newest made", "p.made_at DESC",
    lambda p, asked: -(p.made_at - _LONG_AGO) // timedelta(microseconds=1),
    "as near in time but made earlier",
)  # fmt: skip
_ID = Criterion("id", "p.id", lambda p, asked: p.id, "equal but for its id")

#: Used by the first order: the result of the comparison when the product was made, whatever became of the reference.
_COMPARED_THEN = Criterion(
    "passed its comparison when it was made", "coalesce(p.gate @> '{\"passed\": false}', false)",
    lambda p, asked: (p.gate or {}).get("passed") is False,
    "failed its comparison with a certified one; another was taken",
)  # fmt: skip

#: The order by version.
ORDERS: Final[Mapping[int, tuple[Criterion, ...]]] = {
    1: (_CERTIFIED, _OWN, _COMPARED_THEN, _NEAREST, _EARLIER, _NEWEST, _ID),
    2: (
        _UNTAINTED, _CERTIFIED, _ORDINARY, _COMPARED, _PARAMETERS, _OWN, _STEP, _LESS_NOISE, _NEAREST, _EARLIER,
        _NEWEST, _ID,
    ),
}  # fmt: skip
#: The version that new rules use.
CURRENT: Final = 2


def order_by(version: int) -> str:
    """Return the order as SQL, for ``ORDER BY``."""
    return ", ".join(criterion.sql for criterion in ORDERS[version])


def rank(product: Product, asked: Asked, version: int = CURRENT) -> tuple[Any, ...]:
    """Return the order as a key to sort by, smallest first."""
    return tuple(criterion.key(product, asked) for criterion in ORDERS[version])


def first_outranked(product: Product, taken: Product, asked: Asked, version: int = CURRENT) -> Criterion:
    """Return the first criterion by which ``taken`` comes before another product."""
    return next(c for c in ORDERS[version] if c.key(product, asked) != c.key(taken, asked))


def labels(version: int = CURRENT) -> tuple[str, ...]:
    """Return the labels of the criteria in order, for display."""
    return tuple(criterion.label for criterion in ORDERS[version])
