"""Actions of automations inside a server that requires a password."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from prefect import flow, get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.actions import PauseAutomation, ResumeAutomation, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.settings import get_current_settings
from triggers import wait_until_triggers_hold
from waiting import wait_until

from deployments.prefect_api.events import Event, EventSender
from deployments.settings.server_settings import ServerAddress


@pytest.fixture
def client(prefect_server: ServerAddress) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as one:
        yield one


def send(client: SyncPrefectClient, name: str) -> None:
    sender = EventSender(str(client.api_url), get_current_settings().api.auth_string)
    sender.emit([Event(name=name, resource="test.resource")])


def automation(client: SyncPrefectClient, name: str, *actions: object, enabled: bool = True) -> uuid.UUID:
    trigger = EventTrigger(posture=Posture.Reactive, expect={name}, threshold=1)
    return client.create_automation(
        AutomationCore(name=name, enabled=enabled, trigger=trigger, actions=list(actions))  # type: ignore[arg-type]
    )


def test_an_automation_pauses_and_resumes_another(client: SyncPrefectClient) -> None:
    suffix = uuid.uuid4().hex
    other = automation(client, f"test.other.{suffix}")
    made = [
        other,
        automation(client, f"test.pause.{suffix}", PauseAutomation(source="selected", automation_id=other)),
        automation(client, f"test.resume.{suffix}", ResumeAutomation(source="selected", automation_id=other)),
    ]
    wait_until_triggers_hold(client)
    for action, enabled in (("pause", False), ("resume", True)):
        send(client, f"test.{action}.{suffix}")
        wait_until(lambda wanted=enabled: client.read_automation(other).enabled is wanted, action, pause=0.2)
    for one in made:
        client.delete_automation(one)


def test_an_automation_runs_a_deployment(client: SyncPrefectClient) -> None:
    suffix = uuid.uuid4().hex
    of = client.create_flow(flow(lambda: None, name=f"test {suffix}"))
    deployment = client.create_deployment(of, suffix)
    made = automation(
        client, f"test.run.{suffix}", RunDeployment(source="selected", deployment_id=deployment)
    )
    wait_until_triggers_hold(client)
    send(client, f"test.run.{suffix}")
    runs = wait_until(
        lambda: [run for run in client.read_flow_runs() if run.deployment_id == deployment],
        "the run",
        pause=0.2,
    )
    assert len(runs) == 1
    client.delete_automation(made)
    client.delete_deployment(deployment)
    client.delete_flow(of)
