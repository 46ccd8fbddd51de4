"""The files of the page of a night and of the index of nights, self-contained for a browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from calib_store.store import Store
from flows.page import view
from flows.page.assess import assess, past_of
from flows.page.charts import Chart
from flows.page.collect import collect_night
from flows.page.lists.mosaic_rows import mosaic_rows
from flows.page.lists.night_rows import night_rows
from flows.page.model import NightFrame, NightPage, NightProduct
from flows.page.night_charts import colours_of, night_charts
from flows.page.overlay import overlay_of
from flows.page.previews import Shown, show_product
from flows.page.registration import Registered, registrations
from flows.page.thumbnails import Thumbnail, make_thumbnails
from flows.page.trends import YEARS, collect_trends
from imaging.io.atomic import write_complete
from imaging.kinds import STACK
from imaging.listed import counted
from imaging.printable import printable
from imaging.quick_look.night_record import read_rows
from tasks.support.references import gathered_left_out

_PAGE: Final = "index.html"
_NIGHT: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class StackShown:
    """The frames of a stack: their charts, a table of the same values, or why they are missing."""

    charts: tuple[Chart, ...]
    rows: tuple[Registered, ...]
    reason: str


def write_night_page(store: Store, night: date, folder: Path) -> Path:
    """Write the page of a night with its pictures.

    Existing thumbnails and previews are reused, so that a page can be rewritten quickly. Products stay where
    the runs put them.

    Parameters
    ----------
    store
        The store.
    night
        Night, as the observatory names it.
    folder
        Folder of all nights' pages.

    Returns
    -------
    Path
        ``folder/2013-11-21/index.html``; its pictures are in ``folder/2013-11-21/previews`` and
        ``folder/frames/2013-11-21``.

    Raises
    ------
    NirflowError
        If the store knows nothing about the night, or the page cannot be written.
    """
    page = collect_night(store, night)
    own = folder / night.isoformat()
    thumbnails = make_thumbnails(store, page.frames, folder / "frames" / night.isoformat())
    shown = {p.id: show_product(store, p, own / "previews") for p in page.products}
    frames = (*page.frames, *page.others)
    stacks = {p.id: _stack(store, p, frames, thumbnails) for p in page.products if p.kind == STACK.name}
    past = past_of(store, night, page.products)
    qualities = assess(page.products, frames, past)
    charts = night_charts(
        qualities, {id_: one.rows for id_, one in stacks.items()}, past, set(_paged(folder))
    )
    overlays = {id_: overlay_of(store, shown_product, shown[id_].caption)
                for id_, shown_product in ((p.id, p) for p in page.products if p.id in stacks)}  # fmt: skip
    context = _context(page, thumbnails, shown, stacks)
    context |= {
        "qualities": qualities, "quality": view.quality_sentence(qualities), "charts": charts, "overlays": overlays,
        "colours": colours_of(qualities), "arriving": read_rows(own),
        "names": {one.product.id: one.label for one in qualities},
    }  # fmt: skip
    return _write(own / _PAGE, "night.html", own, folder, **context)


def write_index(store: Store, folder: Path) -> Path:
    """Write the index of nights: those with a run, and those with a page; below them the mosaics.

    Returns
    -------
    Path
        ``folder/index.html``.

    Raises
    ------
    NirflowError
        If it cannot be written.
    """
    rows = night_rows(store, folder, set(_paged(folder)))
    return _write(folder / _PAGE, "index.html", folder, folder, rows=rows, mosaics=mosaic_rows(store, folder))


def write_trends(store: Store, folder: Path) -> Path:
    """Write the page of trends: figures of calibrations and stacks over the last three years.

    Returns
    -------
    Path
        ``folder/trends.html``.

    Raises
    ------
    NirflowError
        If it cannot be written.
    """
    instruments = collect_trends(store, set(_paged(folder)))
    return _write(folder / "trends.html", "trends.html", folder, folder, instruments=instruments, years=YEARS)


def _stack(
    store: Store,
    product: NightProduct,
    frames: Sequence[NightFrame],
    thumbnails: Mapping[str, Thumbnail],
) -> StackShown:
    mine = {frame.name: frame for frame in frames if frame.sha256 in product.sources}
    rows, reason = registrations(store, product, mine)
    return StackShown(view.stack_charts(product, rows, mine, thumbnails), rows, reason)


def _context(
    page: NightPage,
    thumbnails: Mapping[str, Thumbnail],
    shown: Mapping[Any, Shown],
    stacks: Mapping[Any, StackShown],
) -> dict[str, Any]:
    """Return the variables of the template."""
    sentence, tone = view.verdict(page)
    return {
        "page": page, "sentence": sentence, "tone": tone, "thumbnails": thumbnails, "shown": shown,
        "stacks": stacks, "sections": view.sections(page.frames),
        "longest": max((seconds for _, seconds in page.steps), default=0.0),
    }  # fmt: skip


def _write(path: Path, template: str, own: Path, root: Path, **context: Any) -> Path:
    environment = Environment(
        loader=PackageLoader("flows.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    filters: dict[str, Callable[..., Any]] = {
        "link": lambda target: view.link(target, own, root),
        "range_of": view.range_of,
        "distance": view.distance,
        "choices_of": view.choices_of,
        "gathered": gathered_left_out,
    }
    environment.filters |= filters
    environment.globals |= {"counted": counted, "kinds": view.LABELS}
    text = environment.get_template(template).render(context)
    write_complete(path, [text.encode("utf-8", "replace")])
    return path


def _printable(value: object) -> object:
    """Make the texts of the page printable; drawings are markup and stay as they are."""
    return value if isinstance(value, Markup) else printable(str(value))


def _paged(folder: Path) -> list[date]:
    """Return the nights that have a page."""
    nights = []
    for page in folder.glob(f"*/{_PAGE}"):
        if _NIGHT.fullmatch(page.parent.name):
            try:
                nights.append(date.fromisoformat(page.parent.name))
            except ValueError:
                continue  # 2013-99-99 is not one of our folders
    return nights
