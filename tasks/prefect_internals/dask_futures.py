"""Tasks on a Dask cluster whose final state is determined by the process that waits for them.

The future of prefect-dask mistakes a lost worker for a task that is still pending. This one leaves the
interpretation of Dask's errors to a subclass.
"""

from __future__ import annotations

from typing import Any

from prefect.states import State
from prefect_dask.task_runners import PrefectDaskFuture


class DaskFuture(PrefectDaskFuture[Any]):
    """A task on the cluster; a subclass implements ``wait``, which sets the final state."""

    @property
    def final_state(self) -> State[Any] | None:
        """The final state of the task, once known."""
        return self._final_state

    @final_state.setter
    def final_state(self, state: State[Any]) -> None:
        self._final_state = state

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> Any:
        """Wait for the task and return its result, or its error."""
        self.wait(timeout)
        if self.final_state is None:
            raise TimeoutError(f"Task run {self.task_run_id} did not complete within {timeout} seconds")
        return self.final_state.result(raise_on_failure=raise_on_failure)
