"""The watcher process: ``python -m deployments.watch``, started by the supervisor or by itself in a container."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from typing import Any

from pydantic import SecretStr

from calib_store.store import Store
from deployments.configuration import Settings
from deployments.events import EventSender
from deployments.printable_output import make_output_printable
from deployments.server import server_status
from deployments.watcher import Watcher
from imaging.errors import NirflowError

logger = logging.getLogger(__name__)


def main() -> int:
    """Watch the folders of the settings until SIGTERM."""
    make_output_printable()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = Settings()
    stop = threading.Event()

    def end(number: int, frame: Any) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        with Store.open(settings) as store:
            auth = settings.server.auth_string
            sender = EventSender(_api_url(settings), SecretStr(auth) if auth else None)
            with Watcher(settings.watch, store, sender.emit, data_dir=settings.data_dir) as watcher:
                watcher.run(stop)
    except NirflowError as error:
        logger.error("%s", error)
        return 1
    return 0


def _api_url(settings: Settings) -> str:
    if named := os.environ.get("PREFECT_API_URL"):
        return named
    url = server_status(settings.data_dir).api_url
    if url is None:
        raise NirflowError(
            "No Prefect server is up.", remedy="Start everything: nirflow up; or set PREFECT_API_URL."
        )
    return url


if __name__ == "__main__":
    sys.exit(main())
