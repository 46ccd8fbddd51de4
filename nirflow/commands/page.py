"""``nirflow report``: the page of a night for a browser."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nirflow.console.output import print_lines
from nirflow.console.tables import print_json
from nirflow.exits import Exit
from nirflow.moments import night as night_in

if TYPE_CHECKING:
    from calib_store.store import Store


def report(
    night: Annotated[
        str,
        typer.Argument(
            metavar="NIGHT", help="Night: 2013-11-21, 20131121, or last: the latest reduced night."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder of all nights' pages. Default: nights_dir of the settings.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """Write the page of a night, the index of nights, and the trends: static files that a browser opens.

    The page shows what is good and what is not, by requested conditions and the last thirty nights; the stacks; and
    behind a second tab the plan and its outcome, calibrations with reasons, and raw frames. The trends (trends.html)
    show darks, masks, flats and stacks of the last three years.
    """
    wanted = _night(night)
    from calib_store.store import Store
    from deployments.settings.all_settings import Settings
    from flows.page.write import write_index, write_night_page, write_trends

    settings = Settings()
    folder = (out or settings.nights).expanduser().resolve()
    with Store.open(settings) as store:
        when = wanted or _last(store)
        page = write_night_page(store, when, folder)
        index = write_index(store, folder)
        trends = write_trends(store, folder)
    if json:
        print_json({"night": when, "page": page, "index": index, "trends": trends})
    else:
        print_lines(page)


def _night(text: str) -> date | None:
    """Return the requested night; None for the last one."""
    if text.strip().lower() == "last":
        return None
    return night_in(text, "NIGHT", remedy="Write 2013-11-21, 20131121, or last.")


def _last(store: Store) -> date:
    nights = store.runs.nights()
    if not nights:
        print_lines(
            "No night has been reduced yet. Reduce one first (nirflow reduce), or name a night.", err=True
        )
        raise typer.Exit(Exit.NOTHING)
    return nights[0]
