"""A task runner for a Dask cluster that accepts inputs from failed tasks.

The runner of prefect-dask, on which it is based, loses the mark that an input may have failed (``allow_failure``),
pickles tasks by value, and treats the task of a lost worker as pending.
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
    """Replace a flow's body and hooks, which a step does not need and which cannot always be pickled."""


class ClusterError(NirflowError):
    """A Dask cluster that cannot be used, or was lost."""


class StepFuture(DaskFuture):
    """A step on the cluster.

    Parameters
    ----------
    task_run_id
        The id of its task run.
    wrapped_future
        Dask's future, whose result is the final state.
    ended
        Called when the step has ended.
    """

    def __init__(
        self, task_run_id: UUID, wrapped_future: distributed.Future, ended: Callable[[], None]
    ) -> None:
        super().__init__(task_run_id, wrapped_future)
        self._ended = ended

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the step ends, or for some seconds.

        Raises
        ------
        ClusterError
            If the scheduler was lost, and with it the step.
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
                "The Dask scheduler was lost, and with it the running steps.",
                remedy="Start it again and repeat this run: finished products are in the store.",
            ) from error
        if error is not None:  # the step itself returns its errors as a state
            lost = isinstance(error, distributed.KilledWorker)
            reason = "several Dask workers died while running it" if lost else f"{error}"
            failure = ClusterError(
                f"The step could not be run: {reason}.", remedy="See the logs of the Dask workers."
            )
            self.final_state = Failed(message=str(failure), data=failure)
        self._ended()


class StepRunner(DaskTaskRunner):
    """A runner of steps on the workers of a Dask scheduler, which reports their events in this process.

    Parameters
    ----------
    address
        Address of the scheduler.
    timeout
        Time for the scheduler to respond, s.
    """

    def __init__(self, address: str, timeout: float) -> None:
        super().__init__(address=address, client_kwargs={"timeout": timeout})
        self._given = (address, timeout)
        self._reporter = ThreadPoolExecutor(1, thread_name_prefix="step-events")
        self._reports: deque[Future[None]] = deque()

    def duplicate(self) -> StepRunner:
        """Return another runner for the same scheduler."""
        return StepRunner(*self._given)

    def submit(  # type: ignore[override]  # of any task, not by kinds of their functions
        self,
        task: Task[..., Any],
        parameters: dict[str, Any],
        wait_for: Iterable[PrefectFuture[Any]] | None = None,
        dependencies: dict[str, set[Any]] | None = None,
    ) -> StepFuture:
        """Submit a step, to run when those that it needs have ended."""
        run = uuid4()
        packed, earlier = packed_task(
            task, run, parameters, wait_for, dependencies, flow=self._flow,
            remote=lambda one: one.wrapped_future if isinstance(one, StepFuture) else None,
        )  # fmt: skip
        future = self.client.submit(run_packed_task, packed, *earlier, key=f"{task.name}-{run}", pure=False)
        return StepFuture(run, future, self._all_reported)

    def listen(self) -> None:
        """Report the events of this flow run's steps from now on."""
        run, context = current_run(), copy_context()
        assert run is not None
        mine, self._flow = run.id, Flow(_body, name=run.flow_name)

        def receive(event: tuple[float, dict[str, Any]]) -> None:
            # Called in the thread that receives Dask's messages, so it must not block.
            content = event[1]
            if content["run"] == mine:
                self._reports.append(
                    self._reporter.submit(context.run, report_event, StepEvent(**content["event"]))
                )

        self.client.subscribe_topic(TOPIC, receive)

    def _all_reported(self) -> None:
        """Wait until all events received so far have been reported; raise the exceptions of listeners."""
        while self._reports:
            self._reports.popleft().result()

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)
        self._reporter.shutdown()
