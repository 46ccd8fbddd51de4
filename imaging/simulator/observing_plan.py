"""The plan of a night: its frames, their names and times, and the pointings of the telescope."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from imaging.simulator.disturbances.drawn import offset_sky, rotation_of
from imaging.simulator.parameters import NightParameters
from imaging.simulator.plans.frame import PlannedFrame, Role
from imaging.simulator.plans.known_plans import file_root
from imaging.simulator.plans.plan_model import Run

#: Time between the end of an exposure and the start of the next, s.
_OVERHEAD: Final = 12.0
#: A move of the telescope that the error of a WCS may exceed, arcsec.
_SMALL_MOVE: Final = 4.0
#: Repetitions of the dither grid at different places.
_REPETITIONS: Final = 18


def plan_night(parameters: NightParameters) -> list[PlannedFrame]:
    """Return all frames of a night in the order of their names.

    K nights have no lamp-ons; their lamp-offs take the short darks as darks of the same exposure, or get a
    separate set if the short darks differ.
    """
    p = parameters
    counts: list[tuple[Role, int, float, int, int]] = [
        ("science", p.n_science, p.exposure_time, p.read_pairs, p.coadds),
        ("dark", p.n_darks, p.exposure_time, p.read_pairs, p.coadds),
        ("short_dark", p.n_short_darks, p.short_dark_time, p.reads_of_darks, 1),
        ("lamp_on", 0 if p.thermal else p.n_lamp_on, p.flat_exposure, p.reads_of_flats, 1),
        ("lamp_off", p.n_lamp_off, p.flat_exposure, p.reads_of_flats, 1),
    ]
    if p.thermal and (p.flat_exposure, p.reads_of_flats) != (p.short_dark_time, p.reads_of_darks):
        counts.append(("flat_dark", p.n_short_darks, p.flat_exposure, p.reads_of_flats, 1))
    runs = p.plan.thermal_runs if p.thermal else p.plan.lamp_runs
    frames: list[PlannedFrame] = []
    for role, count, time, reads, coadds in counts:
        offsets, wcs = _pointings(p, count) if role == "science" else ([(0.0, 0.0)] * count,) * 2
        later = timedelta(days=p.days, minutes=p.minutes)
        slots = _slots(runs[role], count, time * coadds, later, p.first)
        turned = [rotation_of(p, i, count) if role == "science" else 0.0 for i in range(count)]
        frames += [
            PlannedFrame(
                file_root(p.camera.instrument, date, number),
                role,
                i,
                started,
                time,
                reads,
                coadds,
                offsets[i],
                wcs[i],
                turned[i],
                date,
                number,
            )
            for i, (date, number, started) in enumerate(slots)
        ]
    return sorted(frames, key=lambda frame: frame.root)


def _slots(
    runs: Sequence[Run], count: int, exposure: float, later: timedelta, shift: int
) -> Iterator[tuple[str, int, datetime]]:
    """Yield date and number of the file's name, and the start, of each exposure of a set."""
    left = count
    for i, (day, first, length, clock) in enumerate(runs):
        start = datetime.strptime(day + clock, "%Y%m%d%H:%M:%S").replace(tzinfo=UTC) + later
        take = left if i == len(runs) - 1 else min(left, length)
        for k in range(take):
            began = start + timedelta(seconds=k * math.ceil(exposure + _OVERHEAD))
            yield f"{start:%Y%m%d}", first + shift + k, began
        left -= take


def _pointings(p: NightParameters, count: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Return the commanded offsets, and those according to the WCS of the headers, arcsec (P, Q)."""
    rng = np.random.Generator(np.random.PCG64([p.seed, 3]))
    commanded = [_offset(p, i) for i in range(count)]
    errors = [tuple(map(float, rng.normal(0.0, 1.0, 2) * p.wcs_rms)) for _ in commanded]
    reported: list[tuple[float, float]] = []
    for i, offset in enumerate(commanded):
        p_error, q_error = (
            _agreeing(offset[axis] - commanded[0][axis], errors[i][axis], errors[0][axis]) for axis in (0, 1)
        )
        reported.append(reported[-1] if i == p.stale_wcs else (offset[0] + p_error, offset[1] + q_error))
    return commanded, reported


def _agreeing(move: float, error: float, first: float) -> float:
    """Return the error of a WCS, or that of the first frame if the WCS would reverse a small move from there.

    The WCS of real frames follows the telescope: however small a move is, it never goes the other way.
    """
    reversed_ = abs(move) < _SMALL_MOVE and move * (move + error - first) < 0
    return first if reversed_ else error


def _offset(p: NightParameters, i: int) -> tuple[float, float]:
    """Return the offset (P, Q) of a science frame; an offset sky frame follows each object frame."""
    along, across = _grid(p.dither_step, i // 2 if p.sky_offset else i)
    away = p.sky_offset if p.sky_offset and offset_sky(p, i) else 0.0
    return along + away + p.field_east, across + p.field_north


def _grid(step: float, i: int) -> tuple[float, float]:
    """Return the offset (P, Q) of the ``i``-th dither: a 3 x 3 grid, its centre moved outwards on each repetition.

    The field stays the same however long the sequence is: after some repetitions, the pattern begins again.
    """
    turn = i // 9 % _REPETITIONS
    shift = 0.13 * step * turn
    p, q = (i % 3 - 1) * step, (i % 9 // 3 - 1) * step
    return p + shift * math.cos(2.4 * turn), q + shift * math.sin(2.4 * turn)
