"""Events of sequences of exposures, sent by flows: by them the Prefect server starts the sequences' runs."""

from __future__ import annotations

import logging

from prefect import runtime
from prefect.settings import get_current_settings

from deployments.prefect_api.events import SEQUENCE, Event, EventSender, EventsError, labels_of
from deployments.prefect_api.urgency import urgency
from imaging.frames.sequences import Sequence as Exposures

logger = logging.getLogger(__name__)


def announce(event: str, sequence: Exposures) -> None:
    """Send an event of a sequence, by which its run may start.

    Prefect's own client sends events from a thread of its own and loses those that are under way when the process
    ends. This returns when the server has recorded the event. One that it does not record is reported in the log
    of the run; it does not fail the run, whose products are made.
    """
    one = Event(
        name=event,
        resource=SEQUENCE + sequence.name,
        labels=labels_of(sequence, urgency(sequence.night)),
        related=_causing_run(),
    )
    try:
        event_sender().deliver([one])
    except EventsError as error:
        logger.error(
            "The event %s of %s was not recorded, so no run of it starts: %s Start one by hand: deployment arrival, "
            "sequence %s.",
            event, sequence.label, error, sequence.name,
        )  # fmt: skip


def event_sender() -> EventSender:
    """The way to the events of the Prefect server that this process is a client of."""
    api = get_current_settings().api
    assert api.url is not None  # flows run against a server only
    return EventSender(api.url, api.auth_string)


def _causing_run() -> tuple[dict[str, str], ...]:
    """The flow run that sends an event, so that the Prefect UI shows what caused it."""
    run = runtime.flow_run.id
    if run is None:
        return ()
    return ({"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.role": "flow-run"},)
