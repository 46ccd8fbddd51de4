"""Which groups of calibration frames belong to a span of nights: each group is used completely or not at all.

Pure functions of the facts of frames; nothing is read here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from imaging.frames.calibration_groups import (
    CalibrationGroup,
    calibration_chains,
    flat_groups,
    groups_of_chain,
)
from imaging.frames.facts import FrameFacts
from imaging.frames.groups import GroupParameters


@dataclass(frozen=True)
class Window:
    """The groups of calibration frames of a span of nights.

    Attributes
    ----------
    members
        Names of their frames.
    first, last
        The nights whose frames must be known for these groups to be complete: a group found in fewer nights
        may be cut off.
    """

    members: frozenset[str]
    first: date
    last: date


def calibration_window(
    frames: Iterable[FrameFacts], first: date, last: date, parameters: GroupParameters | None = None
) -> Window:
    """Find the groups whose time overlaps the nights from ``first`` to ``last``, and their partners.

    The partner of a flat's group is the group that it is paired with
    (`imaging.frames.calibration_groups.flat_groups`): a flat keeps its lamp-offs even if they were taken days
    before the window.

    Parameters
    ----------
    frames
        Facts of usable frames from a span that includes the nights.
    first, last
        The nights, both included.
    parameters
        See `GroupParameters`.
    """
    parameters = parameters or GroupParameters()
    chain_of: dict[tuple[str, ...], list[FrameFacts]] = {}
    groups: list[CalibrationGroup] = []
    for chain in calibration_chains(frames, parameters):
        for group in groups_of_chain(chain, parameters):
            groups.append(group)
            chain_of[group.members] = chain
    inside = [g for g in groups if g.facts.night_of(g.first) <= last and first <= g.facts.night_of(g.last)]
    taken = {g.members for g in inside}
    flats = [g for g in inside if g.kind == "flat"]
    for pair in flat_groups(groups, parameters):
        light, partner = pair.on or pair.off, pair.off if pair.on is not None else pair.darks
        if light is not None and light.members in taken and partner is not None:
            taken.add(partner.members)
    gap = _days(parameters.longest("gap"))
    begins, ends = [first - gap], [last + gap]
    for members in taken:
        begins.append(chain_of[members][0].night - gap)
        ends.append(chain_of[members][-1].night + gap)
    for flat in flats:
        partner_within = _days(parameters.days("pair", "flat", flat.facts.table))
        begins.append(flat.facts.night_of(flat.first) - partner_within)
        ends.append(flat.facts.night_of(flat.last) + partner_within)
    return Window(frozenset(name for members in taken for name in members), min(begins), max(ends))


def _days(number: float) -> timedelta:
    """Return a number of days plus the night that is partly within them."""
    return timedelta(days=math.ceil(number) + 1)
