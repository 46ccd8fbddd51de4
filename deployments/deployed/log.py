"""Logging of a run for its page in the Prefect UI: lines of our packages, and errors without tracebacks.

Prefect logs each exception of a flow twice, with its traceback. That is useful for defects; the message of an error
about a night's frames is sufficient. The traceback of an error of the machine is logged at DEBUG, as it may be
needed to find out which part of the machine failed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from deployments.settings.server_settings import LOGGERS
from imaging.errors import NirflowError
from imaging.machine import machine_error
from tasks.prefect_internals.identifiers import FLOW_LOGGERS, repeats_exception

logger = logging.getLogger(__name__)


class _WithoutTraceback(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if error is None or machine_error(error) is None:
            return True
        record.exc_info = record.exc_text = None
        if repeats_exception(record):
            return False
        if not isinstance(error, NirflowError):
            logger.debug("Where the machine failed:", exc_info=error)
        return True


_FILTER: Final = _WithoutTraceback()


def hide_tracebacks_of_our_errors() -> None:
    """Log errors of nirflow and of the machine in this process's runs once each, and without a traceback."""
    for name in FLOW_LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)


@contextmanager
def info_logged() -> Iterator[None]:
    """Set our loggers to INFO inside the block.

    Prefect gives them the handler that sends lines to the server (PREFECT_LOGGING_EXTRA_LOGGERS), but no level. A level
    that is already set is kept.
    """
    ours = [logging.getLogger(name) for name in LOGGERS]
    silent = [logger for logger in ours if logger.level == logging.NOTSET]
    for logger in silent:
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger in silent:
            logger.setLevel(logging.NOTSET)
