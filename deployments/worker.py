"""Prefect's worker of processes with a limit for this machine: ``python -m deployments.worker worker start ...``.

Prefect's own stops, with all runs of the machine, when it is to start a run again whose process has not gone yet:
the place that it asks for is still that run's own.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from prefect.workers.process import ProcessWorker

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import WorkerFlowRunResponse

with warnings.catch_warnings():
    # In this process it takes the place of the one of that type.
    warnings.filterwarnings("ignore", message="Type 'LimitedWorker'")

    class LimitedWorker(ProcessWorker):
        """Starts a run again when its process of before is gone."""

        type = "process"

        async def _submit_scheduled_flow_runs(
            self, flow_run_response: list[WorkerFlowRunResponse]
        ) -> list[FlowRun]:
            ended = flow_run_response
            if self._limiter is not None:
                there = self._limiter.statistics().borrowers
                ended = [one for one in flow_run_response if one.flow_run.id not in there]
            return await super()._submit_scheduled_flow_runs(ended)


if __name__ == "__main__":
    from prefect.cli import app

    app()
