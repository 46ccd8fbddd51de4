"""The log of a run that failed for a reason that is told in words: no traceback after it.

Prefect logs each exception of a flow twice, with its traceback. That is for defects; what went wrong with a night's
frames is said by the error's own text.
"""

from __future__ import annotations

import logging
from typing import Final

from imaging.errors import NirflowError

#: By these Prefect tells of the exceptions of a flow.
_LOGGERS: Final = ("prefect.flow_runs", "prefect.engine")
_AGAIN: Final = "Engine execution exited with unexpected exception"


class _WithoutTraceback(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.exc_info, tuple) and isinstance(record.exc_info[1], NirflowError):
            record.exc_info = record.exc_text = None
            return not record.getMessage().startswith(_AGAIN)
        return True


_FILTER: Final = _WithoutTraceback()


def tell_errors_in_words() -> None:
    """Have the log of this process's runs show no traceback of nirflow's own errors, and none of them twice."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)
