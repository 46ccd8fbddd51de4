"""Small nights for services: their frames arrive in the folder of the raw frames."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

from imaging.simulator.parameters import NightParameters
from imaging.simulator.simulate import simulate_night

SIZE: Final = 256
#: The minimum number of frames for the recipes.
_FEW: Final[dict[str, Any]] = {
    "size": SIZE, "n_science": 5, "n_darks": 4, "n_short_darks": 3, "n_lamp_on": 3, "n_lamp_off": 3, "detector_seed": 5,
}  # fmt: skip
#: Settings of all services for these frames.
ENVIRONMENT: Final = {
    "NIRFLOW_WATCH_CHECK": f'{{"shape": [{SIZE}, {SIZE}]}}',
    "NIRFLOW_WATCH_QUIET": "10",
    "NIRFLOW_NIGHTLY_CALIBRATION_DAYS": "60",
    "NIRFLOW_NIGHTLY_ENABLED": "false",
}


def take_night(folder: Path, raw: Path, days: int = 0, *, calibrations: bool = True) -> list[str]:
    """Take one sequence of a later night, and let its frames arrive; return their names.

    Parameters
    ----------
    folder
        Where the truth is kept.
    raw
        Folder of the raw frames.
    days
        Nights after the tutorial's.
    calibrations
        Whether darks and flats are taken too.
    """
    parameters = NightParameters(**_FEW, seed=3 + days, days=days)
    simulate_night(folder, parameters, roles=() if calibrations else ("science",))
    names = []
    for frame in sorted(folder.glob("*.fits")):
        frame.chmod(0o644)
        shutil.move(frame, raw / frame.name)
        names.append(frame.name)
    return names
