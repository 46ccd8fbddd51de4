"""Existing PNGs: whether they are intact, and the texts recorded in them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def notes_of(path: Path) -> dict[str, str] | None:
    """Return the texts in a PNG by keyword; None if it is missing, damaged, or not a PNG."""
    if not path.is_file():
        return None
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            picture.load()
            return {str(key): value for key, value in picture.info.items() if isinstance(value, str)}
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None  # Pillow's errors for bytes that are not a picture
