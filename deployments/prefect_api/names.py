"""The names of the work pool, of this machine's worker and of a state of ours in the Prefect server."""

from __future__ import annotations

import socket
from typing import Final

from deployments.settings.all_settings import Settings

#: Name of the work pool.
POOL: Final = "nirflow"
#: Earlier versions wrote names of sequences with this prefix, that of their events, in the requests of runs.
SEQUENCE: Final = "nirflow.sequence."
#: Final state of a run whose science waits for a calibration.
WAITING: Final = "Waiting"


def worker_name() -> str:
    """Return the worker's name, the same for each machine, so that a restarted worker replaces the old one.

    ``worker.name`` (NIRFLOW_WORKER_NAME) sets another: several workers of one machine need one each.
    """
    return Settings().worker.name or f"nirflow on {socket.gethostname()}"
