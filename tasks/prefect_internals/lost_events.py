"""Events that were lost when the Prefect server was killed are emitted when it starts again.

The server commits the state of a run, shows its event to the automations and stores it within about a second. If it is
killed in between, nothing else refers to that event: a run that a worker had just taken would stay pending forever, and
one that had just crashed would not be restarted. Whether the automations had seen an event that was not stored is not
known, so they may see it twice, and a notification may be sent twice.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from prefect.server.database import provide_database_interface
from prefect.server.events.clients import PrefectServerEventsClient
from prefect.server.models.events import flow_run_state_change_event
from prefect.server.schemas.states import StateType

logger = logging.getLogger(__name__)

#: States that are older than the newest stored event by more than this have had their event, which may have been
#: deleted since.
_MARGIN: Final = timedelta(minutes=10)
#: State in which the scheduler creates runs, without an event.
_CREATED: Final = "Scheduled"
#: Events emitted since this process began: their followers have to wait for them.
emitted: Final[set[UUID]] = set()


async def emit_lost_events() -> int:
    """For each run, emit the event of its present state if that was never stored; return the number of events.

    The server's services must be running, and no client may have reached the server yet. The events name no
    preceding event, as that one may be lost too. A run whose event cannot be made is logged.
    """
    database = provide_database_interface()
    run, state, event = database.FlowRun, database.FlowRunState, database.Event
    async with database.session_context() as session, PrefectServerEventsClient() as events:
        newest = await session.scalar(sa.select(sa.func.max(event.received)))
        lost = await session.scalars(
            sa.select(run)
            .join(state, run.state_id == state.id)
            .where(
                state.created > (newest or datetime.now(UTC)) - _MARGIN,
                sa.not_(sa.exists().where(event.id == state.id)),
                sa.not_(
                    sa.and_(run.auto_scheduled, state.type == StateType.SCHEDULED, state.name == _CREATED)
                ),
            )
            .order_by(state.created)
        )
        for one in lost.unique().all():
            try:
                present = one.state.as_state()
                made = await flow_run_state_change_event(
                    session=session,
                    occurred=present.timestamp,
                    flow_run=one,
                    initial_state_id=None,
                    initial_state=None,
                    validated_state_id=present.id,
                    validated_state=present,
                )
                await events.emit(made)
            except Exception:
                logger.exception("The lost event of a run's state cannot be emitted")
            else:
                emitted.add(made.id)
    return len(emitted)
