"""Steps of attempts that died: the Prefect server considers them running until they are ended here."""

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
#: The server records a step's end some seconds after the end of its run; this leaves ample time.
_SETTLED: Final = timedelta(hours=1)
_RUNNING: Final = TaskRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING", "PENDING"]}}})


def end_steps_of_last_attempt() -> int:
    """End the steps that the previous attempt of this run left behind, and return their number."""
    run = runtime.flow_run.id
    if not run or (runtime.flow_run.run_count or 0) < 2:
        return 0
    return _end({"id": {"any_": [run]}})


def end_steps_of_ended_runs() -> int:
    """End the steps left behind by runs that ended at least an hour ago, and return their number."""
    return _end({"end_time": {"before_": datetime.now(UTC) - _SETTLED}})


def _end(runs: dict[str, Any]) -> int:
    """End the steps of some runs; a failure only affects what the server shows, and is logged."""
    ended = 0
    died: State[Any] = Crashed(message="The process of the run died.")
    try:
        with get_client(sync_client=True) as client:
            for step in _running(client, FlowRunFilter.model_validate(runs)):
                try:
                    client.set_task_run_state(step, died, force=True)
                except ObjectNotFound:
                    continue
                ended += 1
    except (httpx.HTTPError, PrefectException) as error:
        logger.warning("Steps of dead attempts may still be shown as running: %s", error)
    return ended


def _running(client: SyncPrefectClient, of: FlowRunFilter) -> list[UUID]:
    found: list[UUID] = []
    while True:
        page = client.read_task_runs(
            flow_run_filter=of, task_run_filter=_RUNNING, limit=_PAGE, offset=len(found),
            sort=TaskRunSort.ID_DESC,
        )  # fmt: skip
        found += [step.id for step in page]
        if len(page) < _PAGE:
            return found
