"""The nights in the list of nights. A row takes the reports of all runs over a night, so that rows are kept in a file
until something happens to their night.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from calib_store.store import Store
from calib_store.tables.trends.night_states import night_states
from flows.page import view
from flows.page.collect import read_report
from flows.page.outcomes import results_of
from imaging.io.atomic import write_complete
from imaging.kinds import STACK

#: Name of the file of the rows that are kept; browsers do not get files whose name begins with a dot.
KEPT: Final = ".rows-1.json"


@dataclass(frozen=True)
class NightRow:
    """A night of the index, with counts after its last run; the seeing is the range of its stacks."""

    night: date
    targets: tuple[str, ...]
    bands: tuple[str, ...]
    programs: tuple[str, ...]
    seeing: str
    frames: int
    stacks: int
    failed: int
    waiting: int
    page: bool


_ROWS: Final = TypeAdapter(dict[date, tuple[str, NightRow]])


def night_rows(store: Store, folder: Path, paged: Collection[date]) -> list[NightRow]:
    """Return the rows of the nights that have a run or a page, latest first.

    Parameters
    ----------
    store
        The store.
    folder
        Folder of all nights' pages, where the rows are kept.
    paged
        Nights that have a page.
    """
    states = store.database.read(lambda connection: night_states(connection, tuple(paged)))
    kept = _read(folder / KEPT)
    rows: dict[date, tuple[str, NightRow]] = {}
    for night in sorted(states, reverse=True):
        state, row = kept.get(night, ("", None))
        if row is None or state != states[night] or row.page != (night in paged):
            row = _row(store, night, night in paged)
        rows[night] = states[night], row
    if rows != kept:
        write_complete(folder / KEPT, [_ROWS.dump_json(rows)], sync=False)
    return [row for _, row in rows.values()]


def _read(path: Path) -> dict[date, tuple[str, NightRow]]:
    """Return the rows that are kept; none if there is no such file, or another version of nirflow wrote it."""
    try:
        return _ROWS.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return {}


def _row(store: Store, night: date, page: bool) -> NightRow:
    held = results_of([read_report(run) for run in store.runs.of_night(night)])
    waiting = sum(failure.waits_for is not None for _, failure in held.failures)
    frames = [frame.facts for frame in store.frames.of_nights(night, night) if frame.facts is not None]
    science = [facts for facts in frames if facts.kind == "object"]
    names = {facts.name: facts for facts in science}
    stacks = [
        ref for _, ref in held.products
        if ref.kind == STACK.name and (not names or any(one in names for one in ref.inputs))
    ]  # fmt: skip
    return NightRow(
        night=night,
        targets=tuple(dict.fromkeys(facts.target for facts in science if facts.target)),
        bands=tuple(dict.fromkeys(facts.filter for facts in science)),
        programs=tuple(sorted({facts.program for facts in science if facts.program})),
        seeing=view.seeing_range(stacks, names),
        frames=len(frames),
        stacks=len(stacks),
        failed=len(held.failures) - waiting,
        waiting=waiting,
        page=page,
    )
