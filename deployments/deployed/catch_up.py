"""Recording of frames in the watched folders that are not in the store, as no watcher was running.

For flows that run after the night. While frames arrive, they are left to the watcher, as one that is still being
written must wait.
"""

from __future__ import annotations

import logging
from pathlib import Path

from deployments.arrivals.folders import Scanner
from deployments.deployed.common import options_of, store_of, workspace_of
from deployments.settings.all_settings import Settings
from tasks.survey import survey_frames

logger = logging.getLogger(__name__)


def record_new_files(settings: Settings) -> int:
    """Survey files of the watched folders that are not in the store, and return their number."""
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
    return len(new)
