"""The notices that are not delivered yet, one file each in ``notices/`` of the data folder.

A notice is written before it is sent. What could not be delivered is sent again after growing pauses, for a week: by
the Prefect server, and by the supervisor, which also works while the server does not. A lock lets one of them send at
a time. If a process ends after it sent a notice and before it noted that, the notice is sent twice.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calib_store.private import private_folder, write_private
from deployments.notices.sending import Way, send, ways
from deployments.settings.all_settings import NotifySettings, Settings
from imaging.errors import NirflowError
from imaging.io.atomic import take_lock

log = logging.getLogger(__name__)

#: Pause before a notice is sent again: the first, doubled up to the last.
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)
#: Age at which a notice that cannot be delivered is given up.
_GIVEN_UP: Final = timedelta(days=7)
#: Time between two looks into the folder, s.
_TURN: Final = 30.0


class Notice(BaseModel):
    """A notice. Times are UTC."""

    model_config = ConfigDict(frozen=True)

    subject: str
    body: str
    made: datetime
    left: tuple[Way, ...] = Field(description="ways on which it has to be sent")
    tries: int = 0
    tried: datetime | None = None
    problem: str = Field(default="", description="why it could not be delivered")

    @property
    def due(self) -> datetime:
        """When it is to be sent."""
        pause = (
            min(_FIRST_PAUSE * 2 ** min(self.tries - 1, 10), _LONGEST_PAUSE) if self.tries else timedelta()
        )
        return (self.tried or self.made) + pause


def keep(settings: Settings, subject: str, body: str) -> Path | None:
    """Keep a notice for `deliver`; return its file, or None if the settings name no recipient.

    Raises
    ------
    NirflowError
        If it cannot be written.
    """
    left = ways(settings.notify)
    if not left:
        return None
    folder = _folder(settings)
    private_folder(folder)
    path = folder / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json"
    write_private(
        path, Notice(subject=subject, body=body, made=datetime.now(UTC), left=left).model_dump_json()
    )
    return path


def post(settings: Settings, subject: str, body: str) -> None:
    """Keep a notice and send it; what cannot be delivered now is logged, and sent again later.

    Raises
    ------
    NirflowError
        If it cannot be written.
    """
    if keep(settings, subject, body) is not None:
        deliver(settings)


def waiting(settings: Settings) -> tuple[Notice, ...]:
    """Return the notices that are not delivered, oldest first."""
    found = (_read(path) for path in sorted(_folder(settings).glob("*.json")))
    return tuple(notice for notice in found if notice is not None)


def deliver(settings: Settings, now: datetime | None = None) -> None:
    """Send the notices that are due, oldest first, unless another process is doing so.

    Parameters
    ----------
    settings
        The recipients.
    now
        The time, UTC; default: the machine's clock.
    """
    folder = _folder(settings)
    now = now or datetime.now(UTC)
    paths = sorted(folder.glob("*.json"))
    if not any((notice := _read(path)) is not None and notice.due <= now for path in paths):
        return
    held = take_lock(folder / "lock")
    if held is None:
        return
    with held:
        for path in paths:
            notice = _read(path)  # again: another process may have sent it meanwhile
            if notice is not None and notice.due <= now:
                _deliver(path, notice, settings.notify, now)


def keep_delivering(settings: Settings, stop: threading.Event) -> None:
    """Send notices that are due until ``stop`` is set; for a thread."""
    while not stop.wait(_TURN):
        try:
            deliver(settings)
        except (NirflowError, OSError) as error:  # such as a full disk
            log.error("Notices could not be sent, trying again: %s", error)


def _deliver(path: Path, notice: Notice, settings: NotifySettings, now: datetime) -> None:
    """Send a notice on the ways that are left, and note what remains."""
    named = ways(settings)
    problems = {way: send(settings, notice.subject, notice.body, way) for way in notice.left if way in named}
    left = tuple(way for way, problem in problems.items() if problem)
    problem = "; ".join(problems[way] for way in left)
    if not left:
        path.unlink(missing_ok=True)
        return
    if now - notice.made > _GIVEN_UP:
        log.error("The notice “%s” is given up, it could not be delivered for %s", notice.subject, problem)
        path.unlink(missing_ok=True)
        return
    log.warning("The notice “%s” is kept and sent again; it was not delivered: %s", notice.subject, problem)
    again = notice.model_copy(
        update={"left": left, "tries": notice.tries + 1, "tried": now, "problem": problem}
    )
    write_private(path, again.model_dump_json())


def _read(path: Path) -> Notice | None:
    """Return a notice; None if it has been delivered meanwhile, or cannot be read."""
    try:
        return Notice.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        log.error("%s is damaged: its notice is not sent. Delete the file.", path)
        return None


def _folder(settings: Settings) -> Path:
    return settings.data_dir.expanduser().resolve() / "notices"
