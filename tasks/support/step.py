"""The frame of every step: wait for a slot, report start and end, measure the time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from tasks.support.workspace import Workspace, compute_slot

logger = logging.getLogger(__name__)

State = Literal["started", "built", "reused", "failed", "part"]


@dataclass(frozen=True)
class StepEvent:
    """An event of a step; the command line shows progress from these."""

    step: str
    label: str
    state: State
    seconds: float = 0.0


Listener = Callable[[StepEvent], None]
_listeners: list[Listener] = []
_listeners_lock = threading.Lock()


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call ``listener`` with every event of this process inside the block."""
    with _listeners_lock:
        _listeners.append(listener)
    try:
        yield
    finally:
        with _listeners_lock:
            _listeners.remove(listener)


def report_event(event: StepEvent) -> None:
    """Send an event to the listeners."""
    with _listeners_lock:
        listeners = list(_listeners)
    for listener in listeners:
        listener(event)


@dataclass
class Step:
    """A running step. Its body sets ``reused`` if it found an existing result."""

    name: str
    label: str
    reused: bool = False
    seconds: float = 0.0


@contextmanager
def step(name: str, label: str, workspace: Workspace) -> Iterator[Step]:
    """Run the block as step ``name`` on ``label`` in one of the workspace's slots."""
    with compute_slot(workspace):
        current = Step(name, label)
        report_event(StepEvent(name, label, "started"))
        begin = time.perf_counter()
        try:
            yield current
        except BaseException as error:
            report_event(StepEvent(name, label, "failed", time.perf_counter() - begin))
            logger.error("%s: %s failed: %s", name, label, error)
            raise
        current.seconds = time.perf_counter() - begin
        state: State = "reused" if current.reused else "built"
        report_event(StepEvent(name, label, state, current.seconds))
        logger.info("%s: %s, %s in %.2f s", name, label, state, current.seconds)


@contextmanager
def timed(name: str, label: str) -> Iterator[None]:
    """Measure the time of a part of a step that is of interest on its own: writing, a preview."""
    begin = time.perf_counter()
    yield
    report_event(StepEvent(name, label, "part", time.perf_counter() - begin))
