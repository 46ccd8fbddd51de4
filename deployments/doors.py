"""Everything between the network and Prefect's own application, in its order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from deployments.confined import Confined
from deployments.guarded import Guarded
from deployments.login import Login
from deployments.settings import NAMES

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def closed(prefect: ASGIApp, environment: Mapping[str, str]) -> ASGIApp:
    """Prefect's application behind all that decides who may ask it for what.

    Parameters
    ----------
    prefect
        The application.
    environment
        Of the server process, as `deployments.settings.server_environment` makes it.
    """
    guarded = Guarded(
        Login(prefect),
        environment["PREFECT_SERVER_API_HOST"],
        environment.get("PREFECT_UI_URL"),
        json.loads(environment.get(NAMES, "[]")),
    )
    return Confined(guarded, environment.get("PREFECT_SERVER_UI_API_URL"))
