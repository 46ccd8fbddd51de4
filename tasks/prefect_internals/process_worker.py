"""Prefect's process worker with two corrections.

Prefect's own worker reports a dead process twice, some seconds apart. The first report causes a restart of
the run; the second is taken for the death of the restarted run, which is then started a second time in
parallel.

With a concurrency limit, it stops together with all runs of the machine when it should restart a run whose
process has not ended yet, because that run still holds the slot.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from prefect.workers.process import ProcessWorker, ProcessWorkerResult

if TYPE_CHECKING:
    from anyio.abc import TaskStatus
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import WorkerFlowRunResponse
    from prefect.workers.process import ProcessJobConfiguration

with warnings.catch_warnings():
    # In this process it replaces Prefect's worker of that type.
    warnings.filterwarnings("ignore", message="Type 'RerunWorker'")

    class RerunWorker(ProcessWorker):
        """A worker that reports a death once, and restarts a run after its previous process has ended."""

        type = "process"

        async def run(
            self,
            flow_run: FlowRun,
            configuration: ProcessJobConfiguration,
            task_status: TaskStatus[int] | None = None,
        ) -> ProcessWorkerResult:
            """Execute a flow run in its own process until it ends."""
            result = await super().run(flow_run, configuration, task_status)
            # The process's watcher has reported how it ended; with its exit code the caller would report it
            # again.
            return ProcessWorkerResult(identifier=result.identifier, status_code=0)

        async def _submit_scheduled_flow_runs(
            self, flow_run_response: list[WorkerFlowRunResponse]
        ) -> list[FlowRun]:
            ended = flow_run_response
            if self._limiter is not None:
                there = self._limiter.statistics().borrowers
                ended = [one for one in flow_run_response if one.flow_run.id not in there]
            return await super()._submit_scheduled_flow_runs(ended)
