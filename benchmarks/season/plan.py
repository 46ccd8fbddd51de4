"""What happens in a season, night by night: a pure function of a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final, Literal

#: What can be killed. ``flow`` is the process of a run, ``postgres`` the parent of the database's processes.
Victim = Literal["server", "worker", "watcher", "judge", "postgres", "flow"]
VICTIMS: Final[tuple[Victim, ...]] = ("flow", "server", "worker", "watcher", "judge", "postgres")
#: What is rejected after its night was reduced: one raw dark, or the master dark.
Rejection = Literal["frame", "master"]

#: Nights of the season from one to the next of a kind, about.
_EVERY: Final = {"full": 8, "late": 5, "frame": 7, "master": 10, "clock": 6}
#: Share of the other nights in which a process is killed.
_KILLS: Final = 0.7
#: The nights' own exposure times of late nights begin here, s: darks of other nights do not serve them.
_LATE_EXPOSURE: Final = 30.0
#: Dates of files relative to their arrival, days: the clock of the machine that wrote them was wrong.
_STEPS: Final = (-400.0, -1.0, 0.04, 2.0, 300.0)


@dataclass(frozen=True)
class Kill:
    """A process that is killed with SIGKILL.

    Attributes
    ----------
    victim
        The process.
    after
        Time from the first frame of the night, s.
    """

    victim: Victim
    after: float


@dataclass(frozen=True)
class FullDisk:
    """A time in which the disk of the data folder is full.

    Attributes
    ----------
    after
        Its begin, from the first frame of the night, s.
    seconds
        How long it is.
    """

    after: float
    seconds: float


@dataclass(frozen=True)
class SeasonNight:
    """A night, and what happens in it.

    Attributes
    ----------
    number
        From 0.
    exposure
        Exposure time of its science frames; None for that of the band.
    late
        Whether its calibrations arrive after its science has begun to wait for them.
    sequences
        Sequences of science.
    kills, full
        Processes that are killed, and the time in which the disk is full.
    rejected
        What is rejected when the night has been reduced.
    clock
        How far off the dates of its files are, days.
    """

    number: int
    exposure: float | None = None
    late: bool = False
    sequences: int = 1
    kills: tuple[Kill, ...] = ()
    full: FullDisk | None = None
    rejected: Rejection | None = None
    clock: float = 0.0


#: Two nights for a first look: calibrations come late and a run is killed; the server is killed and a dark is rejected.
SAMPLE: Final = (
    SeasonNight(number=0, exposure=_LATE_EXPOSURE, late=True, kills=(Kill("flow", 10.0),)),
    SeasonNight(number=1, kills=(Kill("server", 2.0),), rejected="frame"),
)


def plan_season(seed: int, nights: int, *, full: bool = True, kills: bool = True) -> tuple[SeasonNight, ...]:
    """Return the nights of a season.

    Parameters
    ----------
    seed
        The same seed gives the same season.
    nights
        How many.
    full
        Whether the disk can be made full.
    kills
        Whether processes are killed. Without, each part's process lives through all nights.
    """
    draw = random.Random(seed)
    chosen = {name: _some(draw, nights, every) for name, every in _EVERY.items()}
    victims: list[Victim] = []
    planned = []
    for number in range(nights):
        is_full = full and number in chosen["full"]
        late = number in chosen["late"] and not is_full
        killed = kills and not is_full and (draw.random() < _KILLS or nights < len(VICTIMS))
        victims = victims or draw.sample(VICTIMS, len(VICTIMS))
        rejected: Rejection | None = None
        if not late and number in chosen["frame"]:
            rejected = "frame"
        elif not late and number in chosen["master"] and number > 0:
            rejected = "master"
        planned.append(
            SeasonNight(
                number=number,
                exposure=_LATE_EXPOSURE + number if late else None,
                late=late,
                sequences=draw.choice((1, 1, 2)),
                kills=(Kill(victims.pop(), draw.uniform(1.0, 25.0)),) if killed else (),
                full=FullDisk(draw.uniform(1.0, 15.0), draw.uniform(20.0, 40.0)) if is_full else None,
                rejected=rejected,
                clock=draw.choice(_STEPS) if number in chosen["clock"] else 0.0,
            )
        )
    return tuple(planned)


def _some(draw: random.Random, nights: int, every: int) -> frozenset[int]:
    """Return some nights, about one of ``every``, and at least one."""
    return frozenset(draw.sample(range(nights), max(1, nights // every)))
