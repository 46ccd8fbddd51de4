"""Dead runs on the real server: marked, and those of deployments restarted, once only."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import pytest
from prefect import flow, get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.events import emit_event
from prefect.events.actions import ChangeFlowRunState
from prefect.states import (
    AwaitingRetry,
    Cancelled,
    Cancelling,
    Completed,
    Crashed,
    Failed,
    Pending,
    Running,
    Scheduled,
)
from pydantic import SecretStr
from triggers import wait_until_triggers_hold
from waiting import wait_until

from calib_store.server import postgres
from deployments.prefect_api.events import Event, EventSender
from deployments.prefect_api.space_wait import WAITED_FOR_SPACE
from deployments.prefect_server.client import connected
from deployments.prefect_server.server import ensure_server, stop_server
from deployments.registry import automations
from deployments.registry.automations import make_automations
from deployments.settings.all_settings import NotifySettings, Settings
from deployments.settings.server_settings import ServerAddress, ServerSettings

T = TypeVar("T")


@pytest.fixture
def client(prefect_server: ServerAddress) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as one:
        yield one
        for automation in one.read_automations():
            if automation.name.startswith("nirflow: "):
                one.delete_automation(automation.id)


@pytest.fixture
def new_run(client: SyncPrefectClient) -> Iterator[Callable[..., UUID]]:
    """Create flow runs with or without a deployment, and delete them at the end."""
    name = f"test {uuid.uuid4().hex}"
    made = flow(lambda: None, name=name)
    of = client.create_flow(made)
    deployment = client.create_deployment(of, name)
    runs: list[UUID] = []

    def make(*, deployed: bool = True, tags: Sequence[str] = ()) -> UUID:
        if deployed:
            run = client.create_flow_run_from_deployment(deployment, state=Scheduled(), tags=tags)
        else:
            run = client.create_flow_run(made, state=Scheduled())
        runs.append(run.id)
        return run.id

    yield make
    for run in runs:
        client.delete_flow_run(run)
    client.delete_deployment(deployment)
    client.delete_flow(of)


def go(client: SyncPrefectClient, run: UUID, *states: State[Any]) -> None:
    for state in states:
        client.set_flow_run_state(run, state, force=True)


def state_name(client: SyncPrefectClient, run: UUID) -> str:
    found: FlowRun = client.read_flow_run(run)
    return found.state_name or ""


def test_a_crashed_run_of_a_deployment_is_restarted_only_once(
    client: SyncPrefectClient, new_run: Callable[..., UUID]
) -> None:
    make_automations(client, Settings())
    wait_until_triggers_hold(client)
    by_hand, well, cancelled, run = new_run(deployed=False), new_run(), new_run(), new_run()
    waited = new_run(tags=[WAITED_FOR_SPACE])
    for _ in range(2):
        go(client, waited, Running(), AwaitingRetry())
    go(client, by_hand, Running(), Crashed(message="killed"))
    go(client, well, Running(), Completed())
    go(client, cancelled, Running(), Cancelled())
    for crashed in (run, waited):
        go(client, crashed, Running(), Crashed(message="killed"))
    wait_until(
        lambda: state_name(client, waited) == "AwaitingRetry"
    )  # attempts that met a full disk were no crashes
    again = wait_until(lambda: (r := client.read_flow_run(run)).state_name == "AwaitingRetry" and r)
    assert again.state is not None
    assert again.state.is_scheduled()
    assert again.run_count == 1
    go(client, run, Pending(), Running(), Crashed(message="killed again"))
    assert client.read_flow_run(run).run_count == 2
    time.sleep(2)
    assert state_name(client, run) == "Crashed"
    assert state_name(client, by_hand) == "Crashed"
    assert (state_name(client, well), state_name(client, cancelled)) == ("Completed", "Cancelled")


@pytest.mark.long
def test_silent_runs_and_runs_that_never_begin_are_found(
    client: SyncPrefectClient, new_run: Callable[..., UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 10 s instead of 90, 120 and 60, the least that the server allows."""
    monkeypatch.setattr(automations, "_SILENCE", timedelta(seconds=15))
    monkeypatch.setattr(automations, "_PENDING", timedelta(seconds=10))
    monkeypatch.setattr(automations, "_CANCELLING", timedelta(seconds=10))
    make_automations(client, Settings())
    wait_until_triggers_hold(client)
    silent, ended, by_hand, lost, begun = new_run(), new_run(), new_run(deployed=False), new_run(), new_run()
    cancelled, in_part = new_run(), new_run()
    for run in (silent, ended, by_hand, lost, begun, cancelled, in_part):
        go(client, run, Pending())
    time.sleep(1)  # as a process needs to start: within milliseconds the server can lose the order of events
    for run in (silent, ended, by_hand, begun, cancelled, in_part):
        go(client, run, Running())
    for run in (silent, ended, by_hand, cancelled, in_part):
        _beat(run)
    time.sleep(1)
    go(client, cancelled, Cancelling())
    go(client, in_part, Failed(name="Incomplete"))
    go(client, ended, Completed())
    wait_until(lambda: state_name(client, silent) == "AwaitingRetry")
    wait_until(lambda: state_name(client, by_hand) == "Crashed")
    wait_until(lambda: state_name(client, lost) == "AwaitingRetry")
    assert [state.name for state in client.read_flow_run_states(lost)][-2:] == ["Lost", "AwaitingRetry"]
    assert state_name(client, ended) == "Completed"
    assert state_name(client, in_part) == "Incomplete"
    wait_until(lambda: state_name(client, cancelled) == "Cancelled")
    assert state_name(client, begun) == "Running"  # without a first heartbeat it is not expected to send any


