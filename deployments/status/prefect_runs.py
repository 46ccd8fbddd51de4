"""What the Prefect server knows: the runs that are going on or wait for their turn, and what somebody switched off."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from deployments.access.policy_bodies import AWAITING_RETRY
from deployments.prefect_api.names import POOL, SEQUENCE
from deployments.prefect_api.rest import Rest
from deployments.prefect_api.run_names import last_night
from deployments.prefect_api.space_wait import SpaceWait
from deployments.settings.all_settings import Settings
from deployments.status.due import KnownRun

#: How long a request for the status waits for an answer of the server, s.
PATIENCE: Final = 10.0
#: Runs that are listed; a queue may be longer.
LISTED: Final = 200
_GOING_ON: Final = ["RUNNING", "PENDING", "PAUSED", "CANCELLING"]
#: States of runs that a worker has taken, and that have not begun.
_TAKEN: Final = frozenset({"Pending", "Submitting", "InfrastructurePending"})


@dataclass(frozen=True)
class ServerFacts:
    """What the Prefect server has at one moment.

    Attributes
    ----------
    runs
        The runs that are going on, and those that are due and wait for their turn.
    deployments
        The id of each deployment by its name.
    paused
        Names of the deployments that somebody paused.
    """

    runs: tuple[KnownRun, ...]
    deployments: Mapping[str, str]
    paused: frozenset[str]


def server_facts(rest: Rest, settings: Settings) -> ServerFacts:
    """Return what the server has.

    Raises
    ------
    RestError
        If the server does not answer.
    """
    runs = [*rest.runs(_GOING_ON, LISTED), *rest.runs(["SCHEDULED"], LISTED, due=True)]
    there = rest.post("/deployments/filter", {})
    return ServerFacts(
        runs=_known(runs, there, settings),
        deployments={str(one["name"]): str(one["id"]) for one in there},
        paused=frozenset(str(one["name"]) for one in there if one["paused"]),
    )


def runs_with_keys(rest: Rest, settings: Settings, keys: Sequence[str]) -> tuple[KnownRun, ...]:
    """Return the runs with some idempotency keys, also those that have ended.

    Raises
    ------
    RestError
        If the server does not answer.
    """
    found: list[dict[str, Any]] = []
    for first in range(0, len(keys), LISTED):
        wanted = {"idempotency_key": {"any_": list(keys[first : first + LISTED])}}
        found += rest.post("/flow_runs/filter", {"flow_runs": wanted, "limit": LISTED})
    return _known(found, rest.post("/deployments/filter", {}), settings) if found else ()


def switched_off(rest: Rest, settings: Settings) -> tuple[str, ...]:
    """Return what somebody switched off, so that runs do not start: automations, deployments, schedules, queues.

    Raises
    ------
    RestError
        If the server does not answer.
    """
    return tuple(_switched_off(rest, settings))


def _switched_off(rest: Rest, settings: Settings) -> Iterator[str]:
    for one in rest.post("/automations/filter", {}):
        if not one["enabled"]:
            yield f"the automation “{one['name']}”"
    for one in rest.post("/deployments/filter", {}):
        if one["paused"]:
            yield f"the deployment {one['name']}"
        elif any(not schedule["active"] for schedule in one["schedules"]) and (
            one["name"] != "nightly" or settings.nightly.enabled
        ):
            yield f"the schedule of {one['name']}"
    for one in rest.post("/work_pools/filter", {}):
        if one["name"] == POOL and one["is_paused"]:
            yield f"the work pool {POOL}"
    for one in rest.post(f"/work_pools/{POOL}/queues/filter", {}):
        if one["is_paused"]:
            yield f"the work queue {one['name']}"


def _known(
    runs: Sequence[dict[str, Any]], deployments: Sequence[dict[str, Any]], settings: Settings
) -> tuple[KnownRun, ...]:
    names = {str(one["id"]): str(one["name"]) for one in deployments}
    zone = ZoneInfo(settings.nightly.timezone)
    return tuple(_run(one, names.get(str(one.get("deployment_id")), ""), zone) for one in runs)


def _run(run: dict[str, Any], deployment: str, zone: tzinfo) -> KnownRun:
    request = (run.get("parameters") or {}).get("request")
    asked = request if isinstance(request, dict) else {}
    since = run["start_time"] or run.get("expected_start_time")
    return KnownRun(
        id=str(run.get("id", "")),
        name=run["name"],
        state=run["state_name"],
        stage=_stage(run),
        since=since,
        deployment=deployment,
        request=str(asked.get("sequence") or asked.get("first") or "").removeprefix(SEQUENCE),
        nights=_nights(asked, run, zone) if deployment in ("nightly", "calibrations") else None,
        key=run.get("idempotency_key") or "",
        space=SpaceWait.of(run.get("labels") or {}) if run["state_name"] == AWAITING_RETRY else None,
    )


def _stage(run: dict[str, Any]) -> Literal["queued", "running", "ended"]:
    if run["state_type"] == "SCHEDULED" or run["state_name"] in _TAKEN:
        return "queued"
    return "running" if run["state_type"] in _GOING_ON else "ended"


def _nights(asked: dict[str, Any], run: dict[str, Any], zone: tzinfo) -> tuple[date, date] | None:
    """Return the nights of a run over complete nights; without a request, the last night when it was due."""
    with contextlib.suppress(ValueError, TypeError):
        if first := asked.get("first"):
            return date.fromisoformat(first), date.fromisoformat(asked.get("last") or first)
        night = last_night(datetime.fromisoformat(run["expected_start_time"]), zone)
        return night, night
    return None
