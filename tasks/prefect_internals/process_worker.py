"""Prefect's worker of processes, corrected in two things.

Prefect's own reports a process that died twice, some seconds apart. The first report has the run started again; the
second one takes that for dead, and the run is handed out again, next to itself.

With a limit it stops, with all runs of the machine, when it is to start a run again whose process has not gone yet:
the place that it asks for is still that run's own.
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
    # In this process it takes the place of the one of that type.
    warnings.filterwarnings("ignore", message="Type 'RerunWorker'")

    class RerunWorker(ProcessWorker):
        """Reports a death once, and starts a run again when its process of before is gone."""

        type = "process"

        async def run(
            self,
            flow_run: FlowRun,
            configuration: ProcessJobConfiguration,
            task_status: TaskStatus[int] | None = None,
        ) -> ProcessWorkerResult:
            """Run a flow run in a process of its own to its end."""
            result = await super().run(flow_run, configuration, task_status)
            # Whoever watched the process has reported how it ended; by its code the caller would do so again.
            return ProcessWorkerResult(identifier=result.identifier, status_code=0)

        async def _submit_scheduled_flow_runs(
            self, flow_run_response: list[WorkerFlowRunResponse]
        ) -> list[FlowRun]:
            ended = flow_run_response
            if self._limiter is not None:
                there = self._limiter.statistics().borrowers
                ended = [one for one in flow_run_response if one.flow_run.id not in there]
            return await super()._submit_scheduled_flow_runs(ended)
