"""The folders that an earlier ``nirflow up --watch`` named: they are watched again after ``down`` or a restart.

They are kept in the data folder. Folders that the settings name (``watch.folders``) take their place.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from calib_store.private import private_folder
from deployments.settings.all_settings import Settings
from imaging.io.atomic import write_complete

logger = logging.getLogger(__name__)

_NAME: Final = "watched.json"


class _Remembered(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    folders: tuple[Path, ...] = ()


def file_of(settings: Settings) -> Path:
    """Return the file of the remembered folders."""
    return settings.data_dir.expanduser().resolve() / "service" / _NAME


def remember(settings: Settings, folders: tuple[Path, ...]) -> None:
    """Keep folders for the next ``nirflow up``, in place of those kept before."""
    file = file_of(settings)
    private_folder(file.parent)
    write_complete(file, [_Remembered(folders=folders).model_dump_json(indent=1).encode()])


def forget(settings: Settings) -> None:
    """Forget the folders kept before."""
    file_of(settings).unlink(missing_ok=True)


def with_remembered(settings: Settings) -> Settings:
    """Return the settings with the remembered folders, unless they name folders to watch themselves."""
    if settings.watch.folders:
        return settings
    file = file_of(settings)
    try:
        folders = _Remembered.model_validate_json(file.read_bytes()).folders
    except FileNotFoundError:
        return settings
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is damaged"
        logger.warning(
            "The folders to watch cannot be read from %s (%s). Name them again: nirflow up --watch DIR",
            file,
            why,
        )
        return settings
    return settings.model_copy(update={"watch": settings.watch.model_copy(update={"folders": folders})})
