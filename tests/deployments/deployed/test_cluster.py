"""Steps on a Dask cluster: requirements on workers, outcomes of steps, and the limit of a machine."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import anyio
import cloudpickle  # type: ignore[import-untyped]
import distributed
import pytest
from prefect import allow_failure
from prefect.states import Completed, Failed, State
from prefect.utilities.annotations import opaque

from deployments.deployed import cluster
from deployments.deployed.dask_runner import ClusterError, StepFuture
from deployments.deployed.log import info_logged
from deployments.deployed.on_dask import WorkerFacts, inspect_worker
from deployments.settings.all_settings import Settings
from deployments.supervisor.command import worker_command
from imaging.errors import MissingCalibrationError, NirflowError
from tasks.dark import build_dark
from tasks.prefect_internals.process_worker import RerunWorker
from tasks.prefect_internals.remote_tasks import Place, packed_task, run_packed_task

HERE = WorkerFacts("first", "1", mark=True, database=True, objects="s3://observatory/x")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(cluster, "version", lambda name: "1")
    monkeypatch.setattr(cluster.platform, "node", lambda: "first")
    return Settings(
        data_dir=tmp_path, database_url="postgresql://db/nirflow", objects_url="s3://observatory/x"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        (HERE, ""),
        (HERE._replace(host="second"), ""),
        (HERE._replace(version="2"), "it has nirflow 2, but this run has 1"),
        (HERE._replace(problem="There is no setting x."), "There is no setting x"),
        (HERE._replace(mark=False), "it cannot read the files of this run in "),
        (HERE._replace(database=False), "NIRFLOW_DATABASE_URL is set for this run, unlike for the worker"),
        (
            HERE._replace(objects=None),
            "NIRFLOW_OBJECTS_URL is None for the worker, but s3://observatory/x for this run",
        ),
    ],
)
def test_requirements_on_a_dask_worker(settings: Settings, facts: WorkerFacts, problem: str) -> None:
    found = cluster._problem(facts, settings, settings.data_dir)
    assert found.startswith(problem)
    assert bool(found) == bool(problem)


def test_the_embedded_database_is_for_one_machine(settings: Settings) -> None:
    alone = settings.model_copy(update={"database_url": None})
    here = HERE._replace(database=False)
    assert cluster._problem(here, alone, alone.data_dir) == ""
    assert "embedded" in cluster._problem(here._replace(host="second"), alone, alone.data_dir)


def test_a_worker_reports_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIRFLOW_OBJECTS_URL", "s3://observatory/x")
    facts = inspect_worker(tmp_path / "mark")
    assert (facts.mark, facts.database, facts.objects, facts.problem) == (
        False,
        False,
        "s3://observatory/x",
        "",
    )
    (tmp_path / "mark").touch()
    assert inspect_worker(tmp_path / "mark").mark
    monkeypatch.setenv("NIRFLOW_CACHE_LIMIT", "many")
    assert "cache_limit" in inspect_worker(tmp_path / "mark").problem


def test_a_missing_extra_is_an_error(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with (
        pytest.raises(NirflowError, match=r"not installed\. pip install 'nirflow\[dask\]'"),
        cluster._connected("tcp://first:8786"),
    ):
        pass


# --- steps


class Remote:
    """Dask's future of a step."""

    def __init__(self, *, result: Any = None, error: BaseException | None = None, gone: bool = False) -> None:
        self._result, self._error, self._gone = result, error, gone

    def exception(self, timeout: float | None = None) -> BaseException | None:
        if self._gone:
            raise distributed.CancelledError
        if self._result is self._error is None:
            raise TimeoutError
        return self._error

    def result(self, timeout: float | None = None) -> Any:
        return self._result


def future(remote: Any, ended: Any = lambda: None) -> StepFuture:
    return StepFuture(uuid4(), remote, ended)


def test_the_state_of_a_step_is_the_result_of_its_future() -> None:
    calls: list[str] = []
    done = future(Remote(result=Completed(name="Reused", data=7)), lambda: calls.append("ended"))
    assert done.result() == 7
    assert done.state.name == "Reused"
    assert calls == ["ended"]


def test_the_kind_of_a_missing_calibration_is_preserved() -> None:
    state = Failed(data=MissingCalibrationError("none", kind="flat"))
    failed = future(Remote(result=cloudpickle.loads(cloudpickle.dumps(state))))
    error = failed.result(raise_on_failure=False)
    assert isinstance(error, MissingCalibrationError)
    assert error.kind == "flat"
    with pytest.raises(MissingCalibrationError, match="none"):
        failed.result()


def test_a_step_whose_workers_died_has_failed() -> None:
    killed = distributed.KilledWorker("x", SimpleNamespace(address="tcp://x"), 3)
    lost = future(Remote(error=killed))
    lost.wait()
    assert lost.state.is_failed()
    error = lost.result(raise_on_failure=False)
    assert isinstance(error, ClusterError)
    assert "several Dask workers died" in str(error)


