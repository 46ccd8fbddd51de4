"""Prefect's runner of tasks on a Dask cluster, for tasks that hand each other outcomes which may be failures.

The runner of prefect-dask loses the mark that an input may have failed (``allow_failure``), pickles tasks by
value, and takes a lost worker for a task that is still to come. What it does about clients and futures is used.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any
from uuid import UUID, uuid4

import distributed
from prefect import Flow, Task
from prefect.futures import PrefectFuture
from prefect.states import Failed
from prefect_dask import DaskTaskRunner

from deployments.deployed.on_dask import TOPIC
from imaging.errors import NirflowError
from tasks.prefect_internals.dask_futures import DaskFuture
from tasks.prefect_internals.remote_tasks import packed_task, run_packed_task
from tasks.prefect_internals.run_context import current_run
from tasks.support.step import StepEvent, report_event


def _body() -> None:
    """In the place of a flow's own body and hooks, which a step does not need and which may not be sent."""


class ClusterError(NirflowError):
    """The Dask cluster cannot be used, or went away."""


class StepFuture(DaskFuture):
    """A step on the cluster.

    Parameters
    ----------
    task_run_id
        Its task run.
    wrapped_future
        Dask's future, of which the result is the final state.
    ended
        Called when its end is known.
    """

    def __init__(
        self, task_run_id: UUID, wrapped_future: distributed.Future, ended: Callable[[], None]
    ) -> None:
        super().__init__(task_run_id, wrapped_future)
        self._ended = ended

    def wait(self, timeout: float | None = None) -> None:
        """Wait for its end, or for some seconds.

        Raises
        ------
        ClusterError
            Where the scheduler went away: nobody knows of the step any more.
        """
        if self.final_state is not None:
            return
        try:
            error = self.wrapped_future.exception(timeout)
            if error is None:
                self.final_state = self.wrapped_future.result(timeout)
        except distributed.TimeoutError:
            return
        except distributed.CancelledError as error:
            raise ClusterError(
                "The Dask scheduler went away, and with it the steps in work.",
                remedy="Start it again and run this again: what was finished is in the store.",
            ) from error
        if error is not None:  # the step itself gives its errors as a state
            lost = isinstance(error, distributed.KilledWorker)
            why = "one Dask worker after another died at it" if lost else f"{error}"
            told = ClusterError(
                f"The step could not be run: {why}.", remedy="See the logs of the Dask workers."
            )
            self.final_state = Failed(message=str(told), data=told)
        self._ended()


class StepRunner(DaskTaskRunner):
    """Runs steps on the workers of a Dask scheduler, and tells their events in this process.

    Parameters
    ----------
    address
        Of the scheduler.
    timeout
        How long the scheduler may take to answer, s.
    """

    def __init__(self, address: str, timeout: float) -> None:
        super().__init__(address=address, client_kwargs={"timeout": timeout})
        self._given = (address, timeout)
        self._teller = ThreadPoolExecutor(1, thread_name_prefix="step-events")
        self._told: deque[Future[None]] = deque()

    def duplicate(self) -> StepRunner:
        """Another one of the same scheduler."""
        return StepRunner(*self._given)

    def submit(  # type: ignore[override]  # of any task, not by kinds of their functions
        self,
        task: Task[..., Any],
        parameters: dict[str, Any],
        wait_for: Iterable[PrefectFuture[Any]] | None = None,
        dependencies: dict[str, set[Any]] | None = None,
    ) -> StepFuture:
        """Have a step run when those that it needs have ended."""
        run = uuid4()
        packed, earlier = packed_task(
            task, run, parameters, wait_for, dependencies, flow=self._flow,
            remote=lambda one: one.wrapped_future if isinstance(one, StepFuture) else None,
        )  # fmt: skip
        future = self.client.submit(run_packed_task, packed, *earlier, key=f"{task.name}-{run}", pure=False)
        return StepFuture(run, future, self._all_reported)

    def listen(self) -> None:
        """Tell the events of this flow run's steps from now on."""
        run, context = current_run(), copy_context()
        assert run is not None
        mine, self._flow = run.id, Flow(_body, name=run.flow_name)

        def note(event: tuple[float, dict[str, Any]]) -> None:
            # Called where Dask's messages come in: nobody may take his time there.
            told = event[1]
            if told["run"] == mine:
                self._told.append(self._teller.submit(context.run, report_event, StepEvent(**told["event"])))

        self.client.subscribe_topic(TOPIC, note)

    def _all_reported(self) -> None:
        """Wait until the events that came before have been told; what a listener raises is raised here."""
        while self._told:
            self._told.popleft().result()

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)
        self._teller.shutdown()
