"""Order of events in the Prefect server that outlives the server.

An event may say that it follows another one; the server then holds it until it has seen that. It remembers what
it has seen in memory only, so after a restart an event that follows one from before would wait for a quarter
of an hour: a run that died with the server would be started again only then. Here an event that is in the
database from before the start counts as seen. Named to the server by PREFECT_SERVER_EVENTS_CAUSAL_ORDERING.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from prefect.server.database import provide_database_interface
from prefect.server.events.ordering import memory
from prefect.server.events.schemas.events import Event

_STARTED: Final = datetime.now(UTC)


class CausalOrdering(memory.CausalOrdering):
    """What was seen in this process, and what was stored before it."""

    async def event_has_been_seen(self, event: UUID | Event) -> bool:
        """Whether an event was processed, here or before the start of the server."""
        if await super().event_has_been_seen(event):
            return True
        sought = event if isinstance(event, UUID) else event.id
        database = provide_database_interface()
        async with database.session_context() as session:
            found = await session.execute(
                sa.select(database.Event.received).where(database.Event.id == sought)
            )
        received = found.scalar()
        return received is not None and received < _STARTED
