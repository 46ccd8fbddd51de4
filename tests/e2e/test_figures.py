"""How good the products of a simulated night are, each figure against its limit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from night_lab import Lab, Run

from imaging.products.product_file import read_table
from imaging.simulator.parameters import NightParameters
from imaging.simulator.score import score_night
from imaging.simulator.score_figures import NightScore
from imaging.simulator.simulate import simulate_night
from imaging.simulator.truth import NightTruth

pytestmark = pytest.mark.long

SIZE = 1024
#: A quarter of the array with the full array's dithers and density of bright stars. Closer dithers or more
#: stars would put the wings of stars into the sky of every frame: a different night, not a smaller one.
QUARTER = {"size": SIZE, "dither": 20.0, "n_bright": 16, "n_saturated": 1, "seed": 3, "stale_wcs": 4}

#: (product, figure) with the limits for a night.
LIMITS = [
    ("bpm", "bad pixels found", 100.0, None),
    ("bpm", "false bad pixels", None, 0.0),
    ("dark", "VAR pull", 0.9, 1.1),
    ("dark", "VAR pull, standard deviation", 0.9, 1.1),
    ("flat", "rms / photon floor", None, 1.03),
    ("flat", "VAR pull", 0.9, 1.1),
    ("flat", "VAR pull, standard deviation", 0.9, 1.1),
    ("stack", "registration", None, 0.05),
    ("stack", "flux scatter", None, 0.6),
    ("stack", "flux scale", 0.995, 1.005),
    ("stack", "broadening of stars", None, 5.0),
    ("stack", "background / photon floor", None, 1.05),
    ("stack", "VAR pull", 0.9, 1.1),
    ("stack", "outliers beyond 8 sigma", None, 20.0),
]


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> NightTruth:
    return simulate_night(tmp_path_factory.mktemp("quarter"), NightParameters(**QUARTER))


@pytest.fixture(scope="module")
def run(new_lab: Callable[..., Lab], truth: NightTruth) -> Run:
    return new_lab(SIZE).reduce(truth.folder.parent)


@pytest.fixture(scope="module")
def score(run: Run, truth: NightTruth) -> NightScore:
    def file(kind: str) -> Path:
        return run.product(kind).output

    return score_night(
        truth, bpm=file("bpm"), dark=file("dark"), flat=file("flat"), stack=file("image")
    )  # fmt: skip


def test_every_frame_is_in_the_stack(run: Run, truth: NightTruth) -> None:
    assert run.report.failures == run.report.left_out == ()
    assert run.product("image").left_out == ()
    assert len(run.product("image").inputs) == len(truth.science) == 9


@pytest.mark.parametrize(("product", "figure", "low", "high"), LIMITS)
def test_figure(score: NightScore, product: str, figure: str, low: float | None, high: float | None) -> None:
    value = score.value(product, figure)
    assert low is None or value >= low
    assert high is None or value <= high


def test_no_limit_is_overlooked(score: NightScore) -> None:
    judged = {(r.product, r.figure, r.low, r.high) for r in score.rows if r.ok is not None}
    # The error of the reference's fluxes, here of few stars, is allowed for.
    scale = next(r for r in score.rows if r.figure == "flux scale")
    assert 0.99 < scale.low <= 0.995
    assert 1.005 <= scale.high < 1.01
    assert judged - {("stack", scale.figure, scale.low, scale.high)} == set(LIMITS) - {
        ("stack", "flux scale", 0.995, 1.005)
    }


def test_the_pedestal_is_the_true_one(run: Run, truth: NightTruth) -> None:
    dark = run.product("dark").metrics
    error = float(dark["pedestal"]) - truth.parameters.pedestal  # type: ignore[arg-type]
    assert abs(error) < 5 * float(dark["pedestal_uncertainty"])  # type: ignore[arg-type]


def test_the_reported_registration_error_is_honest(run: Run, score: NightScore) -> None:
    reported = float(run.product("image").metrics["registration"])  # type: ignore[arg-type]
    true = score.value("stack", "registration")
    assert 0.3 < true / (reported * 2**0.5) < 3


def test_a_frame_with_the_previous_frames_wcs_is_aligned_all_the_same(run: Run, truth: NightTruth) -> None:
    stale = truth.science[4]
    assert stale.wcs_error is not None
    assert max(map(abs, stale.wcs_error)) > 19  # arcsec
    table = read_table(run.product("image").output, "ALIGNMENT")
    assert table is not None
    (row,) = table[table["name"] == f"{stale.root}.fits"]
    assert row["used"]
    assert row["n_matched"] >= 8
    reference = truth.frame(str(run.product("image").metrics["reference"]))
    assert stale.field_centre is not None
    assert reference.field_centre is not None
    expected = np.subtract(reference.field_centre, stale.field_centre)
    assert np.allclose([row["dx"], row["dy"]], expected, atol=0.1)
