"""Steps of attempts that died: the Prefect server believes that they still run until somebody ends them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from prefect import get_client, runtime
from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
from prefect.states import Crashed

_PAGE: Final = 200
#: The server hears of a step's end some seconds after its run's.
_SETTLED: Final = timedelta(hours=1)
_AT_WORK: Final = TaskRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING", "PENDING"]}}})


def end_steps_of_last_attempt() -> int:
    """In a run that is made once more: end the steps that its process of before left; how many there were."""
    run = runtime.flow_run.id
    if not run or (runtime.flow_run.run_count or 0) < 2:
        return 0
    return _end({"id": {"any_": [run]}})


def end_steps_of_ended_runs() -> int:
    """End the steps that are left of runs that ended an hour ago or earlier; how many there were."""
    return _end({"end_time": {"before_": datetime.now(UTC) - _SETTLED}})


def _end(runs: dict[str, Any]) -> int:
    ended: set[UUID] = set()
    of = FlowRunFilter.model_validate(runs)
    with get_client(sync_client=True) as client:
        while True:
            found = client.read_task_runs(flow_run_filter=of, task_run_filter=_AT_WORK, limit=_PAGE)
            left = [step for step in found if step.id not in ended]
            if not left:
                return len(ended)
            for step in left:
                client.set_task_run_state(
                    step.id, Crashed(message="The process of its run died."), force=True
                )
                ended.add(step.id)
