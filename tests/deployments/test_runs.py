"""Flow runs on the real server: recorded with their names, prompt at their end, scheduled by cron."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import FlowRun, StateType, TaskRun
from prefect.client.schemas.schedules import CronSchedule
from prefect.runtime import flow_run
from prefect.states import Completed
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import BaseModel, ConfigDict, ValidationError, validate_call
from waiting import PATIENCE, wait_until

from deployments.prefect_server.client import connected
from deployments.prefect_server.server import ensure_server
from deployments.settings.server_settings import ServerAddress
from tasks.prefect_internals.heartbeats import prompt_heartbeats

pytestmark = pytest.mark.usefixtures("prefect_server")
T = TypeVar("T")


class Reference(BaseModel):
    """An object that tasks exchange: a small frozen model."""

    model_config = ConfigDict(frozen=True)
    path: str
    exposure: int


@task(cache_policy=NO_CACHE, persist_result=False, task_run_name="dark {exposure} s", tags=["dark"])
@validate_call
def dark(exposure: int, *, stored: bool = False) -> Reference:
    made = Reference(path=f"dark-{exposure}.fits", exposure=exposure)
    return Completed(name="Reused", message="in the store", data=made) if stored else made  # type: ignore


@task(cache_policy=NO_CACHE, persist_result=False, task_run_name="stack {dark.exposure} s")
@validate_call
def stack(dark: Reference) -> str:
    create_markdown_artifact(f"# {dark.path}", key="stack", description="of the test")
    return dark.path


@flow(name="night", flow_run_name="night {night}", task_runner=ThreadPoolTaskRunner(max_workers=2))
def night(night: str) -> tuple[UUID, list[str], str]:
    """Run two groups at once, each in its own thread with the run's context."""

    def group(exposure: int, stored: bool) -> tuple[str, str]:
        made = dark.submit(exposure, stored=stored)
        stacked = stack.submit(made)
        return stacked.result(), made.state.name

    jobs: list[Callable[[], tuple[str, str]]] = [lambda: group(20, False), lambda: group(120, True)]
    with ThreadPoolExecutor(len(jobs)) as pool:
        ends = [pool.submit(copy_context().run, job) for job in jobs]
        results = [end.result() for end in ends]
    return UUID(flow_run.id), [path for path, _ in results], results[1][1]


def task_runs(run_id: UUID, count: int) -> list[TaskRun]:
    def look() -> list[TaskRun] | None:
        with get_client(sync_client=True) as client:
            runs = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])))
        finished = [run for run in runs if run.state and run.state.is_final()]
        return finished if len(finished) == count else None

    return wait_until(look)


def test_a_run_is_recorded_with_names_tags_states_and_edges() -> None:
    with prompt_heartbeats(night) as run:
        run_id, paths, state_name = run("20240601")
    assert paths == ["dark-20.fits", "dark-120.fits"]
    assert state_name == "Reused"
    runs = {run.name: run for run in task_runs(run_id, 4)}
    assert set(runs) == {"dark 20 s", "dark 120 s", "stack 20 s", "stack 120 s"}
    assert {run.flow_run_id for run in runs.values()} == {run_id}
    assert runs["dark 120 s"].state_name == "Reused"
    assert runs["dark 20 s"].state_name == "Completed"
    assert runs["dark 20 s"].tags == ["dark"]
    assert [edge.id for edge in runs["stack 120 s"].task_inputs["dark"]] == [runs["dark 120 s"].id]
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(run_id).name == "night 20240601"
        ours = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
        artifacts = client.read_artifacts(artifact_filter=ours)
    assert {artifact.task_run_id for artifact in artifacts} == {runs[f"stack {t} s"].id for t in (20, 120)}


def test_a_wrong_argument_fails_its_own_task_only() -> None:
    @flow
    def one_bad() -> list[Any]:
        ends = [dark.submit("long"), dark.submit(20)]  # type: ignore[call-overload]
        return [end.result(raise_on_failure=False) for end in ends]

    with prompt_heartbeats(one_bad) as run:
        bad, good = run()
    assert isinstance(bad, ValidationError)
    assert good == Reference(path="dark-20.fits", exposure=20)


