"""A server that starts emits the events that its predecessor lost when it was killed, and only those."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

#: States that a killed server left in its database, the events that it stored, and what the next server makes of both.
_SERVER = textwrap.dedent("""
    import asyncio, json, sys, uuid
    from datetime import UTC, datetime, timedelta

    import sqlalchemy as sa

    async def main():
        from prefect.server.database import provide_database_interface
        from prefect.server.events.ordering import get_triggers_causal_ordering
        from prefect.server.events.clients import PrefectServerEventsClient
        from prefect.server.events.schemas.events import Event
        from tasks.prefect_internals.server_application import prefect_application

        database = provide_database_interface()
        await database.create_db()
        killed = datetime.now(UTC) - timedelta(seconds=20)
        ids = {}
        async with database.session_context(begin_transaction=True) as session:
            flow = database.Flow(name="nightly")
            session.add(flow)
            await session.flush()

            async def run(name, *states, auto_scheduled=False):
                made = database.FlowRun(flow_id=flow.id, name=name, auto_scheduled=auto_scheduled)
                session.add(made)
                await session.flush()
                for kind, age, stored in states:
                    when = killed - timedelta(seconds=age)
                    state = database.FlowRunState(
                        flow_run_id=made.id, type=kind, name=kind.title(), timestamp=when, created=when
                    )
                    session.add(state)
                    await session.flush()
                    ids[f"{name} {kind}"] = state.id
                    made.state_id = state.id
                    if stored:
                        resource = {"prefect.resource.id": f"prefect.flow-run.{made.id}"}
                        session.add(database.Event(
                            id=state.id, occurred=when, received=when, event=f"prefect.flow-run.{kind.title()}",
                            resource=resource, resource_id=resource["prefect.resource.id"], related=[],
                            payload={}, recorded=when,
                        ))
                await session.flush()

            await run("taken", ("SCHEDULED", 60, True), ("PENDING", 0.5, False))
            await run("begun", ("PENDING", 0.9, False), ("RUNNING", 0.3, False))
            await run("ended", ("RUNNING", 50, True), ("COMPLETED", 5, True))
            await run("old", ("CRASHED", 90000, False))
            await run("scheduled", ("SCHEDULED", 0.4, False), auto_scheduled=True)

        application = prefect_application()
        async with application.router.lifespan_context(application):
            # A state that follows one whose event was lost, and is not the present one.
            last = Event(
                occurred=datetime.now(UTC), event="prefect.flow-run.Lost", id=uuid.uuid4(),
                resource={"prefect.resource.id": "prefect.flow-run.x"}, follows=ids["begun PENDING"],
            )
            async with PrefectServerEventsClient() as events:
                await events.emit(last)
            async with asyncio.timeout(30):
                ordering = get_triggers_causal_ordering()
                while not await ordering.event_has_been_seen(last):
                    await asyncio.sleep(0.1)
                seen = [name for name, one in ids.items() if one in ordering._seen_events]
                while True:
                    async with database.session_context() as session:
                        stored = set(await session.scalars(sa.select(database.Event.id)))
                    if last.id in stored:
                        break
                    await asyncio.sleep(0.1)
        print(json.dumps({"emitted": seen, "stored": [name for name, one in ids.items() if one in stored]}))

    asyncio.run(main())
""")


def test_the_events_of_present_states_that_were_never_stored_are_emitted(tmp_path: Path) -> None:
    environment = os.environ | {
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{tmp_path}/prefect.db",
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "tasks.prefect_internals.event_ordering",
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    ended = subprocess.run(
        [sys.executable, "-c", _SERVER],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert sorted(found["emitted"]) == ["begun RUNNING", "taken PENDING"]
    assert sorted(found["stored"]) == [
        "begun RUNNING",
        "ended COMPLETED",
        "ended RUNNING",
        "taken PENDING",
        "taken SCHEDULED",
    ]
