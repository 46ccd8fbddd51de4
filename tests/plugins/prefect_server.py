"""One real Prefect server on embedded Postgres for all tests that run flows.

Loaded by name from tests/conftest.py. The first test that needs `prefect_server` starts it (about 5 s); a
test run without flows starts nothing.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from waiting import PATIENCE

if TYPE_CHECKING:
    from deployments.settings.server_settings import ServerAddress

_SAFE = {
    "DO_NOT_TRACK": "1",
    # A flow outside the fixture must fail at once, not start a throw-away server.
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}


def pytest_configure(config: pytest.Config) -> None:
    """Keep test modules that import Prefect at collection away from the user's own profile."""
    from deployments.settings.server_settings import LOGGERS

    home = tempfile.TemporaryDirectory(prefix="nirflow-prefect-")
    config.add_cleanup(home.cleanup)
    os.environ.pop("PREFECT_API_URL", None)
    os.environ.update(_SAFE, PREFECT_HOME=home.name, PREFECT_LOGGING_EXTRA_LOGGERS=",".join(LOGGERS))


@pytest.fixture(scope="session")
def prefect_server(postgres_data_dir: Path) -> Iterator[ServerAddress]:
    """Yield the address of a running server; flows called in the test are recorded there."""
    from deployments.prefect_server.client import connected
    from deployments.prefect_server.server import ensure_server, stop_server
    from deployments.settings.server_settings import ServerSettings

    address = ensure_server(postgres_data_dir, settings=ServerSettings(port=0))
    with connected(address):
        yield address
        if "prefect" in sys.modules:
            from prefect.events.worker import EventsWorker
            from prefect.logging.handlers import APILogWorker

            # Queued events must be sent while there is a server to receive them.
            EventsWorker.drain_all(timeout=PATIENCE)
            APILogWorker.drain_all(timeout=PATIENCE)
    stop_server(postgres_data_dir)