def test_a_lost_scheduler_ends_the_run() -> None:
    with pytest.raises(ClusterError, match="was lost"):
        future(Remote(gone=True)).wait()


def test_a_step_that_is_still_running() -> None:
    working = future(Remote())
    working.wait(0)
    with pytest.raises(TimeoutError):
        working.result(0)


def test_earlier_outcomes_are_inserted_as_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    import prefect.task_engine

    facts: dict[str, Any] = {}
    monkeypatch.setattr(prefect.task_engine, "run_task_sync", lambda **given: facts.update(given))
    first, second = Completed(data=1), Failed(data=ValueError("x"))
    packed = {"parameters": {"a": {"x": Place(0, True)}, "b": Place(1, False)}, "wait_for": [Place(0, False)]}
    run_packed_task(cloudpickle.dumps(packed), first, second)
    assert isinstance(facts["parameters"]["a"]["x"], allow_failure)
    assert facts["parameters"]["a"]["x"].unwrap() is first
    assert facts["parameters"]["b"] is second
    assert facts["wait_for"] == [first]
    assert facts["return_type"] == "state"


def test_arguments_that_prefect_does_not_look_into_are_packed_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import prefect.context
    import prefect.task_engine

    monkeypatch.setattr(prefect.context, "serialize_context", lambda: {"flow_run_context": {}})
    facts: dict[str, Any] = {}
    given = {"a": opaque([1]), "b": opaque(Completed(data=1)), "c": (opaque(2), 3)}
    packed, earlier = packed_task(
        build_dark, uuid4(), given, None, None, flow=build_dark,  # type: ignore[arg-type]
        remote=lambda one: one if isinstance(one, State) else None,
    )  # fmt: skip
    monkeypatch.setattr(prefect.task_engine, "run_task_sync", lambda **given: facts.update(given))
    run_packed_task(packed, *earlier)
    assert facts["parameters"] == {"a": [1], "b": earlier[0], "c": (2, 3)}


def test_a_step_is_pickled_by_name() -> None:
    packed = cloudpickle.dumps(build_dark)
    assert len(packed) < 10_000
    assert cloudpickle.loads(packed).fn is build_dark.fn


# --- what runs log, and how many there are


def test_lines_of_our_loggers_are_forwarded_during_a_run() -> None:
    import logging

    logger, other = logging.getLogger("tasks.support.step"), logging.getLogger("astropy.io")
    before = logger.isEnabledFor(logging.INFO), other.getEffectiveLevel()
    with info_logged():
        assert logger.isEnabledFor(logging.INFO)
        assert other.getEffectiveLevel() == before[1]
    assert logger.isEnabledFor(logging.INFO) == before[0]


def test_the_limit_of_runs_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--limit" not in worker_command()
    monkeypatch.setenv("NIRFLOW_WORKER_RUNS", "2")
    monkeypatch.setenv("NIRFLOW_WORKER_NAME", "the second")
    command = worker_command()
    assert command[:5] == [sys.executable, "-m", "deployments.supervisor.worker", "worker", "start"]
    assert command[command.index("--limit") + 1] == "2"
    assert command[command.index("--name") + 1] == "the second"


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    """Return the runs passed to Prefect's own worker."""
    from prefect.workers.process import ProcessWorker

    given: list[UUID] = []

    async def submit(self: ProcessWorker, response: list[Any]) -> list[Any]:
        given.extend(one.flow_run.id for one in response)
        return []

    monkeypatch.setattr(ProcessWorker, "_submit_scheduled_flow_runs", submit)
    return given


def test_a_run_restarts_when_its_process_has_ended(submitted: list[UUID]) -> None:
    again, new = uuid4(), uuid4()
    response: Any = [SimpleNamespace(flow_run=SimpleNamespace(id=one)) for one in (again, new)]

    async def poll() -> None:
        worker = RerunWorker(work_pool_name="none", limit=2)
        worker._limiter = anyio.CapacityLimiter(2)
        worker._limiter.acquire_on_behalf_of_nowait(again)
        await worker._submit_scheduled_flow_runs(response)
        assert submitted == [new]
        worker._limiter.release_on_behalf_of(again)
        await worker._submit_scheduled_flow_runs(response)

    asyncio.run(poll())
    assert submitted == [new, again, new]


def test_the_end_of_a_process_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller, which gets the exit code, would otherwise report it again after the restart."""
    from prefect.workers.process import ProcessWorker, ProcessWorkerResult

    async def killed(*_: Any) -> ProcessWorkerResult:
        return ProcessWorkerResult(status_code=-9, identifier="4711")

    monkeypatch.setattr(ProcessWorker, "run", killed)

    async def one() -> ProcessWorkerResult:
        worker: Any = RerunWorker(work_pool_name="none")
        result: ProcessWorkerResult = await worker.run(None, None)
        return result

    result = asyncio.run(one())
    assert (result.status_code, result.identifier) == (0, "4711")
