"""Events about judged frames: a summary of each sequence, and limits that were crossed. Not one event for each frame.

They are sent by a thread, so that a Prefect server that does not answer delays no verdict.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from deployments.judging.crossings import Crossing, Limits
from deployments.prefect_api.events import Event, EventsError, EventsRefusedError
from imaging.io.atomic import write_complete
from imaging.quick_look.frame_figures import FrameFigures

log = logging.getLogger(__name__)

#: A limit set by the user was crossed by several frames in succession.
CROSSED: Final = "nirflow.limit.crossed"
#: The frames of a sequence were judged, and no further one came for a while.
JUDGED: Final = "nirflow.sequence.judged"
#: Prefixes of the ids of these events' resources.
LIMIT, SUMMARY = "nirflow.limit.", "nirflow.judged."
#: Figures in a summary.
_FIGURES: Final = (
    "seeing_at_zenith",
    "ellipticity",
    "sky",
    "sky_brightness",
    "transparency",
    "saturated",
    "pointing_error",
)
#: Frames with remarks that a summary lists, and events that wait at most.
_LISTED, _MOST_WAITING = 20, 1000
_EVENTS: Final = TypeAdapter(list[Event])
#: Pause before events are sent again, s: the first, doubled up to the last.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


@dataclass
class _Group:
    """The frames of a sequence since its last summary, and when the last one was judged."""

    frames: list[FrameFigures] = field(default_factory=list)
    last: float = 0.0


class Announcer:
    """Collects verdicts, and makes the events of them.

    Parameters
    ----------
    limits
        The limits of the user.
    quiet
        Time without a frame of a sequence after which its summary is due, s.
    send
        Takes an event without waiting.
    clock
        Monotonic clock, s.
    """

    def __init__(
        self,
        limits: Limits,
        quiet: float,
        send: Callable[[Event], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits, self._quiet, self._send, self._clock = limits, quiet, send, clock
        self._groups: dict[str, _Group] = {}

    def take(self, frame: FrameFigures) -> tuple[Crossing, ...]:
        """Take in a verdict, send the events of limits that it crossed, and return these."""
        if frame.group:
            group = self._groups.setdefault(frame.group, _Group())
            group.frames.append(frame)
            group.last = self._clock()
        crossed = self._limits.take(frame)
        for one in crossed:
            log.warning("%s", one.text)
            self._send(crossing_event(one))
        return crossed

    def summarise(self) -> None:
        """Send the summaries that are due."""
        now = self._clock()
        for name in [name for name, one in self._groups.items() if now - one.last >= self._quiet]:
            self._send(summary_event(self._groups.pop(name).frames))


def crossing_event(one: Crossing) -> Event:
    """Return the event of a limit that was crossed."""
    payload = {"text": one.text, "limit": one.limit, "values": list(one.values), "frames": list(one.frames)}
    return Event(
        name=CROSSED,
        resource=f"{LIMIT}{one.name}",
        labels={"prefect.resource.name": f"limit of {one.name}"},
        payload=payload,
    )


def summary_event(frames: Sequence[FrameFigures]) -> Event:
    """Return the event about the frames of a sequence: medians, numbers of verdicts, and frames with remarks."""
    last = frames[-1]
    medians: dict[str, Any] = {}
    for name in _FIGURES:
        values = [value for one in frames if (value := getattr(one.values, name)) is not None]
        medians |= {name: float(f"{median(values):.4g}")} if values else {}
    remarked = [f"{one.name}: {'; '.join(one.remarks)}" for one in frames if one.remarks]
    return Event(
        name=JUDGED,
        resource=f"{SUMMARY}{last.group}",
        labels={
            "prefect.resource.name": last.label,
            "nirflow.night": str(last.night),
            "nirflow.kind": last.kind,
        },
        payload={
            "sequence": last.group,
            "frames": len(frames),
            "verdicts": dict(Counter(one.verdict for one in frames)),
            "medians": medians,
            "remarks": remarked[:_LISTED],
            "uncalibrated": sum(bool(one.uncalibrated) for one in frames),
        },
    )


class EventQueue:
    """Events waiting to be sent by a thread, the oldest first; the oldest are dropped if too many wait.

    Parameters
    ----------
    send
        Sends events; raises `EventsError` if they were not recorded.
    file
        Where events that still wait at the end are kept for the next start.
    """

    def __init__(self, send: Callable[[Sequence[Event]], None], file: Path) -> None:
        self._send_now, self._file = send, file
        self._waiting: deque[Event] = deque(_kept(file), maxlen=_MOST_WAITING)
        self._new, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep_sending, name="verdicts", daemon=True)

    def start(self) -> None:
        """Start to send."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and keep what still waits for the next start.

        Raises
        ------
        NirflowError
            If it cannot be kept.
        """
        self._ended.set()
        self._new.set()
        self._thread.join()
        if self._waiting:
            write_complete(self._file, [_EVENTS.dump_json(list(self._waiting))])

    def put(self, event: Event) -> None:
        """Take an event."""
        self._waiting.append(event)
        self._new.set()

    def _keep_sending(self) -> None:
        pause, heard = _FIRST_PAUSE, True
        while not self._ended.is_set():
            self._new.clear()
            try:
                while self._waiting:
                    self._send_first()
                    pause, heard = _FIRST_PAUSE, True
            except EventsError as error:
                log.log(logging.WARNING if heard else logging.DEBUG, "%s Sending again.", error)
                heard = False
                self._ended.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            self._new.wait()

    def _send_first(self) -> None:
        event = self._waiting[0]
        try:
            self._send_now([event])
        except EventsRefusedError as error:
            log.error("%s The event is dropped.", error)
        if self._waiting and self._waiting[0] is event:
            self._waiting.popleft()


def _kept(file: Path) -> list[Event]:
    """Return the events of a file, and remove it: those that are not sent are written again at the end."""
    try:
        events = _EVENTS.validate_json(file.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValidationError) as error:
        log.warning("Events in %s cannot be read: %s", file, type(error).__name__)
        events = []
    file.unlink(missing_ok=True)
    return events
