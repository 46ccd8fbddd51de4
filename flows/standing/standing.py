"""Where the groups of a night stand, from what the store has: done, quiet, due, waiting or failed, and what is next.

Pure functions of the night's content (`flows.page.collect.collect_night`) and of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from calib_store.model.records import COUNTING
from flows.page.model import Group, NightFrame, NightPage, NightProduct
from flows.run.report import Space
from imaging.kinds import Target
from imaging.listed import counted, listed
from imaging.machine import free_bytes, size_text
from tasks.support.references import LeftOut

#: Where a group stands. ``due``: nothing stands in the way of its reduction.
Stage = Literal["done", "quiet", "due", "waiting", "failed"]

_NAMES: Final = 5


@dataclass(frozen=True)
class Habits:
    """How the reduction is run.

    Attributes
    ----------
    up
        Whether nirflow is up, with a watcher that starts reductions.
    quiet
        Time without a new frame after which a sequence is reduced, s.
    waiting_days
        Time for which science waits for missing calibrations, days.
    free
        Returns the free bytes on the disk of a folder; None if they are unknown.
    """

    up: bool
    quiet: float
    waiting_days: float
    free: Callable[[Path], int | None] = free_bytes


@dataclass(frozen=True)
class Standing:
    """Where a group of frames stands.

    Attributes
    ----------
    kind, label, frames
        Its kind, the name that an observer would give it, and the names of its frames in order of time.
    stage
        Where it stands.
    why
        What was found, one sentence.
    since
        Since when, UTC; None if the store does not know.
    next
        What happens without anyone's help.
    remedy
        What a user can do; empty if there is nothing to do.
    product
        Name of the product made from it; empty without one.
    """

    kind: Target
    label: str
    frames: tuple[str, ...]
    stage: Stage
    why: str
    since: datetime | None
    next: str
    remedy: str = ""
    product: str = ""


def standings(page: NightPage, habits: Habits, now: datetime) -> tuple[Standing, ...]:
    """Return where each group of a night stands, science first.

    Parameters
    ----------
    page
        The content of the night.
    habits
        How the reduction is run.
    now
        The time, UTC.
    """
    frames = {frame.sha256: frame for frame in (*page.frames, *page.others)}
    return tuple(_standing(group, frames, habits, now) for group in page.groups)


def unused(page: NightPage) -> tuple[LeftOut, ...]:
    """Return the frames of a night that are not used; a frame's own problem comes with the frame's remedy."""
    remedies = {(frame.name, frame.problem): frame.remedy for frame in page.frames}
    return tuple(
        one if one.remedy else one.model_copy(update={"remedy": remedies.get((one.name, one.reason), "")})
        for one in page.left_out
    )


def _standing(group: Group, frames: dict[str, NightFrame], habits: Habits, now: datetime) -> Standing:
    members = [frames[one] for one in group.members if one in frames]
    arrived = max((one.added_at for one in members if one.added_at is not None), default=None)
    product = group.product
    tried = group.attempted
    new = _new(members, product) if product is not None else []
    # A calibration that was rejected, and is reinstated: the product made with it counts again.
    counts_again = product is not None and not new and product.status in COUNTING and group.space is None
    tried_all = arrived is None or tried is None or arrived <= tried
    if tried_all and (group.state == "failed" or (group.state == "waiting" and not counts_again)):
        return _stuck(group, habits)
    if product is not None and not new:
        why, remedy = _done(product)
        return _named(group, "done", why, remedy, product.made_at, "Nothing: it is complete.")
    if product is not None:
        what = f"{counted(len(new), 'frame')} arrived after {product.name} was made: {listed(new, _NAMES)}"
    elif group.state == "failed":
        what = f"frames arrived after the last attempt, which failed: {group.why}"
    elif group.state == "waiting":
        what = f"frames arrived after the last attempt, which lacked a {group.waits_for}"
    else:
        what = f"no run has reduced its {counted(len(group.frames), 'frame')} yet"
    left = timedelta(seconds=habits.quiet) - (now - arrived) if arrived is not None else timedelta()
    if habits.up and left > timedelta():
        seconds = left.total_seconds()
        return _named(
            group, "quiet", f"{what}; the last frame arrived {_ago(arrived, now)}", "", arrived,
            f"A run starts in {seconds:.0f} s unless another frame arrives.",
        )  # fmt: skip
    if habits.up:
        remedy = "If nothing happens for minutes: nirflow status shows what runs and what waits for its turn."
        return _named(
            group, "due", what, remedy, arrived, "A run starts as soon as those before it have ended."
        )
    return _named(
        group, "due", what, "Start it: nirflow up; or reduce the frames now: nirflow reduce FOLDER.", arrived,
        "Nothing: nirflow is not up.",
    )  # fmt: skip


def _stuck(group: Group, habits: Habits) -> Standing:
    """Return where a group stands whose last run did not make its product."""
    tried = group.attempted
    if group.space is not None:
        return _without_space(group, group.space, habits)
    if group.state == "failed":
        remedy = (
            group.remedy
            or "See the night's page and the log of the run; then start a run of the night again."
        )
        return _named(
            group,
            "failed",
            group.why.rstrip("."),
            remedy,
            tried,
            "The next run over the night tries it again.",
        )
    kind = group.waits_for
    choice = f"nirflow cal explain {group.frames[0]} --kind {kind}" if group.frames else "nirflow cal list"
    where = "in a watched folder" if habits.up else "in the folder that is reduced"
    until = f", until {tried + timedelta(days=habits.waiting_days):%Y-%m-%d}" if tried is not None else ""
    return _named(
        group, "waiting", f"it waits for a {kind}: {group.why.rstrip('.')}",
        f"See what there is and why it does not serve: {choice}. Raw frames for it {where} make one.",
        tried, f"As soon as the store has one, a run starts{until}." if habits.up else "Nothing: nirflow is not up.",
    )  # fmt: skip


def _without_space(group: Group, space: Space, habits: Habits) -> Standing:
    """Return where a group stands whose last run met a full disk."""
    free = habits.free(space.folder) if space.folder is not None else None
    where = f" ({space.folder})" if space.folder is not None else ""
    found = "unknown space" if free is None else size_text(free)
    following = (
        "A run of the service starts again when there is room; any other you start again."
        if habits.up
        else "Nothing: nirflow is not up."
    )
    return _named(
        group, "waiting", f"it waits for disk space: {found} free, {size_text(space.needed)} needed{where}",
        "Free space there: nirflow clean removes what can be made again.", group.attempted, following,
    )  # fmt: skip


def _named(
    group: Group, stage: Stage, why: str, remedy: str, since: datetime | None, following: str
) -> Standing:
    name = group.product.name if group.product is not None else ""
    return Standing(group.kind, group.label, group.frames, stage, why, since, following, remedy, name)


def _done(product: NightProduct) -> tuple[str, str]:
    """Return what a product was made of, and what can be done about the frames that it lacks."""
    text = f"{product.name} was made of {counted(len(product.sources), 'frame')}"
    lost = [one for one in product.left_out if not one.expected]
    if not lost:
        return text, ""
    reasons = "; ".join(f"{one.name}: {one.reason}" for one in lost[:_NAMES])
    more = "; ..." if len(lost) > _NAMES else ""
    remedies = dict.fromkeys(one.remedy for one in lost if one.remedy)
    return f"{text}, {len(lost)} left out ({reasons}{more})", " ".join(remedies)


def _new(members: Iterable[NightFrame], product: NightProduct) -> list[str]:
    """Return the frames that arrived after a product was made; it left out those before deliberately."""
    known = {*product.sources, *(one.name for one in product.left_out)}
    return [
        one.name
        for one in members
        if one.sha256 not in known and one.name not in known and not one.problem
        and product.made_at is not None and one.added_at is not None and one.added_at > product.made_at
    ]  # fmt: skip


def _ago(then: datetime | None, now: datetime) -> str:
    assert then is not None
    return f"{max(0.0, (now - then).total_seconds()):.0f} s ago"
