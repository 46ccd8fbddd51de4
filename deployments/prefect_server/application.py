"""The layers between the network and Prefect's own application, in order from the outside to the inside.

`Confined`
    instructs browsers that pages of this server may contact no other server.
`Guarded`
    refuses requests to another name, or from a page of another origin.
`OneAddress`
    redirects browsers to the one loopback address of the server's pages.
`Throttled`
    delays the answers to wrong passwords.
`Pages`
    serves the pages of nights, of the store and of the status.
`Login`
    serves the login page.
`Authority`
    lets each role do only what it may.
`Locked`
    requires the password where Prefect does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.access.authority import Authority
from deployments.access.confined import Confined
from deployments.access.credentials import Credentials, from_settings
from deployments.access.guarded import Guarded
from deployments.access.locked import Locked, pages
from deployments.access.login import Login
from deployments.access.one_address import OneAddress
from deployments.access.throttled import Throttled
from deployments.pages.pages import Pages
from deployments.pages.status_page import StatusPage
from deployments.pages.store_pages import StorePages
from deployments.pages.templating import templates
from deployments.prefect_api.rest import Rest
from deployments.settings.all_settings import Settings
from deployments.settings.server_settings import NAMES, base_url
from deployments.status.prefect_runs import PATIENCE

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import ASGIApp


def closed(prefect: Starlette, environment: Mapping[str, str]) -> ASGIApp:
    """Return Prefect's application behind all layers that control access to it.

    Parameters
    ----------
    prefect
        Prefect's application.
    environment
        Environment of the server process, from `deployments.settings.server_settings.server_environment`.
    """
    owner = environment["PREFECT_SERVER_API_AUTH_STRING"]
    home = Path(environment["PREFECT_HOME"])
    settings = Settings(data_dir=home.parent)
    credentials = Credentials(owner, from_settings(settings.server), home)
    authority = Authority(Locked(prefect, owner, pages(prefect.routes)), credentials)
    host, port = environment["PREFECT_SERVER_API_HOST"], int(environment["PREFECT_SERVER_API_PORT"])
    status = StatusPage(settings, Rest(f"{base_url(host, port)}/api", owner, PATIENCE), templates())
    site = Pages(Login(authority), credentials, settings.nights, StorePages(settings), status)
    public_url, names = environment.get("PREFECT_UI_URL"), json.loads(environment.get(NAMES, "[]"))
    redirected = OneAddress(Throttled(site), public_url, names)
    guarded = Guarded(redirected, host, public_url, names)
    return Confined(guarded)
