"""Events of sequences of exposures, sent by flows, with which the Prefect server starts the sequences' runs."""

from __future__ import annotations

import logging

from prefect import runtime
from prefect.settings import get_current_settings

from deployments.prefect_api.events import SEQUENCE, Event, EventSender, EventsError, labels_of
from deployments.prefect_api.urgency import urgency
from imaging.frames.sequences import Sequence as Exposures

logger = logging.getLogger(__name__)


def announce(event: str, sequence: Exposures) -> None:
    """Send an event of a sequence, which may start its run.

    Prefect's own client sends events from a separate thread and loses unsent ones when the process ends. This function
    returns when the server has recorded the event. If that fails, it is reported in the log of the run, but does not
    fail the run, whose products are made.
    """
    one = Event(
        name=event,
        resource=SEQUENCE + sequence.name,
        labels=labels_of(sequence, urgency(sequence.night, sequence.instrument)),
        related=_causing_run(),
    )
    try:
        event_sender().deliver([one])
    except EventsError as error:
        logger.error(
            "The event %s of %s was not recorded, so its run will not start: %s Start it manually: deployment arrival, "
            "sequence %s.",
            event, sequence.label, error, sequence.name,
        )  # fmt: skip


def event_sender() -> EventSender:
    """Return a sender of events to the Prefect server that this process is a client of."""
    api = get_current_settings().api
    assert api.url is not None  # flows run only with a server
    return EventSender(api.url, api.auth_string)


def _causing_run() -> tuple[dict[str, str], ...]:
    """Return the current flow run as a related resource, so that the Prefect UI shows the cause of an event."""
    run = runtime.flow_run.id
    if run is None:
        return ()
    return ({"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.role": "flow-run"},)
