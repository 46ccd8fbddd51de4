"""The flow run and the task run that this code is called in. Imports Prefect only when something else has."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from prefect.task_runners import TaskRunner


class CurrentRun(NamedTuple):
    """A flow run.

    Attributes
    ----------
    id
        Its id on the Prefect server.
    flow_name
        Name of the flow; None in a process that only runs a task of it.
    detached
        Whether this process only runs a task of it.
    """

    id: str
    flow_name: str | None
    detached: bool


def current_run() -> CurrentRun | None:
    """Return the flow run that this is called in, or None."""
    context = _flow_run_context()
    if context is None or context.flow_run is None:
        return None
    name = context.flow.name if context.flow is not None else None
    return CurrentRun(str(context.flow_run.id), name, context.detached)


def run_names() -> list[str | None]:
    """Return the names of the flow run and of the task run that this is called in; None for one that is missing."""
    # Looked for only where something else imported Prefect: a second of imports is too much for a line of a log.
    prefect: Any = sys.modules.get("prefect.context")
    if not hasattr(prefect, "TaskRunContext"):  # not imported, or being imported at this moment
        return [None, None]
    flow, task = prefect.FlowRunContext.get(), prefect.TaskRunContext.get()
    return [
        flow.flow_run.name if flow and flow.flow_run else None,
        task.task_run.name if task else None,
    ]


@contextmanager
def submitting_to(runner: TaskRunner[Any]) -> Iterator[None]:
    """Have the flow run that this is called in submit its tasks to another task runner inside the block."""
    context = _flow_run_context()
    if context is None:
        raise RuntimeError("tasks are submitted in a flow run only")
    with context.model_copy(update={"task_runner": runner}):
        yield


def _flow_run_context() -> Any:
    from prefect.context import FlowRunContext

    return FlowRunContext.get()
