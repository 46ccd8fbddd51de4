"""Recording of frames in the watched folders that are not in the store, as no watcher was running.

For flows that run after the night. While frames arrive, they are left to the watcher: a frame recorded before the
watcher first sees it gives no event, and one that is still being written must wait.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import date
from pathlib import Path

from deployments.arrivals.folders import Scanner
from deployments.deployed.common import options_of, store_of, workspace_of
from deployments.prefect_api.events import ARRIVED
from deployments.prefect_api.sequence_events import announce
from deployments.settings.all_settings import Settings
from imaging.frames.sequences import Sequence
from tasks.survey import survey_frames

logger = logging.getLogger(__name__)


def record_new_files(settings: Settings, nights: Collection[date] = ()) -> int:
    """Survey files of the watched folders that are not in the store, and announce sequences of other nights.

    Parameters
    ----------
    settings
        The watched folders.
    nights
        Nights that are reduced next: their frames need no event. For frames of others an event is sent, as by
        the watcher.

    Returns
    -------
    int
        Number of new files.
    """
    scanner = Scanner()
    folders = [folder.resolve() for folder in settings.watch.folders]
    files = {
        Path(path): now for folder in folders if folder.is_dir() for path, now in scanner.find(str(folder))
    }
    known = store_of(settings).frames.known_files(files)
    new = []
    for path, now in files.items():
        seen = known.get(path)
        if seen is None or (seen.size, seen.changed_ns) != (now.size, now.changed_ns):
            new.append(path)
    if new:
        check = options_of(settings).parameters.check
        survey = survey_frames(new, f"{len(new)} new files", check, workspace_of(settings))
        logger.info("%d new files, %d of them frames to reduce", len(new), len(survey.frames))
        found = {Sequence.of(frame.facts) for frame in survey.frames if frame.facts.night not in nights}
        for sequence in sorted(filter(None, found), key=lambda one: one.name):
            announce(ARRIVED, sequence)
    return len(new)
