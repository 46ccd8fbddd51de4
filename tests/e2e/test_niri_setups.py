"""Nights of NIRI in its setups: read modes, wells, coadds, sections and cameras, each judged by the usual limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from night_lab import Lab, Run

from imaging.simulator.floor.score_floor import of_frames, score_floor
from imaging.simulator.parameters import NightParameters
from imaging.simulator.score_figures import NightScore
from imaging.simulator.simulate import simulate_night
from imaging.simulator.stack_model import read_stack
from imaging.simulator.truth import NightTruth
from nirflow.demo import compare

pytestmark = pytest.mark.long

#: One frame more than is used: the first of each set is left out.
USUAL: dict[str, Any] = {
    "instrument": "NIRI", "size": 512, "seed": 11, "n_science": 10, "n_darks": 8, "n_short_darks": 6, "n_lamp_on": 6,
    "n_lamp_off": 6,
}  # fmt: skip
SETUPS: dict[str, dict[str, Any]] = {
    "H, coadds": {"band": "H", "coadds": 4, "science_time": 5.0},
    "K, high background, deep wells": {
        "band": "K",
        "setup": ("readout_mode=High_Background", "well_depth=Deep"),
    },
    "J, low background, complete array": {
        "band": "J",
        "size": 1024,
        "setup": ("readout_mode=Low_Background",),
    },
    # With adaptive optics, whose stars are as many pixels wide as those of f/6.
    "J, f/14": {"band": "J", "setup": ("camera=f14",), "seeing": 0.25},
    "H, f/32": {"band": "H", "setup": ("camera=f32",), "seeing": 0.1, "size": 1024},
    "K, 768 x 768": {"band": "K", "size": 768},
}


@dataclass(frozen=True)
class Setup:
    """A reduced night."""

    truth: NightTruth
    run: Run

    @property
    def score(self) -> NightScore:
        """Every product against the truth."""
        return compare(self.run.report, self.truth)

    @property
    def ratios(self) -> NightScore:
        """The stack against what its night allows."""
        product = self.run.product("image")
        assert product.output is not None
        weights, scales = (of_frames(product.metrics, name) for name in ("weights", "scales"))
        rows = score_floor(read_stack(product.output), self.truth, weights=weights, scales=scales)
        return NightScore(rows=tuple(rows))


@pytest.fixture(scope="module", params=list(SETUPS))
def setup(
    request: pytest.FixtureRequest, new_lab: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory
) -> Setup:
    parameters = NightParameters.model_validate(USUAL | SETUPS[request.param])
    truth = simulate_night(tmp_path_factory.mktemp("niri"), parameters)
    return Setup(truth, new_lab(parameters.size).reduce(truth.folder.parent))


def test_every_product_is_made_of_all_frames_but_the_first(setup: Setup) -> None:
    report = setup.run.report
    assert report.failures == ()
    assert {"bpm", "dark", "flat", "image"} == set(setup.run.kinds())
    assert {one.name for one in report.left_out} == {f.file for f in setup.truth.frames if f.left_out}
    stack = setup.run.product("image")
    assert set(stack.inputs) == {f"{f.root}.fits" for f in setup.truth.science if not f.left_out}


def test_the_products_are_within_the_limits(setup: Setup) -> None:
    assert setup.score.failed == ()


def test_the_stack_is_what_its_night_allows(setup: Setup) -> None:
    assert setup.ratios.failed == ()
