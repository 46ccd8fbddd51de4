"""A task of a flow run packed for another process, and run there.

Prefect's own mark that an input may have failed, ``allow_failure``, does not come through pickling; here a `Place`
keeps it. Prefect is imported with the first task only: a process may first set what acts at its import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import cloudpickle  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from prefect import Flow, Task


class Place:
    """Where in the arguments of a task the outcome of an earlier one belongs, and whether that may be a failure."""

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
        As a task runner's ``submit`` has them, and the id that the task run is to have.
    flow
        In the place of this run's flow, whose body may not be sent.
    remote
        Returns what stands for the outcome of a future where the task runs; None for anything else.

    Returns
    -------
    tuple
        For `run_packed_task`: the bytes, and what stands for the earlier outcomes, in their order.
    """
    from prefect import allow_failure
    from prefect.context import serialize_context
    from prefect.utilities.collections import visit_collection

    earlier: list[Any] = []

    def placed(one: Any) -> Any:
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
        By `packed_task`.
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

    told = cloudpickle.loads(packed)
    parameters, wait_for = visit_collection(
        (told.pop("parameters"), told.pop("wait_for")), visit_fn=filled, return_data=True
    )
    return run_task_sync(**told, parameters=parameters, wait_for=wait_for, return_type="state")