def test_prompt_heartbeats_are_sent_and_cost_no_second_at_the_end(prefect_server: ServerAddress) -> None:
    @flow
    def quick() -> tuple[UUID, float]:
        time.sleep(0.3)
        return UUID(flow_run.id), time.perf_counter()

    with prompt_heartbeats(quick, interval=4 * PATIENCE) as run:
        _, body_ended = run()
    assert time.perf_counter() - body_ended < PATIENCE  # the thread's pause is not waited for
    with prompt_heartbeats(quick, interval=0.1) as run:
        run_id, _ = run()
    wait_until(lambda: all(t.name != "heartbeat" for t in threading.enumerate()))

    def beats() -> int | None:
        with get_client(sync_client=True) as client:
            answer = client._client.post(
                "/events/filter",
                json={
                    "filter": {
                        "event": {"name": ["prefect.flow-run.heartbeat"]},
                        "resource": {"id": [f"prefect.flow-run.{run_id}"]},
                    }
                },
            )
        total = int(answer.json()["total"])
        return total if total >= 3 else None

    assert wait_until(beats) >= 3


def test_a_deployed_cron_makes_scheduled_runs() -> None:
    """With SQLAlchemy 2.1 the scheduler stops silently, and no night is ever reduced."""
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(night)
        deployment_id = client.create_deployment(
            flow_id=flow_id,
            name="nightly",
            schedules=[
                DeploymentScheduleCreate(schedule=CronSchedule(cron="0 9 * * *", timezone="America/Santiago"))
            ],
            parameters={"night": "last"},
        )

    def look() -> list[FlowRun] | None:
        with get_client(sync_client=True) as client:
            nightly = DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id]))
            runs = client.read_flow_runs(deployment_filter=nightly)
        return [run for run in runs if run.state_type == StateType.SCHEDULED] or None

    runs = wait_until(look)
    assert {run.state_name for run in runs} == {"Scheduled"}
    assert runs[0].parameters == {"night": "last"}
    hours = {run.expected_start_time.astimezone(_zone("America/Santiago")).hour for run in runs}
    assert hours == {9}


def test_a_flow_can_be_deployed_with_a_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some versions of fastapi answer Prefect's deployment call with an error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nightly.py").write_text(
        "from prefect import flow\n\n@flow\ndef reduce(night: str = 'last') -> None: ...\n"
    )

    async def deploy() -> UUID:
        remote = await flow.from_source(str(tmp_path), entrypoint="nightly.py:reduce")  # type: ignore[misc]
        deployment = await remote.to_deployment("nightly-deployed", cron="0 9 * * *")  # type: ignore[misc]
        applied = deployment.apply()
        return await applied if asyncio.iscoroutine(applied) else applied

    deployment_id = asyncio.run(deploy())
    with get_client(sync_client=True) as client:
        read = client.read_deployment(deployment_id)
    assert [schedule.schedule.cron for schedule in read.schedules] == ["0 9 * * *"]  # type: ignore[union-attr]
    assert "night" in read.parameter_openapi_schema["properties"]


def test_a_connected_process_finds_the_server_again(
    prefect_server: ServerAddress, postgres_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own URL in the environment does not count as a server named by the user."""
    monkeypatch.setenv("PREFECT_API_URL", prefect_server.api_url)
    again = ensure_server(postgres_data_dir)
    assert (again.pid, again.home, again.started) == (prefect_server.pid, prefect_server.home, False)


def test_connected_sets_and_restores_the_settings_of_an_imported_prefect(tmp_path: Path) -> None:
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME

    assert "prefect" in sys.modules
    before = PREFECT_API_URL.value()
    elsewhere = ServerAddress("http://127.0.0.1:9/api", "http://127.0.0.1:9", 1, False, tmp_path)
    with connected(elsewhere):
        assert PREFECT_API_URL.value() == elsewhere.api_url
        assert PREFECT_HOME.value() == tmp_path
    assert PREFECT_API_URL.value() == before


def _zone(name: str) -> Any:
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)
