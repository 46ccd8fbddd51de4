"""The frames of the nights of a season: simulated once for a size, and kept in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

from benchmarks.season.plan import SeasonNight
from imaging.simulator.parameters import NightParameters
from imaging.simulator.plans.frame import Role
from imaging.simulator.simulate import simulate_night
from imaging.simulator.truth import NightTruth, load_truth

#: Days from the tutorial's night to the first, and from one to the next: calibrations of a night join those of no
#: other one (a gap of 5 days ends a group), and serve the next (90 days).
_FIRST, _APART = 4000, 40
#: Frames of a night: enough for every product.
_FRAMES: Final[dict[str, Any]] = {
    "n_science": 5, "n_darks": 4, "n_short_darks": 3, "n_lamp_on": 3, "n_lamp_off": 3,
}  # fmt: skip
#: How much higher the numbers of the files of a second sequence are, and how much later they are, min.
_SECOND, _LATER = 100, 60.0
_ARRAY: Final = 20131121


@dataclass(frozen=True)
class NightFrames:
    """The files of a night in the order of their arrival.

    Attributes
    ----------
    plan
        What happens in the night.
    night
        The date that the observatory gives to it.
    calibrations, sequences
        Darks and flats, and the science frames of each sequence.
    darks
        The names of the darks of the science frames, without the ending.
    """

    plan: SeasonNight
    night: date
    calibrations: tuple[Path, ...]
    sequences: tuple[tuple[Path, ...], ...]
    darks: tuple[str, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """All files; those that come late are the last."""
        science = [path for sequence in self.sequences for path in sequence]
        return (*science, *self.calibrations) if self.plan.late else (*self.calibrations, *science)

    @property
    def stacks(self) -> tuple[str, ...]:
        """The names of the stacks of complete sequences."""
        return tuple(f"{sequence[0].stem}_image.fits" for sequence in self.sequences)


def frames_of(plan: SeasonNight, size: int, folder: Path) -> NightFrames:
    """Return the frames of a night, which are simulated unless the folder has them."""
    main = _simulated(plan, size, folder, {})
    sequences = [_paths(main, "science")]
    if plan.sequences > 1:
        later = {"first": _SECOND, "minutes": _LATER, "field_seed": 7}
        other = _simulated(plan, size, folder, later, roles=("science",))
        sequences.append(_of_another_observation(other))
    roles: tuple[Role, ...] = ("lamp_on", "lamp_off", "short_dark", "dark")  # science needs the last of them
    return NightFrames(
        plan=plan,
        night=_night_of(main),
        calibrations=tuple(path for role in roles for path in _paths(main, role)),
        sequences=tuple(sequences),
        darks=tuple(frame.root for frame in main.of_role("dark")),
    )


def _simulated(
    plan: SeasonNight, size: int, folder: Path, more: dict[str, Any], *, roles: Sequence[Role] = ()
) -> NightTruth:
    parameters = NightParameters(
        size=size, seed=plan.number + 1, detector_seed=_ARRAY, days=_FIRST + _APART * plan.number,
        science_time=plan.exposure, **(_FRAMES | more),
    )  # fmt: skip
    kind = "-".join(str(value) for value in (size, plan.number, plan.exposure or "usual", *more.values()))
    place = folder / f"season-{kind}"
    if not (place / "complete").exists():
        simulate_night(place, parameters, roles=roles)
        (place / "complete").touch()
    return load_truth(place / "truth")


def _paths(truth: NightTruth, role: Role) -> tuple[Path, ...]:
    return tuple(truth.folder.parent / f"{frame.root}.fits" for frame in truth.of_role(role))


def _of_another_observation(truth: NightTruth) -> tuple[Path, ...]:
    """Return the science frames as those of another observation of the same program."""
    from astropy.io import fits

    done = truth.folder.parent / "renamed"
    for number, path in enumerate(_paths(truth, "science")):
        if not done.exists():
            with fits.open(path, mode="update") as hdus:
                observation = f"{hdus[0].header['OBSID']}9"
                hdus[0].header.update(OBSID=observation, DATALAB=f"{observation}-{number + 1:03d}")
    done.touch()
    return _paths(truth, "science")


def _night_of(truth: NightTruth) -> date:
    digits = truth.of_role("science")[0].root[1:9]
    return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
