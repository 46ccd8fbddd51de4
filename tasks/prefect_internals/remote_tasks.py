"""Tasks of a flow run packed for another process, and run there.

Prefect's own marks are lost in pickling: that of an input that may have failed (``allow_failure``) is kept by a
`Place`, and that of one that Prefect does not look into (``opaque``) is removed before. Prefect is imported only with
the first task, so that a process can first set what takes effect at its import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import cloudpickle  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from prefect import Flow, Task


class Place:
    """The place of an earlier task's outcome in the arguments, and whether that outcome may be a failure."""

    def __init__(self, number: int, may_fail: bool) -> None:
        self.number, self.may_fail = number, may_fail


def packed_task(
    task: Task[..., Any],
    task_run_id: UUID,
    parameters: dict[str, Any],
    wait_for: Iterable[Any] | None,
    dependencies: dict[str, set[Any]] | None,
    *,
    flow: Flow[..., Any],
    remote: Callable[[Any], Any | None],
) -> tuple[bytes, list[Any]]:
    """Pack a task with its arguments and the context of this run.

    Parameters
    ----------
    task, task_run_id, parameters, wait_for, dependencies
        As for a task runner's ``submit``, and the id of the task run.
    flow
        A substitute for this run's flow, whose body may not be sent.
    remote
        Returns the placeholder for the outcome of a future; None for anything else.

    Returns
    -------
    tuple
        The arguments of `run_packed_task`: the bytes, and the placeholders of the earlier outcomes, in order.
    """
    from prefect import allow_failure
    from prefect.context import serialize_context
    from prefect.utilities.annotations import opaque
    from prefect.utilities.collections import visit_collection

    earlier: list[Any] = []

    def placed(one: Any) -> Any:
        if isinstance(one, opaque):
            one = one.unwrap()
        may_fail = isinstance(one, allow_failure)
        there = remote(one.unwrap() if may_fail else one)
        if there is None:
            return one
        earlier.append(there)
        return Place(len(earlier) - 1, may_fail)

    inputs = visit_collection(
        (parameters, list(wait_for) if wait_for else None), visit_fn=placed, return_data=True
    )
    context = serialize_context()
    context["flow_run_context"]["flow"] = flow
    packed: bytes = cloudpickle.dumps(
        {
            "task": task, "task_run_id": task_run_id, "parameters": inputs[0], "wait_for": inputs[1],
            "dependencies": dependencies, "context": context,
        }
    )  # fmt: skip
    return packed, earlier


def run_packed_task(packed: bytes, *earlier: Any) -> Any:
    """Run a task and return its final state.

    Parameters
    ----------
    packed
        The task, from `packed_task`.
    earlier
        The final states of the tasks that it needs.
    """
    from prefect import allow_failure
    from prefect.task_engine import run_task_sync
    from prefect.utilities.collections import visit_collection

    def filled(one: Any) -> Any:
        if not isinstance(one, Place):
            return one
        state = earlier[one.number]
        return allow_failure(state) if one.may_fail else state

    arguments = cloudpickle.loads(packed)
    parameters, wait_for = visit_collection(
        (arguments.pop("parameters"), arguments.pop("wait_for")), visit_fn=filled, return_data=True
    )
    return run_task_sync(**arguments, parameters=parameters, wait_for=wait_for, return_type="state")
