"""``nirflow why``: why there is no stack of a frame, a sequence or a night, or no newer one."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nirflow.console.output import print_lines
from nirflow.console.tables import print_json
from nirflow.exits import Exit

if TYPE_CHECKING:
    from calib_store.model.records import Frame
    from calib_store.store import Store
    from deployments.settings.all_settings import Settings
    from flows.standing.standing import Habits, Standing
    from tasks.support.references import LeftOut


def why(
    name: Annotated[
        str,
        typer.Argument(
            metavar="FRAME|SEQUENCE|NIGHT",
            help="A raw frame, a sequence such as 2013-11-21.science.Y.1f0c9a2b, or a night.",
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """Show why there is no stack of a frame, a sequence or a night, or no newer one: what was found, what happens next,
    and what you can do.

    The answer comes from the store alone: it is there when the server is down. nirflow why S20131121S0075
    """
    from calib_store.store import Store
    from deployments.settings.all_settings import Settings
    from imaging.kinds import STACK

    settings = Settings()
    now = datetime.now(UTC)
    with Store.open(settings) as store:
        night, frames = _meant(store, name)
        groups, left_out = _standings(store, night, settings, now)
    if frames is not None:
        names = {frame.name for frame in frames}
        groups = [one for one in groups if names.intersection(one.frames)]
        left_out = [one for one in left_out if names.intersection(one.name.split(", "))]
    else:
        groups = [one for one in groups if one.kind == STACK.target or one.stage != "done"]
    if json:
        print_json(
            {
                "night": night,
                "groups": [asdict(one) for one in groups],
                "left_out": [one.model_dump() for one in left_out],
            }
        )
        return
    _print(groups, left_out, named=frames is not None, name=name)


def _meant(store: Store, name: str) -> tuple[date, tuple[Frame, ...] | None]:
    """Return the night that a name is of, and its frames; None for all of them."""
    from deployments.arrivals.selection import frames_of_sequence
    from deployments.prefect_api.names import SEQUENCE
    from imaging.frames.sequences import night_in
    from nirflow.moments import night as parsed_night

    sequence = name.strip().removeprefix(SEQUENCE)
    try:
        night = night_in(sequence)
    except ValueError:
        pass
    else:
        members = frames_of_sequence(store, sequence)
        if not members:
            _nothing(f"The store has no frame of the sequence {sequence}.")
        return night, members
    named = store.frames.named(Path(name).name)
    found = tuple(one for one in named if one.facts is not None)
    if found and found[-1].facts is not None:
        return found[-1].facts.night, found
    if named:  # without facts it is in quarantine
        from flows.page.collect import QUARANTINE_REMEDY

        reason = (named[-1].quarantine or "").rstrip(".")
        _nothing(f"{named[-1].name} is in quarantine: {reason}. {QUARANTINE_REMEDY}")
    return parsed_night(name, "NAME", remedy="Name a raw frame in the store, a sequence, or a night."), None


def _standings(
    store: Store, night: date, settings: Settings, now: datetime
) -> tuple[list[Standing], list[LeftOut]]:
    from flows.page.collect import UnknownNightError, collect_night
    from flows.standing.standing import standings, unused

    try:
        page = collect_night(store, night, choices=False)
    except UnknownNightError as error:
        _nothing(f"{error}")
    return list(standings(page, _habits(settings), now)), list(unused(page))


def _habits(settings: Settings) -> Habits:
    from deployments.status.supervisor_state import read_state
    from flows.standing.standing import Habits

    state = read_state(settings)
    up = state is not None and state.alive and bool(state.watched)
    return Habits(up, settings.watch.quiet, settings.nightly.waiting_days)


def _nothing(text: str) -> Any:
    print_lines(text, err=True)
    raise typer.Exit(Exit.NOTHING)


def _print(groups: list[Standing], left_out: list[LeftOut], *, named: bool, name: str) -> None:
    for number, one in enumerate(groups):
        if number:
            print_lines()
        since = (
            f" (since {one.since:%Y-%m-%d %H:%M} UT)" if one.since is not None and one.stage != "done" else ""
        )
        print_lines(f"{one.label}: {one.stage}{since}")
        print_lines(f"  {one.why[:1].upper()}{one.why[1:]}.")
        print_lines(f"  Next: {one.next}")
        if one.remedy:
            print_lines(f"  To do: {one.remedy}")
    if left_out and groups:
        print_lines()
    for one_left in left_out:
        print_lines(f"Not used: {one_left.name}: {one_left.reason.rstrip('.')}.")
        if one_left.remedy:
            print_lines(f"  To do: {one_left.remedy}")
    if not groups and not left_out:
        print_lines(
            f"{name} belongs to no group: nothing is made from it." if named else "Nothing is left to do."
        )
