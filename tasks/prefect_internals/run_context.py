"""The current flow run and task run. Prefect is imported only if something else has imported it."""

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
        Name of the flow; None in a process that runs only one of its tasks.
    detached
        Whether this process runs only a task of it.
    """

    id: str
    flow_name: str | None
    detached: bool


def current_run() -> CurrentRun | None:
    """Return the current flow run, or None."""
    context = _flow_run_context()
    if context is None or context.flow_run is None:
        return None
    name = context.flow.name if context.flow is not None else None
    return CurrentRun(str(context.flow_run.id), name, context.detached)


def run_names() -> list[str | None]:
    """Return the names of the current flow run and task run; None for a missing one."""
    # Only if something else imported Prefect: a second of imports is too much for a log line.
    prefect: Any = sys.modules.get("prefect.context")
    if not hasattr(prefect, "TaskRunContext"):  # not imported, or just being imported
        return [None, None]
    flow, task = prefect.FlowRunContext.get(), prefect.TaskRunContext.get()
    return [
        flow.flow_run.name if flow and flow.flow_run else None,
        task.task_run.name if task else None,
    ]


@contextmanager
def submitting_to(runner: TaskRunner[Any]) -> Iterator[None]:
    """Make the current flow run submit its tasks to another task runner inside the block."""
    context = _flow_run_context()
    if context is None:
        raise RuntimeError("tasks can be submitted only within a flow run")
    with context.model_copy(update={"task_runner": runner}):
        yield


def _flow_run_context() -> Any:
    from prefect.context import FlowRunContext

    return FlowRunContext.get()
