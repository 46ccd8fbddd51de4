"""Automations in the Prefect server: dead runs are marked and restarted once, and users are notified."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from deployments.judging.announcer import CROSSED, LIMIT
from deployments.prefect_api.names import WAITING
from deployments.prefect_api.space_wait import ATTEMPTS, WAITED_FOR_SPACE
from deployments.prefect_server.notify import BLOCK_NAME, Notification
from deployments.settings.all_settings import Settings
from tasks.prefect_internals.heartbeats import INTERVAL

#: A run without a heartbeat for this long is dead: three heartbeats are missing.
_SILENCE: Final = timedelta(seconds=3 * INTERVAL)
#: A run that a worker took but did not begin within this time was lost with the worker.
_PENDING: Final = timedelta(seconds=120)

#: How long a cancelled run may take to end.
_CANCELLING: Final = timedelta(seconds=60)

_ENDS: Final = frozenset(
    f"prefect.flow-run.{state}"
    for state in (
        "Completed",
        WAITING,
        "Incomplete",
        "Failed",
        "Cancelled",
        "Crashed",
        "Lost",
        "AwaitingRetry",
    )
)
_HANDED_OUT: Final = frozenset(
    f"prefect.flow-run.{state}" for state in ("Pending", "Submitting", "InfrastructurePending")
)
#: Final message and page of a run. Lines after the first are indented, so none can imitate ours.
_MESSAGE: Final = "{{ (flow_run.state.message or '')|indent }}\n{{ flow_run|ui_url }}"
#: Final states that are notified as failures.
_FAILURES: Final = frozenset(f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "Incomplete"))
_HEARTBEAT: Final = "prefect.flow-run.heartbeat"
_RUNS: Final = ResourceSpecification.model_validate({"prefect.resource.id": "prefect.flow-run.*"})
#: The first attempt of a run.
_FIRST: Final = ResourceSpecification.model_validate(
    {"prefect.resource.id": "prefect.flow-run.*", "prefect.run-count": ["0", "1"]}
)
#: Further attempts of a run whose first ones met a full disk.
_LATER: Final = ResourceSpecification.model_validate(
    {
        "prefect.resource.id": "prefect.flow-run.*",
        "prefect.run-count": [str(count) for count in range(2, ATTEMPTS + 2)],
    }
)
_AFTER_FULL_DISK: Final = ResourceSpecification.model_validate(
    {"prefect.resource.id": f"prefect.tag.{WAITED_FOR_SPACE}", "prefect.resource.role": "tag"}
)
_DEPLOYED: Final = ResourceSpecification.model_validate(
    {"prefect.resource.id": "prefect.deployment.*", "prefect.resource.role": "deployment"}
)


def automations(settings: Settings, notification: str | None) -> Iterator[AutomationCore]:
    """Yield the automations for these settings.

    The server may see the events of a run out of order, or one of them minutes late. So a conclusion from a missing
    event is never forced: the server refuses to mark a run as crashed that has ended or is being cancelled.

    Parameters
    ----------
    settings
        The recipients and events of notifications.
    notification
        Id of the block that sends notifications; None for no notifications.
    """
    yield _automation(
        "nirflow: a silent run is dead",
        "A run whose process died without reporting it is marked as crashed.",
        EventTrigger(
            posture=Posture.Proactive, match=_RUNS, after={_HEARTBEAT}, expect={_HEARTBEAT, *_ENDS},
            for_each={"prefect.resource.id"}, threshold=1, within=_SILENCE,
        ),
        ChangeFlowRunState(
            state=StateType.CRASHED, name="Crashed",
            message=f"No heartbeat for {_SILENCE.total_seconds():g} s: its process died.",
        ),
    )  # fmt: skip
    yield _automation(
        "nirflow: a cancelled run has ended",
        "Worker and run ended before they could report it. The run is not restarted.",
        EventTrigger(
            posture=Posture.Proactive, match=_RUNS, after={"prefect.flow-run.Cancelling"}, expect=_ENDS,
            for_each={"prefect.resource.id"}, threshold=1, within=_CANCELLING,
        ),
        ChangeFlowRunState(
            state=StateType.CANCELLED, name="Cancelled", message="Its process did not report its end."
        ),
    )  # fmt: skip
    for name, description, match, related in (
        ("a crashed run is restarted once",
         "Finished products are taken from the store. After a second crash, a user must decide.", _FIRST, _DEPLOYED),
        ("a run that waited for disk space is restarted after a crash",
         f"At most until its attempt {ATTEMPTS + 2}: those that met a full disk count too.", _LATER, _AFTER_FULL_DISK),
    ):  # fmt: skip
        yield _automation(
            f"nirflow: {name}",
            description,
            EventTrigger(
                posture=Posture.Reactive, match=match, match_related=related,
                expect={"prefect.flow-run.Crashed", "prefect.flow-run.Lost"},
                for_each={"prefect.resource.id"}, threshold=1,
            ),
            ChangeFlowRunState(
                state=StateType.SCHEDULED, name="AwaitingRetry", message="Restarted after a crash.", force=True
            ),
        )  # fmt: skip
    yield _automation(
        "nirflow: a run that never began is lost",
        "The worker that took it has ended. The run is restarted like a crashed one.",
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
            "nirflow: notify of a failed run",
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
        failures = set() if "failure" in settings.notify.on else _FAILURES
        yield _automation(
            "nirflow: notify of a night's end",
            "",
            EventTrigger(
                posture=Posture.Reactive, match=_RUNS,
                match_related=ResourceSpecification.model_validate(
                    {"prefect.resource.name": "nightly", "prefect.resource.role": "deployment"}
                ),
                expect={"prefect.flow-run.Completed", f"prefect.flow-run.{WAITING}", *failures},
                for_each={"prefect.resource.id"}, threshold=1,
            ),
            SendNotification(
                block_document_id=notification, subject="nirflow: {{ flow_run.name }}: {{ flow_run.state.name|lower }}",
                body=_MESSAGE,
            ),
        )  # fmt: skip

    if "limit" in settings.notify.on:
        yield _automation(
            "nirflow: notify of a crossed limit",
            "Figures of frames are beyond a limit in the settings. Once, and again after they were within it.",
            EventTrigger(
                posture=Posture.Reactive,
                match=ResourceSpecification.model_validate({"prefect.resource.id": f"{LIMIT}*"}),
                expect={CROSSED}, for_each={"prefect.resource.id"}, threshold=1,
            ),
            SendNotification(
                block_document_id=notification,
                subject="nirflow: {{ event.resource.name }} crossed",
                body="{{ (event.payload.text or '')|indent }}",
            ),
        )  # fmt: skip


#: Prefix of our automations' names: those that the settings no longer need are deleted.
_OURS: Final = "nirflow: "


def make_automations(client: SyncPrefectClient, settings: Settings) -> None:
    """Create or update the automations; delete those of ours that are no longer needed."""
    block = Notification().save(BLOCK_NAME, overwrite=True) if settings.notify.wanted else None
    wanted = {one.name: one for one in automations(settings, str(block) if block is not None else None)}
    existing = {one.name: one for one in client.read_automations() if one.name.startswith(_OURS)}
    for name, old in existing.items():
        if name not in wanted:
            client.delete_automation(old.id)
    for name, one in wanted.items():
        if name not in existing:
            client.create_automation(one)
        elif one.model_dump() != AutomationCore.model_validate(existing[name].model_dump()).model_dump():
            client.update_automation(existing[name].id, one)


def _automation(name: str, description: str, trigger: EventTrigger, action: ActionTypes) -> AutomationCore:
    return AutomationCore(name=name, description=description, trigger=trigger, actions=[action])
