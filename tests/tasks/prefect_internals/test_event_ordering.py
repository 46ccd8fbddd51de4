"""Order of events with interleaved checks: each is handled exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect.server.events.ordering import EventArrivedEarly
from prefect.server.events.ordering.memory import EventBeingProcessed
from prefect.server.events.schemas.events import Event, ReceivedEvent

from tasks.prefect_internals import event_ordering as module
from tasks.prefect_internals.event_ordering import CausalOrdering

#: When the states of all events were set; without any, the database has none.
STATES_SET: list[datetime] = []


@pytest.fixture
def ordering(monkeypatch: pytest.MonkeyPatch) -> Iterator[CausalOrdering]:
    """Use an empty database with slow answers."""

    class Answer:
        def __init__(self, statement: object) -> None:
            self.state = "flow_run_state" in str(statement)

        def scalar(self) -> datetime | None:
            return STATES_SET[0] if self.state and STATES_SET else None

    class Session:
        async def __aenter__(self) -> Session:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

        async def execute(self, statement: object) -> Answer:
            await asyncio.sleep(0.02)
            return Answer(statement)

    class Database:
        from prefect.server.database.orm_models import Event, FlowRunState

        def session_context(self) -> Session:
            return Session()

    monkeypatch.setattr(module, "provide_database_interface", Database)
    yield CausalOrdering(uuid.uuid4().hex)
    CausalOrdering.clear_all_scopes()
    STATES_SET.clear()


def chain(length: int) -> list[ReceivedEvent]:
    """Return events each of which follows the previous one."""
    made: list[ReceivedEvent] = []
    for _ in range(length):
        follows = made[-1].id if made else None
        about: dict[str, Any] = {"event": "x", "resource": {"prefect.resource.id": "r"}, "follows": follows}
        event = Event(id=uuid.uuid4(), occurred=datetime.now(UTC), **about)
        made.append(ReceivedEvent(**event.model_dump(), received=datetime.now(UTC)))
    return made


class Server:
    """Handle events as Prefect's consumers do."""

    def __init__(self, ordering: CausalOrdering, pause: float = 0.0) -> None:
        self.ordering, self.pause = ordering, pause
        self.handled: list[UUID] = []

    async def handle(self, event: ReceivedEvent, depth: int = 0) -> None:
        async with self.ordering.preceding_event_confirmed(self.handle, event, depth):
            await asyncio.sleep(self.pause)
            self.handled.append(event.id)

    async def take(self, event: ReceivedEvent) -> None:
        with contextlib.suppress(EventArrivedEarly):
            await self.handle(event)


def test_a_follower_that_checks_while_its_leader_ends_does_not_wait(ordering: CausalOrdering) -> None:
    """The answer of the database arrives after the requested action."""
    server = Server(ordering, pause=0.01)
    leader, follower = chain(2)

    async def both() -> None:
        await asyncio.gather(server.take(leader), server.take(follower))

    asyncio.run(both())
    assert server.handled == [leader.id, follower.id]
    assert ordering._waitlist == {}


def test_an_early_follower_is_handled_after_its_leader(ordering: CausalOrdering) -> None:
    server = Server(ordering)
    events = chain(4)

    async def backwards() -> None:
        for event in reversed(events):
            await server.take(event)

    asyncio.run(backwards())
    assert server.handled == [event.id for event in events]
    assert ordering._waitlist == {}


@pytest.mark.parametrize(
    ("age", "emitted", "waits"), [(60, False, False), (60, True, True), (-60, False, True)]
)
def test_no_event_waits_for_a_lost_one(
    ordering: CausalOrdering, monkeypatch: pytest.MonkeyPatch, age: float, emitted: bool, waits: bool
) -> None:
    """That of a state set before the start was lost, unless it is emitted again."""
    leader, follower = chain(2)
    STATES_SET.append(module._STARTED - timedelta(seconds=age))
    monkeypatch.setattr(module, "emitted", {leader.id} if emitted else set())
    server = Server(ordering)
    asyncio.run(server.take(follower))
    assert (server.handled == []) is waits
    assert (follower.id in ordering._waitlist) is waits
    asyncio.run(server.take(leader))
    assert sorted(server.handled) == sorted([leader.id, follower.id])


@pytest.mark.parametrize("seed", range(5))
def test_two_consumers_handle_every_event_exactly_once(ordering: CausalOrdering, seed: int) -> None:
    chance = random.Random(seed)
    server = Server(ordering)
    chains = [chain(6) for _ in range(6)]
    events = [event for one in zip(*chains, strict=True) for event in one]
    for _ in range(20):  # nearly in order, as they arrive
        at = chance.randrange(len(events) - 1)
        events[at], events[at + 1] = events[at + 1], events[at]

    async def consume(queue: asyncio.Queue[ReceivedEvent]) -> None:
        while not queue.empty():
            event = queue.get_nowait()
            server.pause = chance.choice((0.0, 0.005, 0.02))
            try:
                await server.take(event)
            except EventBeingProcessed:
                queue.put_nowait(event)  # Prefect delivers it again
                await asyncio.sleep(0.01)

    async def two() -> None:
        queue: asyncio.Queue[ReceivedEvent] = asyncio.Queue()
        for event in events:
            queue.put_nowait(event)
        await asyncio.gather(consume(queue), consume(queue))

    asyncio.run(two())
    assert ordering._waitlist == {}
    assert len(server.handled) == len(set(server.handled)) == len(events)
    for one in chains:
        order = [server.handled.index(event.id) for event in one]
        assert order == sorted(order)
