"""One small simulated night for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from imaging.simulator.parameters import NightParameters
from imaging.simulator.simulate import simulate_night
from imaging.simulator.truth import NightTruth

SMALL = NightParameters(size=256, seed=7, stale_wcs=3)


@pytest.fixture(scope="session")
def small_night(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NightTruth]:
    out = tmp_path_factory.mktemp("night")
    return out, simulate_night(out, SMALL)
