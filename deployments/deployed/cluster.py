"""The place where the steps of a deployed flow run: a Dask cluster if the settings name one, else threads."""

from __future__ import annotations

import logging
import os
import platform
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from calib_store.private import private_folder
from deployments.settings.all_settings import Settings
from imaging.errors import NirflowError
from imaging.listed import counted
from tasks.prefect_internals.run_context import current_run, submitting_to

if TYPE_CHECKING:
    from deployments.deployed.dask_runner import StepRunner
    from deployments.deployed.on_dask import WorkerFacts

logger = logging.getLogger(__name__)

#: Time for a scheduler to respond before it counts as down, s.
ANSWER: Final = 60.0
#: Time for a first worker to appear in a cluster, s.
WORKERS: Final = 120.0


@contextmanager
def steps_on(settings: Settings) -> Iterator[None]:
    """Make the current flow run submit its tasks to the Dask cluster of the settings, if they name one.

    Raises
    ------
    ClusterError
        If the extra is not installed, the scheduler does not respond, or its workers have another version of nirflow,
        other settings or another disk.
    """
    if not settings.worker.dask or current_run() is None:
        yield
        return
    with _connected(settings.worker.dask) as runner:
        _prepare(runner, settings)
        with submitting_to(runner):
            yield


@contextmanager
def _connected(address: str) -> Iterator[StepRunner]:
    if find_spec("prefect_dask") is None:
        raise NirflowError(
            f"The settings name a Dask scheduler ({address}), but Dask is not installed.",
            remedy="pip install 'nirflow[dask]', or unset worker.dask (NIRFLOW_WORKER_DASK).",
        )
    from deployments.deployed.dask_runner import ClusterError, StepRunner

    with StepRunner(address, ANSWER) as runner:
        try:
            client = runner.client
        except (OSError, ValueError, RuntimeError) as error:
            raise ClusterError(
                f"The Dask scheduler at {address} does not respond: {error}.",
                remedy="Start it (dask scheduler), or correct or unset worker.dask (NIRFLOW_WORKER_DASK).",
            ) from error
        try:
            client.wait_for_workers(1, timeout=WORKERS)
        except TimeoutError:
            raise ClusterError(
                f"The Dask scheduler at {address} has no workers.", remedy=f"Start one: dask worker {address}"
            ) from None
        yield runner


def _prepare(runner: StepRunner, settings: Settings) -> None:
    """Check that the current workers can run the steps, and prepare them and all later ones."""
    from deployments.deployed.dask_runner import ClusterError
    from deployments.deployed.on_dask import LOGGING, WorkerSide, inspect_worker

    environment = {name: os.environ[name] for name in LOGGING if name in os.environ}
    runner.client.register_plugin(WorkerSide(environment))
    folder = settings.data_dir.expanduser().resolve() / "scratch"
    private_folder(folder)
    mark = folder / f".{uuid.uuid4().hex}"
    mark.touch()
    try:
        facts: dict[str, WorkerFacts] = runner.client.run(inspect_worker, mark)
    finally:
        mark.unlink()
    for address, one in facts.items():
        if problem := _problem(one, settings, folder):
            raise ClusterError(
                f"The Dask worker {address} on {one.host} cannot be used for this run: {problem}.",
                remedy="Start the Dask workers with the environment of nirflow's own workers (docs/scaling.md).",
            )
    runner.listen()
    logger.info("The steps run on %s of %s", counted(len(facts), "Dask worker"), settings.worker.dask)


def _problem(facts: WorkerFacts, settings: Settings, folder: Path) -> str:
    """Return why a Dask worker cannot be used; empty if it can."""
    ours, named = version("nirflow"), settings.database_url is not None
    if facts.version != ours:
        return f"it has nirflow {facts.version}, but this run has {ours}"
    if facts.problem:
        return facts.problem.rstrip(".")
    if not facts.mark:
        return f"it cannot read the files of this run in {folder}"
    if facts.database != named:
        return f"NIRFLOW_DATABASE_URL is {'set' if named else 'not set'} for this run, unlike for the worker"
    if not named and facts.host != platform.node():
        return "the embedded database is for one machine; name one in NIRFLOW_DATABASE_URL"
    if facts.objects != settings.objects_url:
        return (
            f"NIRFLOW_OBJECTS_URL is {facts.objects} for the worker, but {settings.objects_url} for this run"
        )
    return ""
