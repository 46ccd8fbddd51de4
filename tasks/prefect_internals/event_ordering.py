"""Order of events in the Prefect server that outlives the server, and in which none is left behind.

An event may say that it follows another one; the server then holds it until it has seen that. It remembers what
it has seen in memory only, so after a restart an event that follows one from before would wait for a quarter
of an hour: a run that died with the server would be started again only then. Here an event that is in the
database from before the start counts as seen.

Two events are worked on at a time. Prefect asks whether the one that is followed has been seen, and then whether
it is at work; where it ends between the two questions, the follower waits for what has been already, and is taken
up a quarter of an hour later: the end of a night was told so late, or a run seemed to have died. Here the first
question is asked once more.

Named to the server by PREFECT_SERVER_EVENTS_CAUSAL_ORDERING.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from prefect.server.database import provide_database_interface
from prefect.server.events.ordering import EventArrivedEarly, memory
from prefect.server.events.schemas.events import Event, ReceivedEvent

_STARTED: Final = datetime.now(UTC)
#: Between two looks at a follower that is about to begin to wait, s.
_MOMENT: Final = 0.01


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

    async def wait_for_leader(self, event: ReceivedEvent) -> None:
        """Return once the event that this one follows was processed.

        Raises
        ------
        EventArrivedEarly
            Where that has not come yet: this one is on the list of those that wait for it.
        """
        try:
            await super().wait_for_leader(event)
        except EventArrivedEarly:
            if event.follows is None or not await super().event_has_been_seen(event.follows):
                raise
            await self.forget_follower(event)

    async def get_followers(self, leader: ReceivedEvent) -> list[ReceivedEvent]:
        """The events that wait for one that has been seen just now."""
        for one in await super().get_followers(leader):
            # It is on its way to wait, or finds out in this moment that it need not.
            while await self.event_has_started_processing(one):
                await asyncio.sleep(_MOMENT)
        return await super().get_followers(leader)
