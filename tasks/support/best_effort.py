"""Work that may fail without harm: pictures, tables and pages about results that are finished and
recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from imaging.machine import described, machine_error

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
        defect = machine_error(error) is None
        logger.warning("%s failed (%s); nothing else depends on it", what, described(error), exc_info=defect)
