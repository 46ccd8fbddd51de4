"""Thumbnails of raw frames: made once, kept next to the pages, each with the frame's level recorded in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from calib_store.model.records import KnownFile
from calib_store.store import Store
from flows.page.model import NightFrame
from imaging.errors import NirflowError
from imaging.io.examine import last_change
from imaging.io.raw_file import UNFORESEEN, open_raw
from imaging.pixels.bands import thread_count
from imaging.products.captions import notes_of
from imaging.products.preview import write_thumbnail

#: Keyword in the PNG for the median of the raw pixels, ADU.
_LEVEL: Final = "nirflow level ADU"
#: Step in rows and columns of the pixels used for the median.
_STEP: Final = 4


@dataclass(frozen=True)
class Thumbnail:
    """A frame's picture.

    Attributes
    ----------
    path
        The PNG; None without a picture.
    level
        Median of the raw frame, ADU.
    reason
        Why there is no picture.
    """

    path: Path | None = None
    level: float | None = None
    reason: str = ""


def make_thumbnails(
    store: Store, frames: Sequence[NightFrame], folder: Path, *, threads: int | None = None
) -> dict[str, Thumbnail]:
    """Make the missing thumbnails.

    A frame whose file has been moved or replaced has no picture, and its thumbnail gives the reason. After a
    failure, the next call tries again.

    Parameters
    ----------
    store
        The store, which knows the state of the frames' files when they were last seen.
    frames
        The frames.
    folder
        Folder of the thumbnails.
    threads
        Frames processed in parallel; default: one per core.

    Returns
    -------
    dict
        Thumbnail of each frame by its sha256.
    """
    known = store.frames.known_files([path for frame in frames for path in frame.paths])
    with ThreadPoolExecutor(threads or thread_count(), thread_name_prefix="thumbnail") as pool:
        made = pool.map(lambda frame: _thumbnail(frame, known, folder), frames)
        return {frame.sha256: one for frame, one in zip(frames, made, strict=True)}


def _thumbnail(frame: NightFrame, known: Mapping[Path, KnownFile], folder: Path) -> Thumbnail:
    path = folder / f"{frame.sha256[:24]}.png"
    notes = notes_of(path)
    if notes is not None:
        return Thumbnail(path, _level(notes.get(_LEVEL, "")))
    sources = [source for source in frame.paths if _is(source, frame, known)]
    if not sources:
        there = any(source.is_file() for source in frame.paths)
        return Thumbnail(reason="its file has been replaced" if there else "its file has been moved")
    try:
        with open_raw(sources[0], name=frame.name, shape=None, sha256=frame.sha256) as raw:
            pixels = raw.rows()
        level = float(np.nanmedian(pixels[::_STEP, ::_STEP]))
        if pixels.dtype.kind == "f":
            pixels = np.where(np.isfinite(pixels), pixels, level)
        write_thumbnail(path, pixels, notes={_LEVEL: f"{level:.8g}"})
    except NirflowError as error:
        return Thumbnail(reason=error.message)
    except (OSError, *UNFORESEEN) as error:
        return Thumbnail(reason=f"the file is invalid ({type(error).__name__}: {error})")
    return Thumbnail(path, level)


def _is(path: Path, frame: NightFrame, known: Mapping[Path, KnownFile]) -> bool:
    """Return whether the file at ``path`` is still the one that was seen as this frame."""
    then = known.get(path)
    try:
        now = path.stat()
    except OSError:
        return False
    return then is not None and (now.st_size, last_change(now), frame.sha256) == tuple(then)


def _level(text: str) -> float | None:
    try:
        level = float(text)
    except ValueError:
        return None
    return level if np.isfinite(level) else None
