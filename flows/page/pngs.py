"""PNGs that are there already: whether they are whole, and what is noted in them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def notes_of(path: Path) -> dict[str, str] | None:
    """The texts in a PNG by keyword; None where it is missing, damaged, or no PNG."""
    if not path.is_file():
        return None
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            picture.load()
            return {str(key): value for key, value in picture.info.items() if isinstance(value, str)}
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None  # what Pillow raises at bytes that are no picture
