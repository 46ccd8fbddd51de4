"""The lines of the status, one for each thing: for ``nirflow status`` and its page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import PurePath
from typing import Final, Literal, NamedTuple

from deployments.status.due import KnownRun, SequenceState
from deployments.status.overview import Overview
from deployments.status.supervisor_state import ServiceState
from imaging.listed import counted, gathered, listed
from imaging.machine import size_text

#: Lines about one topic before the rest is only counted.
_MOST: Final = 10
#: Time that it takes to create a run after the quiet time, s.
_SOON: Final = 60.0
#: Restarts of a part within an hour from which they are reported.
OFTEN: Final = 3
#: States of runs for users, by the server's names; any other is shown as the server names it.
_STATES: Final = {
    "Running": "", "Scheduled": "", "Late": "", "Pending": "starting", "Submitting": "starting",
    "InfrastructurePending": "starting", "Cancelling": "being cancelled", "Paused": "paused",
    "Suspended": "suspended", "Retrying": "retrying", "AwaitingRetry": "waits for another attempt",
    "AwaitingConcurrencySlot": "waits for its turn",
}  # fmt: skip


class Line(NamedTuple):
    """A line about a topic; its tone is bad if a user has to act, busy if something goes on or waits."""

    topic: str
    text: str
    tone: Literal["", "busy", "bad"] = ""


def lines(found: Overview, where: str) -> tuple[Line, ...]:
    """Return what arrives, waits and runs as lines of text.

    Parameters
    ----------
    found
        What arrives, waits and runs.
    where
        The data folder, for the free disk.
    """
    return tuple(_lines(found, where))


def restarts(state: ServiceState) -> tuple[Line, ...]:
    """Return a line for each part that restarts often."""
    return tuple(
        Line("Restarts", f"the {part.name} was restarted {part.recent} times within the last hour; "
             f"it {part.last_end}; see {part.log}", "bad")
        for part in state.parts if part.recent >= OFTEN
    )  # fmt: skip


def _lines(found: Overview, where: str) -> Iterator[Line]:
    yield from _runs(found.runs)
    yield from _sequences(found)
    yield from _arriving(found)
    yield from _quarantine(found)
    for notice in found.notices:
        if notice.problem:
            text = f"“{notice.subject}” of {_moment(notice.made)} is not delivered and is sent again: {notice.problem}"
            yield Line("Notifications", text, "bad")
    for what in found.switched_off or ():
        yield Line(
            "Switched off", f"{what}; it starts nothing until somebody switches it on in the UI", "bad"
        )
    if found.free is not None:
        yield Line("Free disk", f"{size_text(found.free)} in {where}")
    for unknown in found.unknown:
        yield Line("Not known", f"{unknown.what}. {unknown.why}", "bad")


def _runs(runs: Sequence[KnownRun] | None) -> Iterator[Line]:
    if runs is None:
        return
    if not runs:
        yield Line("Runs", "none is in progress or waits for its turn")
    for stage, topic in (("running", "Running"), ("queued", "Queued")):
        of_stage = [run for run in runs if run.stage == stage]
        yield from _cut(topic, (_run(run) for run in of_stage), len(of_stage))


def _run(run: KnownRun) -> str:
    state = _STATES.get(run.state, run.state)
    since = f", since {_moment(run.since)}" if run.since is not None else ""
    if run.space is not None:
        return f"{run.name} {run.space.text()}, since {_moment(run.space.since)}, after attempt {run.space.attempts}"
    return f"{run.name}{f' ({state})' if state else ''}{since}"


def _sequences(found: Overview) -> Iterator[Line]:
    states = found.sequences or ()
    stages = ("quiet", "due", "paused", "ended", "waiting")
    of_stage = {stage: [one for one in states if one.stage == stage] for stage in stages}
    queue = "no run was started" if found.runs is not None else "whether a run is queued for it is not known"
    quiet = (
        f"{one.label}, {_new(one)}: a run starts in {max(0.0, _seconds(one, found.at)):.0f} s "
        "unless another frame arrives"
        for one in of_stage["quiet"]
    )
    due = (
        f"{one.label}, {_new(one)}: its run starts in a moment"
        if _seconds(one, found.at) > -_SOON
        else f"{one.label}, {_new(one)} until {_moment(one.since)}: {queue} (nirflow why {one.sequence})"
        for one in of_stage["due"]
    )
    paused = (f"{one.label}: the deployment {one.run} is paused" for one in of_stage["paused"])
    ended = (
        f"{one.label}, {_new(one)} until {_moment(one.since)}: its run {one.run} left no report. It starts again when "
        "another frame arrives, or if you delete it in the UI"
        for one in of_stage["ended"]
    )
    waiting = (
        f"{one.label}, for a {' and a '.join(one.waits_for)} since {_moment(one.since)}, "
        f"until {one.until:%Y-%m-%d} (nirflow why {one.sequence})"
        + (f"; one is there, but {one.run} did not use it" if one.run else "")
        for one in of_stage["waiting"]
    )
    yield from _cut("Quiet time", quiet, len(of_stage["quiet"]))
    yield from _cut("Due", due, len(of_stage["due"]))
    yield from _cut("Paused", paused, len(of_stage["paused"]))
    yield from _cut("Ended", ended, len(of_stage["ended"]), "bad")
    yield from _cut("Waiting", waiting, len(of_stage["waiting"]))


def _arriving(found: Overview) -> Iterator[Line]:
    record = found.arriving
    if record is None:
        return
    if record.trouble:
        yield Line("Arriving", f"new frames are not recorded at present: {record.trouble}", "bad")
    if record.number:
        size = size_text(sum(one.size for one in record.files))
        names = listed(PurePath(one.path).name for one in record.files)
        yield Line("Arriving", f"{counted(record.number, 'file')} ({names}), {size} until now", "busy")
    stuck = [(PurePath(one.path).name, one) for one in record.files if one.reason]
    since = {name: one.since for name, one in stuck}
    texts = [
        f"{same.label}: {same.text}, unchanged since {_moment(min(since[name] for name in same.names))}"
        for same in gathered((name, one.reason.rstrip(".")) for name, one in stuck)
    ]
    yield from _cut("Incomplete", texts, len(texts))


def _quarantine(found: Overview) -> Iterator[Line]:
    if not found.quarantined:
        return
    alike = gathered((one.name, one.reason.rstrip(".")) for one in found.quarantine)
    for same in alike[:_MOST]:
        yield Line("Quarantine", f"{same.label}: {same.text}", "busy")
    named = sum(len(same.names) for same in alike[:_MOST])
    if found.quarantined > named:
        yield Line("Quarantine", f"and {found.quarantined - named} more", "busy")


def _cut(
    topic: str, texts: Iterable[str], number: int, tone: Literal["busy", "bad"] = "busy"
) -> Iterator[Line]:
    """Yield the first texts about a topic as lines, and how many more there are."""
    for _, text in zip(range(_MOST), texts, strict=False):
        yield Line(topic, text, tone)
    if number > _MOST:
        yield Line(topic, f"and {number - _MOST} more", tone)


def _new(one: SequenceState) -> str:
    return counted(one.frames or 0, "new frame")


def _seconds(one: SequenceState, now: datetime) -> float:
    """Return the time until the end of the quiet time, s; negative if it is over."""
    return (one.until - now).total_seconds() if one.until is not None else 0.0


def _moment(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UT" if moment is not None else "an unknown time"
