"""The ASGI application of the Prefect server, and Prefect's command line, run in a process of nirflow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.applications import Starlette

logger = logging.getLogger(__name__)


def prefect_application() -> Starlette:
    """Create the application of the Prefect server, with its UI and background services.

    Before it answers the first request, it emits the events that were lost when its predecessor was killed.
    """
    from prefect.server.api.server import create_app

    application = create_app(final=True)
    own = application.router.lifespan_context

    @asynccontextmanager
    async def lifespan(served: Starlette) -> AsyncIterator[None]:
        from tasks.prefect_internals import event_ordering  # noqa: F401  # it notes when the server started
        from tasks.prefect_internals.lost_events import emit_lost_events

        async with own(served):
            await asyncio.sleep(0)  # the services subscribe to events in their first step
            try:
                count = await emit_lost_events()
            except Exception:  # the server must start
                logger.exception("Events that were lost when the server was killed cannot be sought")
            else:
                if count:
                    logger.warning("Emitted %d events that were lost when the server was killed", count)
            yield

    application.router.lifespan_context = lifespan
    return application


def run_prefect_command() -> None:
    """Run Prefect's command line with the arguments of this process."""
    from prefect.cli import app

    app()
