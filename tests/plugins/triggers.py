"""Waiting until the Prefect server applies new automations; imported by the tests that need it."""

from __future__ import annotations

import contextlib
import uuid

from prefect.client.orchestration import SyncPrefectClient
from prefect.events.actions import PauseAutomation
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.settings import get_current_settings
from waiting import wait_until

from deployments.prefect_api.events import Event, EventSender, EventsError


def wait_until_triggers_hold(client: SyncPrefectClient) -> None:
    """Wait until the server has loaded all triggers created so far.

    It loads them in the order of their changes, some time after each. So another one is created that pauses
    itself at a special event: once it does, the earlier ones are loaded too.
    """
    name = f"test.{uuid.uuid4().hex}"
    last = AutomationCore(
        name=name,
        trigger=EventTrigger(posture=Posture.Reactive, expect={name}, threshold=1),
        actions=[PauseAutomation(source="inferred")],
    )
    made = client.create_automation(last)
    sender = EventSender(str(client.api_url), get_current_settings().api.auth_string)

    def paused() -> bool:
        with contextlib.suppress(EventsError):
            sender.emit([Event(name=name, resource=f"prefect.automation.{made}")])
        return not client.read_automation(made).enabled

    wait_until(paused, "the server to load its automations", pause=0.2)
    client.delete_automation(made)