@pytest.mark.parametrize("name", ["nirflow: a silent run is dead", "nirflow: a run that never began is lost"])
def test_a_run_that_ended_or_is_being_cancelled_is_never_marked_as_crashed(
    client: SyncPrefectClient, new_run: Callable[..., UUID], name: str
) -> None:
    """The server may see the event of a start or an end late, and its conclusions must do no harm."""
    (action,) = next(one.actions for one in automations.automations(Settings(), None) if one.name == name)
    assert isinstance(action, ChangeFlowRunState)
    marked = State[Any](type=action.state, name=action.name, message=action.message)
    for reached in (
        Completed(),
        Failed(name="Incomplete"),
        Failed(),
        Cancelled(),
        Cancelling(),
        Running(),
    ):
        run = new_run()
        go(client, run, Pending(), Running(), reached)
        client.set_flow_run_state(run, marked, force=action.force)
        assert state_name(client, run) == (marked.name if reached.is_running() else reached.name)


@pytest.mark.long
def test_a_run_that_died_while_the_server_was_down_for_long_is_found(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut: the triggers were due long before the server restarts."""
    folder = tmp_path_factory.mktemp("own")
    monkeypatch.setattr(automations, "_SILENCE", timedelta(seconds=10))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    settings = ServerSettings(port=0)
    try:
        address = ensure_server(folder, settings=settings)
        with connected(address), get_client(sync_client=True) as client:
            make_automations(client, Settings())
            wait_until_triggers_hold(client)
            of = client.create_flow(flow(lambda: None, name="test"))
            deployment = client.create_deployment(of, "test")
            run = client.create_flow_run_from_deployment(deployment, state=Scheduled()).id
            go(client, run, Pending(), Running())
        beat = Event(name="prefect.flow-run.heartbeat", resource=f"prefect.flow-run.{run}")
        EventSender(address.api_url, SecretStr(address.auth or "")).emit([beat])
        with postgres.ensure_running(folder).connect("prefect") as database:
            of_run = (f"%{run}%",)
            wait_until(
                lambda: database.execute(
                    "SELECT 1 FROM automation_bucket WHERE bucketing_key::text LIKE %s", of_run
                ).fetchone()
            )
            stop_server(folder, settings=settings)
            database.execute(
                """UPDATE automation_bucket SET start = start - interval '1 h', "end" = "end" - interval '1 h'"""
            )
        address = ensure_server(folder, settings=settings)
        with connected(address), get_client(sync_client=True) as client:
            wait_until(lambda: state_name(client, run) == "AwaitingRetry")
    finally:
        stop_server(folder, settings=settings)
        postgres.stop(folder)


def _beat(run: UUID) -> None:
    emit_event("prefect.flow-run.heartbeat", resource={"prefect.resource.id": f"prefect.flow-run.{run}"})


@pytest.mark.parametrize(
    ("on", "block", "expected"),
    [
        (("failure", "night"), None, set()),
        ((), "0" * 8, set()),
        (("failure",), "b", {"nirflow: notify of a failed run"}),
        (("night",), "b", {"nirflow: notify of a night's end"}),
        (("limit",), "b", {"nirflow: notify of a crossed limit"}),
        (("failure", "night"), "b", {"nirflow: notify of a failed run", "nirflow: notify of a night's end"}),
    ],
)
def test_notifications_are_sent_for_the_events_of_the_settings(
    on: tuple[Any, ...], block: str | None, expected: set[str]
) -> None:
    block = str(uuid.uuid4()) if block is not None else None
    wanted = list(automations.automations(Settings(notify=NotifySettings(on=on)), block))
    assert {one.name for one in wanted if "notify" in one.name} == expected
    assert len(wanted) == 5 + len(expected)
    assert len({one.name for one in wanted}) == len(wanted)
    # One of the two notifies of every end of a night's run.
    if "night" in on and expected:
        triggering = {event for one in wanted if "notify" in one.name for event in one.trigger.expect}  # type: ignore[union-attr]
        assert triggering == {
            f"prefect.flow-run.{end}" for end in ("Completed", "Waiting", "Incomplete", "Failed", "Crashed")
        }
