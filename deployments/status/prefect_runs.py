"""What the Prefect server knows: the runs that are going on or wait for their turn, and what somebody switched off."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from deployments.access.policy_bodies import AWAITING_RETRY
from deployments.prefect_api.events import SEQUENCE
from deployments.prefect_api.names import POOL
from deployments.prefect_api.rest import Rest
from deployments.prefect_api.space_wait import SpaceWait
from deployments.settings.all_settings import Settings
from deployments.status.unfinished import Stage

#: How long a request for the status waits for an answer of the server, s.
PATIENCE: Final = 10.0
#: Runs that are listed; a queue may be longer.
LISTED: Final = 200
_GOING_ON: Final = ["RUNNING", "PENDING", "PAUSED", "CANCELLING"]
#: States of runs that a worker has taken, and that have not begun.
_TAKEN: Final = frozenset({"Pending", "Submitting", "InfrastructurePending"})


class RunState(BaseModel):
    """A run that is going on or waits for its turn."""

    model_config = ConfigDict(frozen=True)

    name: str
    state: str = Field(description="name of its state: Running, Scheduled, ...")
    stage: Stage = Field(description="queued or running")
    since: datetime | None = Field(default=None, description="when it began, or was due")
    deployment: str = Field(default="", description="what it is a run of")
    request: str = Field(default="", description="sequence or night that it was requested for")
    space: SpaceWait | None = Field(default=None, description="the disk space that it waits for")


def current_runs(rest: Rest) -> tuple[RunState, ...]:
    """Return the runs that are going on, and those that are due and wait for their turn.

    Raises
    ------
    RestError
        If the server does not answer.
    """
    going_on, due = rest.runs(_GOING_ON, LISTED), rest.runs(["SCHEDULED"], LISTED, due=True)
    if not going_on and not due:
        return ()
    names = {str(one["id"]): str(one["name"]) for one in rest.post("/deployments/filter", {})}
    return (
        *(_run(one, names, "queued" if one["state_name"] in _TAKEN else "running") for one in going_on),
        *(_run(one, names, "queued") for one in due),
    )


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


def _run(run: dict[str, Any], deployments: dict[str, str], stage: Stage) -> RunState:
    request = (run.get("parameters") or {}).get("request")
    asked = request if isinstance(request, dict) else {}
    return RunState(
        name=run["name"],
        state=run["state_name"],
        stage=stage,
        since=run["start_time"] or run.get("expected_start_time"),
        deployment=deployments.get(str(run.get("deployment_id")), ""),
        request=str(asked.get("sequence") or asked.get("first") or "").removeprefix(SEQUENCE),
        space=SpaceWait.of(run.get("labels") or {}) if run["state_name"] == AWAITING_RETRY else None,
    )
