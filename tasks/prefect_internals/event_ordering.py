"""Order of events in the Prefect server that survives a restart and leaves no event waiting.

An event may name another one that it follows; the server then holds it back until it has seen that one. The
server remembers the events that it has seen only in memory, so after a restart an event that follows an
earlier one would wait for a quarter of an hour, and a run that died with the server would be restarted only
then. Here an event that was stored in the database before the start counts as seen, and no event waits for that
of a state set before the start, unless it is emitted again: event and state have the same id, and a server that is
killed loses its latest events.

Two events are processed at a time. Prefect checks whether the leading event has been seen, and then whether
it is being processed. If processing ends between the two checks, the follower waits for an event that has
already passed, and is released a quarter of an hour later: the end of a night is reported that late, or a run
seems to have died. Here the first check is repeated.

The server finds this class by PREFECT_SERVER_EVENTS_CAUSAL_ORDERING.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from prefect.server.database import provide_database_interface
from prefect.server.events.ordering import EventArrivedEarly, memory
from prefect.server.events.schemas.events import Event, ReceivedEvent

from tasks.prefect_internals.lost_events import emitted

_STARTED: Final = datetime.now(UTC)
#: Interval between two checks of a follower that is about to wait, s.
_MOMENT: Final = 0.01


class CausalOrdering(memory.CausalOrdering):
    """The events seen in this process, and those stored before its start."""

    async def event_has_been_seen(self, event: UUID | Event) -> bool:
        """Return whether an event was processed, in this process or before the server started."""
        if await super().event_has_been_seen(event):
            return True
        sought = event if isinstance(event, UUID) else event.id
        stored = provide_database_interface().Event
        return await _before_start(sa.select(stored.received).where(stored.id == sought))

    async def wait_for_leader(self, event: ReceivedEvent) -> None:
        """Return once the event that this one follows has been processed.

        Raises
        ------
        EventArrivedEarly
            If that event has not arrived yet: this one is now on the list of its followers.
        """
        try:
            await super().wait_for_leader(event)
        except EventArrivedEarly:
            if event.follows is None or not (
                await super().event_has_been_seen(event.follows)
                or await self._of_an_earlier_state(event.follows)
            ):
                raise
            await self.forget_follower(event)

    async def _of_an_earlier_state(self, event: UUID) -> bool:
        """Return whether an event is that of a state set before the server started, and will not come again."""
        if event in emitted:
            return False
        state = provide_database_interface().FlowRunState
        return await _before_start(sa.select(state.created).where(state.id == event))

    async def get_followers(self, leader: ReceivedEvent) -> list[ReceivedEvent]:
        """Return the events that wait for one that has just been seen."""
        for one in await super().get_followers(leader):
            # It is about to wait, or is just finding out that it need not.
            while await self.event_has_started_processing(one):
                await asyncio.sleep(_MOMENT)
        return await super().get_followers(leader)


async def _before_start(time: sa.Select[Any]) -> bool:
    """Return whether the database has a time, and it is before the start of the server."""
    async with provide_database_interface().session_context() as session:
        found = (await session.execute(time)).scalar()
    return found is not None and found < _STARTED
