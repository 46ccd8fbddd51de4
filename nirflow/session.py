"""The services that a reduction needs: the Prefect server and this process's connection to it.

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
    """Make sure that the Prefect server is running, and connect flows called inside the block to it.

    Parameters
    ----------
    data_dir
        The data folder; default: from the settings (``NIRFLOW_DATA_DIR``).

    Yields
    ------
    ServerAddress
        Address of the server and its UI. The server keeps running after the block.
    """
    address = ensure_server(data_dir or StoreSettings().data_dir)
    with connected(address):
        yield address
