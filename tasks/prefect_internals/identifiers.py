"""Prefect's names of its processes and loggers, and the lines that it logs twice. Does not import Prefect."""

from __future__ import annotations

import logging
from typing import Final

#: The module that runs as the process of a flow run: ``python -m prefect.engine``.
ENGINE: Final = "prefect.engine"
#: The loggers by which Prefect reports the exceptions of a flow.
FLOW_LOGGERS: Final = ("prefect.flow_runs", ENGINE)
#: The loggers by which it reports the states of runs.
_RUN_LOGGERS: Final = frozenset({"prefect.task_runs", "prefect.flow_runs"})
_EXCEPTION_AGAIN: Final = "Engine execution exited with unexpected exception"
_FINAL_STATE: Final = "Finished in state"


def repeats_exception(record: logging.LogRecord) -> bool:
    """Return whether a log line repeats an exception of a flow that has already been reported."""
    return record.getMessage().startswith(_EXCEPTION_AGAIN)


def reports_final_state(record: logging.LogRecord) -> bool:
    """Return whether a log line reports the final state of a run."""
    return record.name in _RUN_LOGGERS and str(record.msg).startswith(_FINAL_STATE)
