"""The watcher process: ``python -m deployments.arrivals.main``, started by the supervisor or in a container."""

from __future__ import annotations

import logging
import os
import sys

from calib_store.store import Store
from deployments.arrivals.starting import Starter
from deployments.arrivals.watcher import Watcher
from deployments.prefect_api.rest import Rest
from deployments.prefect_server.server import own_address
from deployments.printable_output import make_output_printable
from deployments.processes import set_by_signals
from deployments.settings.all_settings import Settings
from deployments.settings.server_settings import ServerAddress, named_address
from imaging.errors import NirflowError

logger = logging.getLogger(__name__)


def main() -> int:
    """Watch the folders of the settings until SIGTERM."""
    make_output_printable()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = Settings()
    stop = set_by_signals()
    try:
        with Store.open(settings) as store:
            server = running_server(settings)
            starter = Starter(settings, store, Rest(server.api_url, server.auth), stop)
            watcher = Watcher(settings.watch, store, data_dir=settings.data_dir, recorded=starter.wake)
            with watcher, starter:
                watcher.run(stop)
    except NirflowError as error:
        logger.error("%s", error)
        return 1
    return 0


def running_server(settings: Settings) -> ServerAddress:
    """Return the address of the Prefect server that is running for these settings.

    Raises
    ------
    NirflowError
        If none is running and none is named.
    """
    named = os.environ.get("PREFECT_API_URL")
    own = own_address(settings.data_dir, settings.server)
    if own is not None and named in (None, own.api_url):
        return own
    if not named:
        raise NirflowError(
            "The Prefect server is not running.", remedy="Start it with nirflow up, or set PREFECT_API_URL."
        )
    return named_address(named, settings.server)


if __name__ == "__main__":
    sys.exit(main())
