"""Where the steps of a deployed flow run: on a Dask cluster where the settings name one, else in threads."""

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
from tasks.prefect_internals.run_context import current_run, submitting_to

if TYPE_CHECKING:
    from deployments.deployed.dask_runner import StepRunner
    from deployments.deployed.on_dask import Seen

logger = logging.getLogger(__name__)

#: A scheduler that does not answer for this long is not there, s.
ANSWER: Final = 60.0
#: A cluster that has no worker for this long has none, s.
WORKERS: Final = 120.0


@contextmanager
def steps_on(settings: Settings) -> Iterator[None]:
    """Have the flow run that this is called in submit its tasks to the Dask cluster of the settings, if they name one.

    Raises
    ------
    ClusterError
        Where the extra is not installed, the scheduler does not answer, or its workers have another version of
        nirflow, other settings or another disk.
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
            f"The steps are to run on Dask ({address}), which is not installed.",
            remedy="pip install 'nirflow[dask]', or unset worker.dask (NIRFLOW_WORKER_DASK).",
        )
    from deployments.deployed.dask_runner import ClusterError, StepRunner

    with StepRunner(address, ANSWER) as runner:
        try:
            client = runner.client
        except (OSError, ValueError, RuntimeError) as error:
            raise ClusterError(
                f"The Dask scheduler at {address} does not answer: {error}.",
                remedy="Start it (dask scheduler), or correct or unset worker.dask (NIRFLOW_WORKER_DASK).",
            ) from error
        try:
            client.wait_for_workers(1, timeout=WORKERS)
        except TimeoutError:
            raise ClusterError(
                f"The Dask scheduler at {address} has no worker.", remedy=f"Start some: dask worker {address}"
            ) from None
        yield runner


def _prepare(runner: StepRunner, settings: Settings) -> None:
    """Look whether the workers there are can do the work, and make all of them ours, those to come too."""
    from deployments.deployed.dask_runner import ClusterError
    from deployments.deployed.on_dask import LOGGING, WorkerSide, look_round

    environment = {name: os.environ[name] for name in LOGGING if name in os.environ}
    runner.client.register_plugin(WorkerSide(environment))
    folder = settings.data_dir.expanduser().resolve() / "scratch"
    private_folder(folder)
    mark = folder / f".{uuid.uuid4().hex}"
    mark.touch()
    try:
        seen: dict[str, Seen] = runner.client.run(look_round, mark)
    finally:
        mark.unlink()
    for address, one in seen.items():
        if problem := _problem(one, settings, folder):
            raise ClusterError(
                f"The Dask worker {address} on {one.host} cannot work for this run: {problem}.",
                remedy="Start the Dask workers with the environment of nirflow's own workers (docs/scaling.md).",
            )
    runner.listen()
    logger.info("The steps run on %d Dask workers of %s", len(seen), settings.worker.dask)


def _problem(seen: Seen, settings: Settings, folder: Path) -> str:
    """What of a Dask worker is not as it has to be."""
    ours, named = version("nirflow"), settings.database_url is not None
    if seen.version != ours:
        return f"it has nirflow {seen.version}, this run {ours}"
    if seen.problem:
        return seen.problem.rstrip(".")
    if not seen.mark:
        return f"it does not see the files of this run in {folder}"
    if seen.database != named:
        return f"NIRFLOW_DATABASE_URL is {'set' if named else 'not set'} for this run, and not so there"
    if not named and seen.host != platform.node():
        return "the embedded database is for one machine; name one in NIRFLOW_DATABASE_URL"
    if seen.objects != settings.objects_url:
        return f"NIRFLOW_OBJECTS_URL is {seen.objects} there, {settings.objects_url} for this run"
    return ""
