"""Work that may fail without harm: pictures, tables and pages about results that are finished and
recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


@contextmanager
def best_effort(what: str) -> Iterator[None]:
    """Log a failure of ``what`` as a warning and continue; also a decorator.

    Parameters
    ----------
    what
        Name of the attempt, for the log: "The page of the night".
    """
    try:
        yield
    except Exception as error:
        logger.warning(
            "%s failed (%s: %s); nothing else depends on it", what, type(error).__name__, error, exc_info=True
        )
