"""Everything between the network and Prefect's own application, in its order from the outside to the inside.

`Confined`
    tells browsers that pages of this server may ask nobody else.
`Guarded`
    refuses what comes by another name, or from a page of another origin.
`OneAddress`
    leads browsers to the one loopback address that the server's pages have.
`Throttled`
    answers wrong passwords late.
`Pages`
    has the pages of nights and of the store.
`Login`
    has the login page.
`Authority`
    lets each role do what it may.
`Locked`
    asks for the password where Prefect does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.access.authority import Authority
from deployments.access.confined import Confined
from deployments.access.credentials import Credentials, given_in
from deployments.access.guarded import Guarded
from deployments.access.locked import Locked, pages
from deployments.access.login import Login
from deployments.access.one_address import OneAddress
from deployments.access.throttled import Throttled
from deployments.pages.pages import Pages
from deployments.pages.store_pages import StorePages
from deployments.settings.all_settings import Settings
from deployments.settings.server_settings import NAMES

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import ASGIApp


def closed(prefect: Starlette, environment: Mapping[str, str]) -> ASGIApp:
    """Prefect's application behind all that decides who may ask it for what.

    Parameters
    ----------
    prefect
        The application.
    environment
        Of the server process, as `deployments.settings.server_settings.server_environment` makes it.
    """
    owner = environment["PREFECT_SERVER_API_AUTH_STRING"]
    home = Path(environment["PREFECT_HOME"])
    settings = Settings(data_dir=home.parent)
    credentials = Credentials(owner, given_in(settings.server), home)
    authority = Authority(Locked(prefect, owner, pages(prefect.routes)), credentials)
    site = Pages(Login(authority), credentials, settings.nights, StorePages(settings))
    public_url, names = environment.get("PREFECT_UI_URL"), json.loads(environment.get(NAMES, "[]"))
    led = OneAddress(Throttled(site), public_url, names)
    guarded = Guarded(led, environment["PREFECT_SERVER_API_HOST"], public_url, names)
    return Confined(guarded)
