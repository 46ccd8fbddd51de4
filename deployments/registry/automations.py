"""Automations in the Prefect server: runs that died are marked and run once more, and people are told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from deployments.prefect_server.notify import BLOCK_NAME, Notification
from deployments.settings.all_settings import Settings
from tasks.prefect_internals.heartbeats import INTERVAL

#: A run that was silent this long is dead: three heartbeats are missing.
_SILENCE: Final = timedelta(seconds=3 * INTERVAL)
#: A run that was handed to a worker and did not begin within this time was lost with the worker.
_PENDING: Final = timedelta(seconds=120)

#: How long a cancelled run may take to end.
_CANCELLING: Final = timedelta(seconds=60)

_ENDS: Final = frozenset(
    f"prefect.flow-run.{state}"
    for state in ("Completed", "Incomplete", "Failed", "Cancelled", "Crashed", "Lost", "AwaitingRetry")
)
_HANDED_OUT: Final = frozenset(
    f"prefect.flow-run.{state}" for state in ("Pending", "Submitting", "InfrastructurePending")
)
#: What a run ended with, and its page. Lines after the message's first one are indented: none passes for one of ours.
_MESSAGE: Final = "{{ (flow_run.state.message or '')|indent }}\n{{ flow_run|ui_url }}"
#: Ends of which people are told as of failures.
_FAILURES: Final = frozenset(f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "Incomplete"))
_HEARTBEAT: Final = "prefect.flow-run.heartbeat"
_RUNS: Final = ResourceSpecification.model_validate({"prefect.resource.id": "prefect.flow-run.*"})
#: The first attempt of a run.
_FIRST: Final = ResourceSpecification.model_validate(
    {"prefect.resource.id": "prefect.flow-run.*", "prefect.run-count": ["0", "1"]}
)
_DEPLOYED: Final = ResourceSpecification.model_validate(
    {"prefect.resource.id": "prefect.deployment.*", "prefect.resource.role": "deployment"}
)


def automations(settings: Settings, notification: str | None) -> Iterator[AutomationCore]:
    """The automations that the settings ask for.

    The server may see the events of a run out of their order, or one of them late by minutes. So what is concluded
    from an event that did not come is never forced: the server refuses to mark a run as crashed that has ended or
    is to be cancelled.

    Parameters
    ----------
    settings
        Whom to tell of what.
    notification
        Id of the block that tells; None without one.
    """
    yield _automation(
        "nirflow: a silent run is dead",
        "A run whose process died without a word is marked as crashed.",
        EventTrigger(
            posture=Posture.Proactive, match=_RUNS, after={_HEARTBEAT}, expect={_HEARTBEAT, *_ENDS},
            for_each={"prefect.resource.id"}, threshold=1, within=_SILENCE,
        ),
        ChangeFlowRunState(
            state=StateType.CRASHED, name="Crashed",
            message=f"No sign of life for {_SILENCE.total_seconds():g} s: its process died.",
        ),
    )  # fmt: skip
    yield _automation(
        "nirflow: a cancelled run has ended",
        "Worker and run were gone before they could say so. It is not run again.",
        EventTrigger(
            posture=Posture.Proactive, match=_RUNS, after={"prefect.flow-run.Cancelling"}, expect=_ENDS,
            for_each={"prefect.resource.id"}, threshold=1, within=_CANCELLING,
        ),
        ChangeFlowRunState(
            state=StateType.CANCELLED, name="Cancelled", message="Its process did not tell of its end."
        ),
    )  # fmt: skip
    yield _automation(
        "nirflow: a crashed run runs once more",
        "What was finished is in the store and is taken from there. A second crash is left to people.",
        EventTrigger(
            posture=Posture.Reactive, match=_FIRST, match_related=_DEPLOYED,
            expect={"prefect.flow-run.Crashed", "prefect.flow-run.Lost"},
            for_each={"prefect.resource.id"}, threshold=1,
        ),
        ChangeFlowRunState(
            state=StateType.SCHEDULED, name="AwaitingRetry", message="Once more.", force=True
        ),
    )  # fmt: skip
    yield _automation(
        "nirflow: a run that never began is lost",
        "The worker that took it is gone. It runs again as one that crashed.",
        EventTrigger(
            posture=Posture.Proactive, match=_RUNS, match_related=_DEPLOYED,
            after=_HANDED_OUT, expect={"prefect.flow-run.*"},
            for_each={"prefect.resource.id"}, threshold=1, within=_PENDING,
        ),
        ChangeFlowRunState(
            state=StateType.CRASHED, name="Lost", message="The worker that took it never began."
        ),
    )  # fmt: skip
    if notification is None:
        return
    if "failure" in settings.notify.on:
        yield _automation(
            "nirflow: tell of a failed run",
            "",
            EventTrigger(
                posture=Posture.Reactive, match=_RUNS, match_related=_DEPLOYED,
                expect=_FAILURES, for_each={"prefect.resource.id"}, threshold=1,
            ),
            SendNotification(
                block_document_id=notification,
                subject="nirflow: {{ flow_run.name }}: {{ flow_run.state.name|lower }}",
                body=f"{{{{ flow_run.state.name }}}}: {_MESSAGE}",
            ),
        )  # fmt: skip
    if "night" in settings.notify.on:
        told = set() if "failure" in settings.notify.on else _FAILURES
        yield _automation(
            "nirflow: tell of a night's end",
            "",
            EventTrigger(
                posture=Posture.Reactive, match=_RUNS,
                match_related=ResourceSpecification.model_validate(
                    {"prefect.resource.name": "nightly", "prefect.resource.role": "deployment"}
                ),
                expect={"prefect.flow-run.Completed", *told}, for_each={"prefect.resource.id"}, threshold=1,
            ),
            SendNotification(
                block_document_id=notification, subject="nirflow: {{ flow_run.name }}: {{ flow_run.state.name|lower }}",
                body=_MESSAGE,
            ),
        )  # fmt: skip


#: What the names of the automations begin with: those that the settings do not ask for any more are deleted.
_OURS: Final = "nirflow: "


def make_automations(client: SyncPrefectClient, settings: Settings) -> None:
    """Make the automations, or bring them up to date; delete those of ours that are not wanted any more."""
    block = Notification().save(BLOCK_NAME, overwrite=True) if settings.notify.wanted else None
    wanted = {one.name: one for one in automations(settings, str(block) if block is not None else None)}
    there = {one.name: one for one in client.read_automations() if one.name.startswith(_OURS)}
    for name, old in there.items():
        if name not in wanted:
            client.delete_automation(old.id)
    for name, one in wanted.items():
        if name not in there:
            client.create_automation(one)
        elif one.model_dump() != AutomationCore.model_validate(there[name].model_dump()).model_dump():
            client.update_automation(there[name].id, one)


def _automation(name: str, description: str, trigger: EventTrigger, action: ActionTypes) -> AutomationCore:
    return AutomationCore(name=name, description=description, trigger=trigger, actions=[action])
