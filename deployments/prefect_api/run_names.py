"""The names of runs of the deployments: readable from the moment a run is created, and the same while it runs.

The Prefect server names a run when it creates it (`tasks.prefect_internals.named_runs`), the flow when it begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, Final

from pydantic import BaseModel

from deployments.prefect_api.names import SEQUENCE
from imaging.instruments.site import Site
from imaging.printable import printable

#: The last night before a moment is the one in progress this long before it: from 23:00 on the one that has begun.
_BEFORE: Final = timedelta(hours=9)
#: A run that is due later than this is scheduled, one that is due now waits for its turn.
_SOON: Final = timedelta(minutes=1)


def last_night(moment: datetime, zone: tzinfo) -> date:
    """Return the night that ended last, or ends this morning, before a moment, in the time zone of an observatory."""
    before = (moment - _BEFORE).astimezone(zone)
    offset = before.utcoffset()
    assert offset is not None
    return Site(utc_offset=offset / timedelta(hours=1)).night_of(before)


def nights_text(nights: Sequence[object]) -> str:
    """Return the first and the last of nights in order, for messages."""
    return " to ".join(dict.fromkeys((str(nights[0]), str(nights[-1]))))


def run_name(deployment: str, request: Any, due: datetime, zone: tzinfo) -> str | None:
    """Return the name of a run: what it does, and of what.

    Parameters
    ----------
    deployment
        Name of the deployment.
    request
        The parameter ``request`` of the run, as a model or as plain data; None if the run has none.
    due
        When the run is due, in whose last night it is by default.
    zone
        Time zone of the observatory.

    Returns
    -------
    str
        The name; None for a deployment that is not one of nirflow's.
    """
    asked: Mapping[str, Any] = request.model_dump() if isinstance(request, BaseModel) else request or {}
    if deployment in ("arrival", "backlog"):
        return _of_sequence(asked)
    if deployment in ("nightly", "calibrations"):
        first = asked.get("first") or last_night(due, zone)
        what = "night" if deployment == "nightly" else deployment
        return f"{what} {nights_text((first, asked.get('last') or first))}"
    if deployment == "reprocess":
        return f"reprocess {asked.get('affected_by') or 'by rules after ' + str(asked.get('rules_version'))}"
    if deployment == "decide":
        return f"{asked.get('decision')} {asked.get('product')}"
    if deployment in ("mosaic", "housekeeping"):
        return " ".join(filter(None, (deployment, asked.get("target"), asked.get("observation"))))
    return None


def queued_name(
    deployment: str, parameters: Mapping[str, Any], due: datetime, zone: tzinfo, now: datetime | None = None
) -> str | None:
    """Return the name of a run that has not begun, with what it waits for; None as `run_name`.

    Parameters
    ----------
    deployment, due, zone
        As for `run_name`.
    parameters
        All parameters of the run.
    now
        The time, UTC; default: the machine's clock.
    """
    name = run_name(deployment, parameters.get("request"), due, zone)
    if name is None:
        return None
    later = due - (now or datetime.now(UTC)) > _SOON
    return printable(f"{name}, {'scheduled' if later else 'waits for its turn'}")


def _of_sequence(asked: Mapping[str, Any]) -> str:
    """Return the label of a sequence if the request has it, otherwise the readable parts of its name."""
    if label := str(asked.get("label") or "").strip():
        return label
    night, *parts = str(asked.get("sequence", "")).removeprefix(SEQUENCE).split(".")[:-1] or [""]
    return " ".join([*parts, night])
