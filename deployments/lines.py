"""What the packages log, as far as the page of a run in the Prefect UI."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from deployments.settings import LOGGERS


@contextmanager
def lines_told() -> Iterator[None]:
    """Have our loggers pass on what goes on, not warnings alone.

    Prefect gives them the handler that sends lines to the server (PREFECT_LOGGING_EXTRA_LOGGERS), and no level. One
    that somebody set before stays.
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
