"""Steps of attempts that died: the Prefect server believes that they still run until somebody ends them."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import httpx  # what Prefect's client raises, there with it
from prefect import get_client, runtime
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
from prefect.client.schemas.sorting import TaskRunSort
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.states import Crashed, State

logger = logging.getLogger(__name__)

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
    """End the steps of some runs. How the server shows them is no reason for anything else to fail."""
    ended = 0
    died: State[Any] = Crashed(message="The process of its run died.")
    try:
        with get_client(sync_client=True) as client:
            for step in _at_work(client, FlowRunFilter.model_validate(runs)):
                try:
                    client.set_task_run_state(step, died, force=True)
                except ObjectNotFound:
                    continue
                ended += 1
    except (httpx.HTTPError, PrefectException) as error:
        logger.warning("Steps of dead attempts seem to be at work still: %s", error)
    return ended


def _at_work(client: SyncPrefectClient, of: FlowRunFilter) -> list[UUID]:
    found: list[UUID] = []
    while True:
        page = client.read_task_runs(
            flow_run_filter=of, task_run_filter=_AT_WORK, limit=_PAGE, offset=len(found),
            sort=TaskRunSort.ID_DESC,
        )  # fmt: skip
        found += [step.id for step in page]
        if len(page) < _PAGE:
            return found
