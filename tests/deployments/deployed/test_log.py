"""The log of a failed run: our errors without a traceback, defects with it."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator

import pytest
from prefect import flow
from prefect.flow_engine import run_flow

from deployments.deployed.log import hide_tracebacks_of_our_errors
from deployments.settings.server_settings import ServerAddress
from imaging.errors import NirflowError
from tasks.prefect_internals.heartbeats import prompt_heartbeats


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def log() -> Iterator[Kept]:
    """Return the log of flow runs."""
    logger, handler = logging.getLogger("prefect.flow_runs"), Kept()
    before = list(logger.filters)
    hide_tracebacks_of_our_errors()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.filters[:] = before


@pytest.mark.parametrize(
    ("error", "traced"),
    [
        (NirflowError("No frame of 2013-11-21.", remedy="Wait."), 0),
        (OSError(errno.EIO, "Input/output error", "/raw"), 0),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/raw"), 2),
        (KeyError("night"), 2),
    ],
)
def test_only_a_defect_has_a_traceback(
    prefect_server: ServerAddress, log: Kept, error: Exception, traced: int, caplog: pytest.LogCaptureFixture
) -> None:
    @flow(name="test of a log")
    def failing() -> None:
        raise error

    caplog.set_level(logging.DEBUG, logger="deployments.deployed.log")
    with prompt_heartbeats(failing) as ready, pytest.raises(type(error)):
        run_flow(ready, error_logger=logging.getLogger("prefect.flow_runs"))
    assert sum("Traceback" in line for line in log.lines) == traced
    assert sum("Engine execution exited" in line for line in log.lines) == (1 if traced else 0)
    assert any("Encountered exception" in line and str(error.args[0]) in line for line in log.lines)
    debug = [record for record in caplog.records if record.name == "deployments.deployed.log"]
    kept = [record.exc_info[1] for record in debug if record.levelno == logging.DEBUG and record.exc_info]
    assert kept == ([error] if not traced and isinstance(error, OSError) else [])
