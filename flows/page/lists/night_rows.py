"""The nights in the list of nights."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from calib_store.store import Store
from flows.page import view
from flows.page.collect import read_report
from flows.page.outcomes import results_of
from imaging.kinds import STACK


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


def night_row(store: Store, night: date, *, page: bool) -> NightRow:
    """Return the row of a night, which may have a page."""
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
