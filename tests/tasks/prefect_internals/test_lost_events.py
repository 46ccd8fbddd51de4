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
        from prefect.server.events.clients import PrefectServerEventsClient
        from prefect.server.events.schemas.events import Event
        from tasks.prefect_internals.event_ordering import CausalOrdering
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
                for kind, age, stored, *named in states:
                    when = killed - timedelta(seconds=age)
                    state = database.FlowRunState(
                        flow_run_id=made.id, type=kind, name=(named or [kind.title()])[0], timestamp=when, created=when
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
            await run("waits", ("RUNNING", 9, True), ("SCHEDULED", 0.2, False, "AwaitingRetry"), auto_scheduled=True)

        handled = []
        original = CausalOrdering.record_event_as_seen

        async def record(self, event):
            handled.append(event.id)
            await original(self, event)

        CausalOrdering.record_event_as_seen = record

        def following(leader):
            return Event(
                occurred=datetime.now(UTC), event="prefect.flow-run.Later", id=uuid.uuid4(),
                resource={"prefect.resource.id": "prefect.flow-run.x"}, follows=leader,
            )

        async def until(look):
            async with asyncio.timeout(30):
                while not await look():
                    await asyncio.sleep(0.05)

        async def stored():
            async with database.session_context() as session:
                return set(await session.scalars(sa.select(database.Event.id)))

        async def all_stored():
            return set(ids.values()) - not_emitted | {after_lost.id, after_taken.id} <= await stored()

        application = prefect_application()
        async with application.router.lifespan_context(application):
            at_start = await stored()
            after_lost, after_taken = following(ids["begun PENDING"]), following(ids["taken PENDING"])
            not_emitted = {ids["begun PENDING"], ids["old CRASHED"], ids["scheduled SCHEDULED"]}
            async with PrefectServerEventsClient() as events:
                await events.emit(after_taken)
                await events.emit(after_lost)
                await until(all_stored)
                # A state set since the start, whose event is on its way.
                async with database.session_context(begin_transaction=True) as session:
                    flow_run = await session.scalar(sa.select(database.FlowRun.id).limit(1))
                    when = datetime.now(UTC)
                    fresh = database.FlowRunState(
                        flow_run_id=flow_run, type="RUNNING", name="Running", timestamp=when, created=when
                    )
                    session.add(fresh)
                    await session.flush()
                    fresh_id = fresh.id
                early = following(fresh_id)
                await events.emit(early)
                await asyncio.sleep(1)
                waited = early.id not in handled
                leader = following(None).model_copy(update={"id": fresh_id})
                await events.emit(leader)

                async def seen():
                    return early.id in handled

                await until(seen)
            there = await stored()
        names = {one: name for name, one in ids.items()} | {
            after_lost.id: "after lost", after_taken.id: "after taken", early.id: "early", fresh_id: "leader"
        }
        print(json.dumps({
            "handled": [names[one] for one in handled if one in names],
            "emitted": sorted(names[one] for one in there - at_start if one in ids.values()),
            "waited": waited,
        }))

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
    assert found["emitted"] == ["begun RUNNING", "taken PENDING", "waits SCHEDULED"]
    handled = found["handled"]
    assert len(handled) == len(set(handled)) == 7
    # Those that follow an event that is emitted again wait for it, those that follow a lost one do not.
    assert handled.index("after taken") > handled.index("taken PENDING")
    assert "after lost" in handled
    assert found["waited"]
    assert handled[-2:] == ["leader", "early"]
