"""Artifacts in the Prefect UI: short tables and pictures of the steps, under keys that stay the same.

A key consists of the kind and the configuration, without the night: an artifact's history covers all nights.

The UI reads descriptions and cells as markdown. All artifacts are made here, so that texts from headers and
file names are shown literally.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from prefect import runtime
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from calib_store.model.records import Match
from imaging.figures import shown
from imaging.printable import printable
from imaging.product_figures import figures_of
from imaging.products.captions import caption_of
from imaging.registration.entries import Alignment
from tasks.support.best_effort import best_effort
from tasks.support.references import ProductRef

#: Longest side of a picture in the UI, pixels: the server keeps it in its database.
_PICTURE: Final = 400
#: A night at the end of a label.
_NIGHT: Final = re.compile(r"\s*\d{4}-\d{2}-\d{2}$")
_LONGEST_KEY: Final = 100
#: Characters that are special in markdown, and places where it turns an address into a link. An underscore
#: inside a name is not special.
_MARKUP: Final = re.compile(
    r"[\\`*{}\[\]<>#|~!&@]|(?<![^\W_])_|_(?![^\W_])|^[-+=]|:(?=//)|(?<=www)\.", re.IGNORECASE
)


@best_effort("The summary of a product in the Prefect UI")
def publish_product(product: ProductRef, pixel_scale: float | None = None) -> None:
    """Show a product: its inputs, its calibrations and its quality."""
    if not runtime.task_run.id:
        return
    publish_markdown(
        key_of(product.kind, product.label),
        product_summary(product, pixel_scale),
        f"{product.label}: {product.name}",
    )


def product_summary(product: ProductRef, pixel_scale: float | None = None) -> str:
    """Return a product as markdown: its origin, its warnings, a table of its figures, its preview."""
    lines = [f"# {plain(product.label)}", f"{plain(product.name)} from {len(product.inputs)} frames"]
    if product.output is not None:
        lines.append(f"file: {plain(str(product.output))}")
    if product.calibrations:
        lines.append(f"made with {plain(', '.join(product.calibrations))}")
    lines += [f"**warning:** {plain(text)}" for text in product.warnings]
    lines += [f"left out: {plain(one.name)}: {plain(one.reason)}" for one in product.left_out]
    figures = shown(figures_of(product.kind), product.metrics, details=True, pixel_scale=pixel_scale)
    lines.append(markdown_table(("figure", "value"), [(one.label, one.quantity) for one in figures]))
    if product.preview is not None and (picture := _picture(product.preview)):
        lines.append(f"![preview]({picture})")
        lines += [plain(caption.text)] if (caption := caption_of(product.preview)) is not None else []
    return "\n\n".join(lines)


@best_effort("The table of the alignment in the Prefect UI")
def publish_alignment(label: str, alignment: Alignment) -> None:
    """Show where each frame of a group lies on the reference."""
    if not runtime.task_run.id:
        return
    rows = [
        {
            "frame": entry.name,
            "dx, px": round(entry.dx, 3),
            "dy, px": round(entry.dy, 3),
            "error, px": round(entry.uncertainty, 4) if entry.used else None,
            "stars": entry.n_matched,
            "found by": entry.found_by,
            "used": entry.used,
            "remark": entry.reason,
        }
        for entry in alignment.entries
    ]
    publish_table(key_of("alignment", label), rows, f"{label} on {alignment.reference}")


@best_effort("The table of calibrations in the Prefect UI")
def publish_choice(label: str, matches: Sequence[Match]) -> None:
    """Show which calibrations a group got, and why each other candidate was not taken."""
    if not runtime.task_run.id:
        return
    rows = [
        {
            "kind": match.kind,
            "product": candidate.product.name,
            "id": candidate.product.short_id,
            "status": candidate.product.status,
            "taken": candidate.taken,
            "why": candidate.reason,
        }
        for match in matches
        for candidate in match.candidates
    ]
    publish_table(key_of("calibrations", label), rows, f"Calibrations for {label}, and why")


def publish_table(key: str, rows: Sequence[Mapping[str, object]], description: str) -> None:
    """Create an artifact from a table; its cells and description are plain text, not markdown."""
    table = [
        {name: plain(cell) if isinstance(cell, str) else cell for name, cell in row.items()} for row in rows
    ]
    create_table_artifact(key=key, table=table, description=plain(description))


def publish_markdown(key: str, markdown: str, description: str) -> None:
    """Create an artifact from markdown, with foreign texts escaped by `plain`; the description is plain
    text.
    """
    create_markdown_artifact(key=key, markdown=markdown, description=plain(description))


def publish_page(key: str, url: str, page: Path, description: str) -> None:
    """Create an artifact that links to a page on this disk; the description is plain text."""
    create_link_artifact(url, plain(str(page)), key=key, description=plain(description))


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return plain texts as a table in markdown."""
    lines = [headings, ["---"] * len(headings), *([plain(str(cell)) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(text: str) -> str:
    """Return a text from a header or file name escaped so that markdown shows it literally, without links."""
    return _MARKUP.sub(r"\\\g<0>", printable(text))


def key_of(kind: str, label: str) -> str:
    """Return the key of an artifact: lower-case letters, digits and dashes, the same for every night."""
    text = _NIGHT.sub("", label)
    text = text if text.startswith(kind) else f"{kind} {text}"
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_LONGEST_KEY].rstrip("-")


def _picture(path: Path) -> str | None:
    """Return a reduced PNG as a data URL; None if it cannot be read."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.thumbnail((_PICTURE, _PICTURE))
            held = io.BytesIO()
            image.save(held, "PNG", optimize=True)
    except (OSError, UnidentifiedImageError):
        return None
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"
