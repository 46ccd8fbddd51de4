"""Everything between the network and Prefect's own application, in its order from the outside to the inside.

`Confined`
    tells browsers that pages of this server may ask nobody else.
`Guarded`
    refuses what comes by another name, or from a page of another origin.
`Throttled`
    answers wrong passwords late.
`Login`
    has the login page.
`Locked`
    asks for the password where Prefect does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from deployments.confined import Confined
from deployments.guarded import Guarded
from deployments.locked import Locked, pages
from deployments.login import Login
from deployments.settings import NAMES
from deployments.throttled import Throttled

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
        Of the server process, as `deployments.settings.server_environment` makes it.
    """
    locked = Locked(prefect, environment["PREFECT_SERVER_API_AUTH_STRING"], pages(prefect.routes))
    guarded = Guarded(
        Throttled(Login(locked)),
        environment["PREFECT_SERVER_API_HOST"],
        environment.get("PREFECT_UI_URL"),
        json.loads(environment.get(NAMES, "[]")),
    )
    return Confined(guarded)
