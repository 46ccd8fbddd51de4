"""The threads in which a flow runs its steps."""

from __future__ import annotations

from typing import Any, Final, cast

from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

#: Steps at a time, most of which wait for one of the few places for computing (`tasks.support.workspace.compute_slot`)
#: or for an earlier step. Threads take the steps in the order in which they are submitted, and a step waits only for
#: earlier ones, so that any number does. Prefect's default is a thread for every step: a thousand for a long sequence,
#: all of which the UI shows as running.
_STEPS: Final = 16


def step_runner() -> TaskRunner[PrefectFuture[Any]]:
    """Return the task runner of a flow that makes products."""
    runner: Any = ThreadPoolTaskRunner(max_workers=_STEPS)
    return cast(TaskRunner[PrefectFuture[Any]], runner)
