"""Readable names for the runs that the Prefect server creates: from a trigger, a schedule or a form.

Prefect gives a run a random name, and the flow's own name for it only when it begins. The two functions of the server
that create runs of deployments are wrapped here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from prefect.server import models
from prefect.utilities.names import generate_slug

logger = logging.getLogger(__name__)

#: Names a run by its deployment's name, its parameters and when it is due; None leaves it to Prefect.
Naming = Callable[[str, Mapping[str, Any], datetime], str | None]

_CREATE: Final[Any] = models.flow_runs.create_flow_run
_SCHEDULE: Final[Any] = models.deployments._generate_scheduled_flow_runs
_READ: Final[Any] = models.deployments.read_deployment


def name_runs(naming: Naming) -> None:
    """Name all runs of deployments that this server creates from now on."""

    async def create_flow_run(*, session: Any, flow_run: Any, **options: Any) -> Any:
        if flow_run.deployment_id is not None:
            due = flow_run.state.state_details.scheduled_time if flow_run.state is not None else None
            name = await _named(session, flow_run.deployment_id, flow_run.parameters, due)
            if name is not None:
                flow_run.name = name
        return await _CREATE(session=session, flow_run=flow_run, **options)

    async def generate(
        *arguments: Any, session: Any, deployment_id: Any, **options: Any
    ) -> list[dict[str, Any]]:
        runs = await _SCHEDULE(*arguments, session=session, deployment_id=deployment_id, **options)
        for run in runs:
            due = run["next_scheduled_start_time"]
            # All rows of one insertion need the same columns.
            run["name"] = await _named(session, deployment_id, run["parameters"], due) or generate_slug(2)
        return runs

    async def _named(
        session: Any, deployment_id: Any, parameters: Mapping[str, Any], due: datetime | None
    ) -> str | None:
        deployment = await _READ(session=session, deployment_id=deployment_id)
        if deployment is None:
            return None
        try:
            return naming(deployment.name, parameters or {}, due or datetime.now(UTC))
        except Exception:
            logger.exception("A run of %s keeps the name that Prefect gave it", deployment.name)
            return None

    models.flow_runs.create_flow_run = create_flow_run
    models.deployments._generate_scheduled_flow_runs = generate  # type: ignore[assignment]
