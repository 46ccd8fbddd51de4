"""The services that a reduction needs: the Prefect server and this process's way to it.

In a notebook::

    from nirflow import reduce_night, services

    with services():
        report = reduce_night(["/data/2013-11-21"], out="out")
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from calib_store.model.settings import StoreSettings
from deployments.prefect_server.client import connected
from deployments.prefect_server.server import ensure_server

if TYPE_CHECKING:
    from deployments.settings.server_settings import ServerAddress


@contextmanager
def services(data_dir: Path | None = None) -> Iterator[ServerAddress]:
    """Make sure that the Prefect server is up, and have flows called inside the block talk to it.

    Parameters
    ----------
    data_dir
        The data folder; from the settings (``NIRFLOW_DATA_DIR``) without it.

    Yields
    ------
    ServerAddress
        Where the server and its UI are. The server stays up after the block.
    """
    address = ensure_server(data_dir or StoreSettings().data_dir)
    with connected(address):
        yield address
