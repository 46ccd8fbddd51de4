"""The ASGI application of the Prefect server, and Prefect's command line, run in a process of nirflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.applications import Starlette


def prefect_application() -> Starlette:
    """Create the application of the Prefect server, with its UI and background services."""
    from prefect.server.api.server import create_app

    return create_app(final=True)


def run_prefect_command() -> None:
    """Run Prefect's command line with the arguments of this process."""
    from prefect.cli import app

    app()
