"""The health check of the watcher's container: ``python -m deployments.status.watcher_health``."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

from deployments.printable_output import make_output_printable
from deployments.settings.all_settings import Settings
from deployments.status.arriving import SILENCE, read_record

logger = logging.getLogger(__name__)


def main() -> int:
    """Return 0 if the watcher's record is recent and reports no trouble, otherwise 1."""
    make_output_printable()
    logging.basicConfig(format="%(message)s")
    record = read_record(Settings().data_dir)
    if record is None:
        logger.error("The watcher has no record.")
        return 1
    age = datetime.now(UTC) - record.written
    if age >= SILENCE:
        logger.error("The last record of the watcher is old: it is from %s UT.", record.written)
        return 1
    if reason := record.trouble:
        logger.error("The watcher records nothing: %s", reason)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
