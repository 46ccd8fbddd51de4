"""Thumbnails of raw frames: made once, kept beside the pages, with the frame's level noted in each."""

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
from flows.page.pngs import notes_of
from imaging.errors import NirflowError
from imaging.io.raw_file import UNFORESEEN, open_raw
from imaging.pixels.bands import thread_count
from imaging.products.preview import write_thumbnail

#: Keyword of the note in the PNG: median of the raw pixels, ADU.
_LEVEL: Final = "nirflow level ADU"
#: Every so many rows and columns take part in the median.
_STEP: Final = 4


@dataclass(frozen=True)
class Thumbnail:
    """A frame's picture.

    Attributes
    ----------
    path
        The PNG; None where there is none.
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
    """Make the thumbnails that are not there yet.

    A frame whose file is gone, or is another one by now, has none, and its thumbnail says so. A failure is
    tried again the next time.

    Parameters
    ----------
    store
        Knows what the frames' files were when they were last seen.
    frames
        The frames.
    folder
        Where the thumbnails are kept.
    threads
        Frames looked at together; as many as cores without.

    Returns
    -------
    dict
        Sha256 of each frame to its thumbnail.
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
        return Thumbnail(reason="its file is another one by now" if there else "its file has moved away")
    try:
        with open_raw(sources[0], name=frame.name, shape=None, sha256=frame.sha256) as raw:
            pixels = raw.rows()
        level = float(np.median(pixels[::_STEP, ::_STEP]))
        write_thumbnail(path, pixels, notes={_LEVEL: f"{level:.8g}"})
    except NirflowError as error:
        return Thumbnail(reason=error.message)
    except (OSError, *UNFORESEEN) as error:
        return Thumbnail(reason=f"the file is invalid ({type(error).__name__}: {error})")
    return Thumbnail(path, level)


def _is(path: Path, frame: NightFrame, known: Mapping[Path, KnownFile]) -> bool:
    """Whether the file at ``path`` is still the one that was seen as this frame."""
    then = known.get(path)
    try:
        now = path.stat()
    except OSError:
        return False
    return then is not None and (now.st_size, now.st_mtime_ns, frame.sha256) == tuple(then)


def _level(text: str) -> float | None:
    try:
        level = float(text)
    except ValueError:
        return None
    return level if np.isfinite(level) else None
