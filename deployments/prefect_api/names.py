"""The names by which the Prefect server knows the work pool and this machine's worker."""

from __future__ import annotations

import socket
from typing import Final

from deployments.settings.all_settings import Settings

#: Name of the work pool.
POOL: Final = "nirflow"


def worker_name() -> str:
    """One name a machine, so that a worker that was started again takes the place of the old one.

    ``worker.name`` (NIRFLOW_WORKER_NAME) names another one: several workers of one machine need one each.
    """
    return Settings().worker.name or f"nirflow on {socket.gethostname()}"
