"""What happens on the workers of a Dask cluster next to the steps: they are prepared, and events go to the run.

A Dask worker and its scheduler import this module at once, and Prefect with the first step only: by then its
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
#: Variables of Prefect that act at its import: where the lines of a step's log go.
LOGGING: Final = (
    "PREFECT_LOGGING_EXTRA_LOGGERS",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW",
)


class Seen(NamedTuple):
    """How the machine of a Dask worker looks to it.

    Attributes
    ----------
    host
        The machine.
    version
        Version of nirflow.
    mark
        Whether a file that the run left in its data folder is there.
    database
        Whether a database is named.
    objects
        Where the product files are, if that is not the data folder.
    problem
        What is wrong with the settings there.
    """

    host: str
    version: str
    mark: bool = False
    database: bool = False
    objects: str | None = None
    problem: str = ""


def look_round(mark: Path) -> Seen:
    """How this process sees the machine that it is on."""
    here = Seen(platform.node(), version("nirflow"))
    try:
        settings = StoreSettings()
    except NirflowError as error:
        return here._replace(problem=str(error))
    return here._replace(
        mark=mark.is_file(), database=settings.database_url is not None, objects=settings.objects_url
    )


class WorkerSide(WorkerPlugin):
    """Makes a Dask worker one of ours for as long as it lives: memory, logs, and the events of steps.

    Parameters
    ----------
    environment
        The variables of `LOGGING`, as the run has them.
    """

    name = "nirflow"
    #: Of several runs that use the cluster the first one brings it.
    idempotent = True

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._stack = ExitStack()

    def setup(self, worker: Worker) -> None:
        """Prepare the process of a worker."""
        if "prefect" not in sys.modules:
            os.environ.update(self._environment)
        give_back_planes()
        self._stack.enter_context(printable_records())
        self._stack.enter_context(info_logged())
        self._stack.enter_context(listening(partial(_pass_on, worker)))

    def teardown(self, worker: Worker) -> None:
        """Leave nothing open."""
        self._stack.close()
        close_stores()


def _pass_on(worker: Worker, event: StepEvent) -> None:
    run = current_run()
    if run is not None and run.detached:
        worker.log_event(TOPIC, {"run": run.id, "event": asdict(event)})
