"""Everything that the Prefect server needs: the work pool and its queues, deployments, automations."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

from prefect import Flow, get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.deployments.runner import EntrypointType, RunnerDeployment
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.schedules import Cron, Schedule
from prefect.workers.process import ProcessWorker

from deployments.deployed.arrival import arrival
from deployments.deployed.decide import decide
from deployments.deployed.housekeeping import housekeeping
from deployments.deployed.mosaic import mosaic
from deployments.deployed.nightly import calibrations, nightly
from deployments.deployed.reprocess import reprocess
from deployments.prefect_api.names import POOL
from deployments.registry.automations import make_automations
from deployments.settings.all_settings import Settings

#: Work queues and their priorities; 1 goes first.
QUEUES: Final = {"science": 1, "calibrations": 2, "nights": 3, "backlog": 4, "upkeep": 5}

_ABOUT: Final = "Reductions on the machines of the observatory"


@dataclass(frozen=True)
class Registered:
    """A deployment: its flow, its queue, and its schedule."""

    name: str
    flow: Flow[Any, Any]
    queue: str
    schedule: Schedule | None = None
    active: bool = True


def deployments(settings: Settings) -> tuple[Registered, ...]:
    """Return all deployments for these settings."""
    zone = settings.nightly.timezone
    return (
        Registered(
            "nightly",
            nightly,
            "nights",
            schedule=Cron(settings.nightly.cron, timezone=zone),
            active=settings.nightly.enabled,
        ),
        Registered("arrival", arrival, "science"),
        Registered("backlog", arrival, "backlog"),
        Registered("calibrations", calibrations, "calibrations"),
        Registered("reprocess", reprocess, "backlog"),
        Registered("mosaic", mosaic, "backlog"),
        # Users wait for it, and the next reductions should take it into account.
        Registered("decide", decide, "science"),
        Registered(
            "housekeeping",
            housekeeping,
            "upkeep",
            schedule=Cron(settings.nightly.housekeeping_cron, timezone=zone),
        ),
    )


def register(settings: Settings) -> None:
    """Create or update everything in the server of the environment; repeating this changes nothing."""
    with get_client(sync_client=True) as client:
        _make_pool(client, settings)
        for one in deployments(settings):
            _bring_up_to_date(client, one)
        make_automations(client, settings)


def _make_pool(client: SyncPrefectClient, settings: Settings) -> None:
    template = ProcessWorker.get_default_base_job_template()
    limit = settings.worker.limit
    pool = WorkPoolCreate(
        name=POOL, type="process", base_job_template=template, concurrency_limit=limit, description=_ABOUT
    )
    try:
        client.create_work_pool(pool)
    except ObjectAlreadyExists:
        client.update_work_pool(
            POOL, WorkPoolUpdate(concurrency_limit=limit, base_job_template=template, description=_ABOUT)
        )
    existing = {queue.name: queue for queue in client.read_work_queues(work_pool_name=POOL)}
    for name, priority in QUEUES.items():
        if name not in existing:
            client.create_work_queue(name, priority=priority, work_pool_name=POOL)
        elif existing[name].priority != priority:
            client.update_work_queue(existing[name].id, priority=priority)


def _bring_up_to_date(client: SyncPrefectClient, one: Registered) -> None:
    """Register a deployment, unless it is unchanged.

    Registering also deletes the triggers that an earlier version gave it.
    """
    # Without a version Prefect takes that of a git checkout in the working folder.
    deployment = _deployment(one, _digest(_deployment(one)))
    try:
        existing = client.read_deployment_by_name(f"{one.flow.name}/{one.name}")
    except ObjectNotFound:
        existing = None
    if existing is None or existing.version != deployment.version:
        deployment.apply(work_pool_name=POOL)


def _digest(deployment: RunnerDeployment) -> str:
    """Return a version that changes with the content of a deployment."""
    content = deployment.model_dump(mode="json", exclude={"version"})
    form = deployment._parameter_openapi_schema.model_dump(mode="json")
    text = json.dumps(_ordered([content, form]), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _ordered(value: Any) -> Any:
    """Return the value with lists of strings sorted, as some were sets without an order."""
    if isinstance(value, dict):
        return {name: _ordered(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return (
            sorted(value) if all(isinstance(one, str) for one in value) else [_ordered(one) for one in value]
        )
    return value


def _deployment(one: Registered, version: str | None = None) -> RunnerDeployment:
    deployment = one.flow.to_deployment(
        one.name,
        schedules=[_scheduled(one)] if one.schedule is not None else [],
        work_pool_name=POOL,
        work_queue_name=one.queue,
        entrypoint_type=EntrypointType.MODULE_PATH,
        tags=["nirflow"],
        version=version,
    )
    assert isinstance(deployment, RunnerDeployment)  # a coroutine only in an event loop
    return deployment


def _scheduled(one: Registered) -> Schedule:
    assert one.schedule is not None
    return Schedule(**{**vars(one.schedule), "active": one.active})
