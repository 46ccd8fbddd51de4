"""The services that a reduction needs, up before Prefect is imported.

In a notebook::

    from nirflow.session import start_services
    start_services()
    from flows.night import reduce_night
    report = reduce_night(["/data/2013-11-21"], out="out")
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from calib_store.settings import StoreSettings
from imaging.errors import NirflowError

if TYPE_CHECKING:
    from deployments.settings import ServerAddress


def start_services(data_dir: Path | None = None) -> ServerAddress:
    """Make sure that the Prefect server is up and that this process will talk to it.

    Parameters
    ----------
    data_dir
        The data folder; from the settings (``NIRFLOW_DATA_DIR``) without it.

    Returns
    -------
    ServerAddress
        Where the server and its UI are.

    Raises
    ------
    NirflowError
        Where Prefect was imported before and talks to another server, or the server does not start.
    """
    from deployments.server import ensure_server
    from deployments.settings import client_environment

    address = ensure_server(data_dir or StoreSettings().data_dir)
    wanted = client_environment(address)
    if "prefect" in sys.modules and os.environ.get("PREFECT_API_URL") != wanted["PREFECT_API_URL"]:
        raise NirflowError(
            "Prefect was imported before nirflow's services were started, so it talks to another server.",
            remedy="Call nirflow.session.start_services() first, or set PREFECT_API_URL yourself.",
        )
    os.environ.update(wanted)
    return address
