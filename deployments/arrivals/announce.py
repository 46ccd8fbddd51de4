"""The choice of the frames that are new, and the events that announce them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pydantic import ValidationError

from calib_store.model.records import Frame, FrameRecord
from deployments.arrivals.journal import Announcement
from deployments.arrivals.selection import frames_of_sequence
from deployments.prefect_api.events import ARRIVED, COMPLETE, SEQUENCE, Event, labels_of
from deployments.prefect_api.urgency import Urgency, urgency
from deployments.settings.watch_settings import WatchSettings
from imaging.frames.doubles import doubles
from imaging.frames.facts import FrameFacts
from imaging.frames.sequences import Sequence as Exposures

if TYPE_CHECKING:
    from calib_store.store import Store

log = logging.getLogger(__name__)


def announcements(
    store: Store,
    usable: Sequence[FrameRecord],
    before: Mapping[str, str | None],
    settings: WatchSettings,
    now: datetime,
) -> list[Announcement]:
    """Return the events of the frames that are new, in the order of their exposures.

    Parameters
    ----------
    store
        The known frames; the new ones are not recorded there yet.
    usable
        Frames found usable.
    before
        By path: sha256 that the store had for it when the watcher first saw the file.
    settings
        Expected numbers of frames, and the age of backlog.
    now
        The current time, UTC.
    """
    new = [(one.facts, one) for one in _new_frames(store, usable, before) if one.facts is not None]
    fresh = {record.sha256 for _, record in new}
    members: dict[str, dict[str, FrameFacts]] = {}
    announced: list[Announcement] = []
    for facts, record in sorted(new, key=lambda one: (one[0].started, one[0].name)):
        sequence = Exposures.of(facts)
        if sequence is None:
            continue
        expected = settings.expected.get(sequence.kind)
        if expected is not None:
            if sequence.name not in members:
                known = _members(store, sequence)
                members[sequence.name] = {sha: known[sha] for sha in known if sha not in fresh}
            members[sequence.name][record.sha256] = facts
        complete = expected is not None and _exposures(members[sequence.name]) == expected
        event = Event(
            name=COMPLETE if complete else ARRIVED,
            resource=f"{SEQUENCE}{sequence.name}",
            labels=labels_of(sequence, _urgency(facts, settings, now)),
            payload={
                "frame": facts.name,
                "sequence": sequence.name,
                "night": str(sequence.night),
                "kind": sequence.kind,
                "filter": sequence.filter,
                "arrived": now.isoformat(timespec="seconds"),
            },
        )
        announced.append(Announcement(sha256=record.sha256, event=event))
    return announced


def _new_frames(
    store: Store, usable: Sequence[FrameRecord], before: Mapping[str, str | None]
) -> list[FrameRecord]:
    """Return the frames that the store does not have as usable, each once.

    A frame that another process recorded under the same path since the watcher first saw the file is new too.
    """
    known = _known(store, {record.sha256 for record in usable})
    files = store.frames.known_files([record.path for record in usable])
    new: dict[str, FrameRecord] = {}
    for record in sorted(usable, key=lambda one: str(one.path)):
        frame, file = known.get(record.sha256), files.get(record.path)
        if frame is not None and frame.quarantine is None and frame.facts is not None:
            here = file is not None and file.sha256 == record.sha256
            if len(frame.paths) > here or before[str(record.path)] == record.sha256:
                continue
        new.setdefault(record.sha256, record)
    return list(new.values())


def _known(store: Store, sha256s: set[str]) -> Mapping[str, Frame]:
    try:
        return store.frames.with_sha256s(sha256s)
    except ValidationError:
        log.warning("The store's facts are from another version of nirflow; all frames are announced.")
        return {}


def _exposures(frames: Mapping[str, FrameFacts]) -> int:
    """Return the number of exposures of the frames: one may have arrived in several files."""
    return len(frames) - len(doubles(frames))


def _members(store: Store, sequence: Exposures) -> dict[str, FrameFacts]:
    """Return the facts, by sha256, of the usable frames of a sequence in the store."""
    try:
        frames = frames_of_sequence(store, sequence.name)
    except ValidationError:
        log.warning(
            "The store's facts are from another version of nirflow; %s is not counted.", sequence.name
        )
        return {}
    return {
        frame.sha256: frame.facts
        for frame in frames
        if frame.facts is not None and frame.quarantine is None and frame.rejected is None
    }


def _urgency(facts: FrameFacts, settings: WatchSettings, now: datetime) -> Urgency:
    young = facts.ended >= now - timedelta(hours=settings.backlog_after)
    return "tonight" if young else urgency(facts.night, facts.instrument, now)
