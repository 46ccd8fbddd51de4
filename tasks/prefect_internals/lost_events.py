"""Events that were lost when the Prefect server was killed are emitted when it starts again.

The server commits the state of a run and keeps its event in memory until the automations have seen it and it is
stored, about a second later. If the server is killed in between, nothing else refers to that event: a run that a worker
had just taken would stay pending forever, and one that had just crashed would not be restarted.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa
from prefect.server.database import provide_database_interface
from prefect.server.events.clients import PrefectServerEventsClient
from prefect.server.models.events import flow_run_state_change_event
from prefect.server.schemas.states import StateType

#: States that are older than the newest stored event by more than this have had their event, which may have been
#: deleted since.
_MARGIN: Final = timedelta(minutes=10)


async def emit_lost_events() -> int:
    """Emit the event of each run's present state that was never stored, and return their number.

    The server's services must be running, and no client may have reached the server yet. The events name no
    preceding event, as that one may be lost too.
    """
    database = provide_database_interface()
    run, state, event = database.FlowRun, database.FlowRunState, database.Event
    async with database.session_context() as session, PrefectServerEventsClient() as events:
        newest = await session.scalar(
            sa.select(event.occurred)
            .where(event.occurred <= datetime.now(UTC))
            .order_by(event.occurred.desc())
            .limit(1)
        )
        if newest is None:
            return 0
        lost = await session.scalars(
            sa.select(run)
            .join(state, run.state_id == state.id)
            .where(
                state.created > newest - _MARGIN,
                sa.not_(sa.exists().where(event.id == state.id)),
                # The scheduler creates its runs without an event.
                sa.not_(sa.and_(run.auto_scheduled, state.type == StateType.SCHEDULED)),
            )
            .order_by(state.created)
        )
        number = 0
        for one in lost.unique().all():
            present = one.state.as_state()
            await events.emit(
                await flow_run_state_change_event(
                    session=session,
                    occurred=present.timestamp,
                    flow_run=one,
                    initial_state_id=None,
                    initial_state=None,
                    validated_state_id=present.id,
                    validated_state=present,
                )
            )
            number += 1
        return number
