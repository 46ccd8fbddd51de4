"""The preparation of a Dask cluster's workers for our steps, and the forwarding of the steps' events to the run.

A Dask worker and its scheduler import this module immediately, but Prefect only with the first step: by then its
settings for logs are in place.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

from distributed import Worker
from distributed.diagnostics.plugin import WorkerPlugin

from calib_store.model.settings import StoreSettings
from deployments.deployed.log import info_logged
from deployments.printable_output import printable_records
from imaging.errors import NirflowError
from tasks.prefect_internals.run_context import current_run
from tasks.support.allocator import give_back_planes
from tasks.support.step import StepEvent, listening
from tasks.support.workspace import close_stores

#: Dask's topic of the events of all runs.
TOPIC: Final = "nirflow-steps"
#: Variables that Prefect reads at its import: the destinations of a step's log.
LOGGING: Final = (
    "PREFECT_LOGGING_EXTRA_LOGGERS",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW",
)


class WorkerFacts(NamedTuple):
    """The environment of a Dask worker.

    Attributes
    ----------
    host
        Host name.
    version
        Version of nirflow.
    mark
        Whether it can see a file that the run created in its data folder.
    database
        Whether its settings name a database.
    objects
        Location of the product files, if not the data folder.
    problem
        What is wrong with its settings.
    """

    host: str
    version: str
    mark: bool = False
    database: bool = False
    objects: str | None = None
    problem: str = ""


def inspect_worker(mark: Path) -> WorkerFacts:
    """Return the environment of this process."""
    here = WorkerFacts(platform.node(), version("nirflow"))
    try:
        settings = StoreSettings()
    except NirflowError as error:
        return here._replace(problem=str(error))
    return here._replace(
        mark=mark.is_file(), database=settings.database_url is not None, objects=settings.objects_url
    )


class WorkerSide(WorkerPlugin):
    """A plugin that prepares a Dask worker for our steps: memory, logs, and the events of steps.

    Parameters
    ----------
    environment
        The run's values of the variables `LOGGING`.
    """

    name = "nirflow"
    #: If several runs use the cluster, the first one installs it.
    idempotent = True

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._stack = ExitStack()

    def setup(self, worker: Worker) -> None:
        """Prepare a worker's process."""
        if "prefect" not in sys.modules:
            os.environ.update(self._environment)
        give_back_planes()
        self._stack.enter_context(printable_records())
        self._stack.enter_context(info_logged())
        self._stack.enter_context(listening(partial(_forward, worker)))

    def teardown(self, worker: Worker) -> None:
        """Close everything."""
        self._stack.close()
        close_stores()


def _forward(worker: Worker, event: StepEvent) -> None:
    run = current_run()
    if run is not None and run.detached:
        worker.log_event(TOPIC, {"run": run.id, "event": asdict(event)})
