"""Heartbeats for a flow run in this process that do not delay its end.

Prefect's own heartbeat thread sleeps one second at a time and a synchronous flow waits for it: each run ends
up to 1.0 s late. Ours waits on an event and ends at once. It sends the same events, so the automation that
finds crashed runs by their missing heartbeats works as before.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.schemas.objects import FlowRun, State

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)

INTERVAL: Final = 30.0
"""Seconds between two heartbeats: the automation considers a run dead after three missing ones."""


@contextmanager
def prompt_heartbeats(flow: Flow[P, R], *, interval: float = INTERVAL) -> Iterator[Flow[P, R]]:
    """Provide a flow that ends without waiting for its heartbeat thread; call it inside the block.

    Parameters
    ----------
    flow
        The flow to run in this process.
    interval
        Seconds between two heartbeats.

    Yields
    ------
    Flow
        The same flow, with Prefect's heartbeats off and ours on.

    Examples
    --------
    >>> with prompt_heartbeats(reduce_night) as run:  # doctest: +SKIP
    ...     report = run(paths)
    """
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    ended = threading.Event()

    def heartbeat(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
        resource = {"prefect.resource.id": f"prefect.flow-run.{flow_run.id}"}
        resource["prefect.resource.name"] = flow_run.name
        related = [
            {
                "prefect.resource.id": f"prefect.flow.{flow_run.flow_id}",
                "prefect.resource.role": "flow",
                "prefect.resource.name": flow.name,
            }
        ]
        arguments = (resource, related, interval, ended)
        # The context carries the settings of this block, including the server's address.
        thread = threading.Thread(
            target=copy_context().run, args=(_beat, *arguments), name="heartbeat", daemon=True
        )
        thread.start()

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        try:
            yield flow.with_options(on_running=[*flow.on_running_hooks, heartbeat])
        finally:
            ended.set()


def _beat(
    resource: dict[str, str], related: list[dict[str, str]], interval: float, ended: threading.Event
) -> None:
    from prefect.events import emit_event

    while True:
        emit_event("prefect.flow-run.heartbeat", resource=resource, related=related)
        if ended.wait(interval):
            return
