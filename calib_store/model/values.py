"""The JSON that comes with a product: what its readers rely on.

Products of a run have valid JSON. One from a transfer or a backup may contain anything: a number beyond the range of
floats, endlessly nested lists, an incomplete comparison. It is checked before it is stored, because a row that cannot
be read makes every command that encounters it fail.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from imaging.frames.facts import FrameFacts

#: Role of a product that an argument of a user's own step names. It is part of the recipe by its sha256 there.
OWN_STEP: Final = "own step"
#: Role of the stack of a standard field that gave a stack its zero point.
STANDARD: Final = "standard"
#: Roles of products that an input is not combined with or applied as; what they contribute is among the parameters.
IN_PARAMETERS: Final = frozenset({OWN_STEP, STANDARD})
#: Deepest nesting of lists and tables; a product has five levels.
_DEEPEST: Final = 50


class _Read(BaseModel):
    model_config = ConfigDict(strict=True)


class _Reference(_Read):
    id: str
    name: str


class _Verdict(_Read):
    """A comparison with a certified product, as recorded by `calib_store.curation.compare`."""

    passed: bool | None
    reasons: list[str] = []
    figures: dict[str, Any] = {}
    reference: _Reference | None = None


class _LeftOut(_Read):
    name: str
    reason: str


class _Exposed(_Read):
    """Exposures before the frames of a product: their sha256, and for each frame the places of its own among them."""

    exposures: list[str] = []
    frames: dict[str, list[int]] = {}


class _Metrics(_Read):
    """The figures that nirflow itself evaluates."""

    exposed_before: _Exposed = _Exposed()
    unused: list[str] = []
    given_as: dict[str, str] = {}
    left_out: list[_LeftOut] = []
    warnings: list[str] = []


def packed_exposures(before: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the exposures before the frames of a product as recorded with its figures, each named once.

    Parameters
    ----------
    before
        Sha256 of each frame to those of the exposures before it, in order of time.
    """
    exposures = list(dict.fromkeys(one for earlier in before.values() for one in earlier))
    place = {one: n for n, one in enumerate(exposures)}
    return {
        "exposures": exposures,
        "frames": {frame: [place[one] for one in earlier] for frame, earlier in before.items()},
    }


def exposures_in(metrics: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the exposures before the frames of a product from its figures; empty if none was recorded.

    Raises
    ------
    ValueError, LookupError
        If the record is no valid one.
    """
    recorded = _Metrics.model_validate(
        {k: v for k, v in metrics.items() if k == "exposed_before"}
    ).exposed_before
    return {frame: [recorded.exposures[n] for n in places] for frame, places in recorded.frames.items()}


def exposure_keys(before: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the part of a recipe key that comes from exposures whose persistence is flagged.

    Parameters
    ----------
    before
        Sha256 of each frame to those of the exposures before it, in order of time.
    """
    return [f"exposed:{frame}:{one}" for frame, earlier in sorted(before.items()) for one in earlier]


def problem_of(
    *,
    facts: FrameFacts,
    metrics: Any,
    parameters: Any,
    gate: Any,
) -> str | None:
    """Return what part of a product could be stored but not read, or None.

    Parameters
    ----------
    facts, metrics, parameters, gate
        Of the product, as in JSON.
    """
    for name, value in (("metrics", metrics), ("parameters", parameters), ("gate", gate or {})):
        if not isinstance(value, Mapping):
            return f"its {name} are not a table"
        if (problem := problem_of_json(value)) is not None:
            return f"its {name} have {problem}"
    try:
        _Metrics.model_validate(metrics)
        exposures_in(metrics)
        if gate is not None:
            _Verdict.model_validate(gate)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        what = "gate" if error.title == _Verdict.__name__ else "metrics"
        return f"its {what} have a wrong {'.'.join(map(str, first['loc']))}: {first['msg']}"
    except LookupError:
        return "its metrics name an exposure that they do not list"
    return problem_of_facts(facts)


def problem_of_facts(facts: FrameFacts) -> str | None:
    """Return why facts cannot describe an exposure, or None."""
    try:
        lasted = (facts.ended - facts.started).total_seconds()
    except (OverflowError, ValueError):  # beyond the range of floats or of the calendar
        lasted = math.inf
    return None if 0 <= lasted < math.inf else f"an exposure of {facts.exposure_time} s x {facts.coadds}"


def problem_of_json(value: Any, *, deepest: int = _DEEPEST) -> str | None:
    """Return what in a value cannot be read, or None: a number beyond the range of floats, or too deep a table."""
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return None if _is_bearable(value) else "a number that is too large"
    if deepest == 0:
        return f"more than {_DEEPEST} levels of nested lists and tables"
    return next(
        (problem for one in value if (problem := problem_of_json(one, deepest=deepest - 1)) is not None), None
    )


def _is_bearable(value: Any) -> bool:
    try:
        return not isinstance(value, int | float) or math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floats
        return False


def json_digest(value: Any) -> str:
    """Return the sha256 of a value as JSON: the same for the same content, whatever the order of its keys.

    Raises
    ------
    TypeError, ValueError
        If it contains something that JSON cannot represent (NaN, an object).
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
