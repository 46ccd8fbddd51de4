"""A folder with frames of two instruments: each is reduced by its own table, subarrays and full frames apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from night_lab import Lab, Run

from imaging.simulator.parameters import NightParameters
from imaging.simulator.score import score_night
from imaging.simulator.simulate import simulate_night
from imaging.simulator.truth import NightTruth

pytestmark = pytest.mark.long

#: One frame more than is used: the first of each set is left out.
FEW = {
    "instrument": "NIRI", "n_science": 7, "n_darks": 5, "n_short_darks": 5, "n_lamp_on": 5, "n_lamp_off": 5,
    "pattern_rms": 15.0, "transparency_rms": 0.0,
}  # fmt: skip
FIRSTS = 5


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> NightTruth:
    """Return a J night of the complete array."""
    return simulate_night(tmp_path_factory.mktemp("full"), NightParameters(**FEW, band="J", seed=5))


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> NightTruth:
    """Return an H night of a subarray with deep wells and coadds, between the frames of the other."""
    parameters = NightParameters(
        **FEW,
        band="H",
        seed=6,
        size=512,
        coadds=2,
        setup=("well_depth=Deep",),
        first=20,
        minutes=20,
        sky=300.0,
    )
    return simulate_night(tmp_path_factory.mktemp("part"), parameters)


@pytest.fixture(scope="module")
def run(new_lab: Callable[..., Lab], night: NightTruth, full: NightTruth, part: NightTruth) -> Run:
    folders = [truth.folder.parent for truth in (night, full, part)]
    return new_lab().reduce(*folders, steps={"check": {"shape": None}})


def stems(truth: NightTruth, *roles: str) -> set[str]:
    return {f"{f.root}.fits" for f in truth.frames if f.role in roles and not f.left_out}


def test_every_instrument_has_its_products(run: Run) -> None:
    assert run.report.failures == ()
    assert run.kinds() == sorted(["bpm", "dark", "flat", "image"] * 3)


def test_only_the_first_frames_are_left_out(run: Run, full: NightTruth, part: NightTruth) -> None:
    left = {one.name for one in run.report.left_out}
    assert left == {f.file for truth in (full, part) for f in truth.frames if f.left_out}
    assert len(left) == 2 * FIRSTS
    assert "the first frame of an observation" in run.reason(sorted(left)[0])


@pytest.mark.parametrize("which", ["full", "part", "night"])
def test_products_are_of_frames_of_one_section_and_agree_with_the_truth(
    run: Run, which: str, request: pytest.FixtureRequest
) -> None:
    truth: NightTruth = request.getfixturevalue(which)
    sets = {
        "dark": ("dark",), "bpm": ("lamp_on", "lamp_off", "short_dark"), "flat": ("lamp_on", "lamp_off"),
        "image": ("science",),
    }  # fmt: skip
    made: dict[str, Path] = {}
    for kind, roles in sets.items():
        wanted = stems(truth, *roles)
        (product,) = [p for p in run.report.products if p.kind == kind and set(p.inputs) & wanted]
        assert set(product.inputs) == wanted
        assert product.output is not None
        made[kind] = product.output
    score = score_night(truth, bpm=made["bpm"], dark=made["dark"], flat=made["flat"], stack=made["image"])
    figures = (
        "bad pixels found",
        "false bad pixels",
        "rms / photon floor",
        "registration",
        "flux scale",
        "flux scatter",
    )
    assert [row for row in score.failed if row.figure in figures] == []
    assert {row.figure for row in score.rows} > set(figures)
    assert score.value("stack", "outliers beyond 8 sigma") <= 20
    # VAR does not have the pattern, which each coadd of a dark has once.
    p = truth.parameters
    pattern = p.pattern_rms**2 / p.camera.read_noise(p.read_pairs) ** 2
    assert score.value("dark", "VAR pull") == pytest.approx((1 + p.coadds * pattern) ** 0.5, rel=0.07)


def test_the_pattern_of_the_quadrants_is_removed(run: Run, full: NightTruth) -> None:
    (product,) = [
        p for p in run.report.products if p.kind == "image" and set(p.inputs) == stems(full, "science")
    ]
    (warning,) = [text for text in product.warnings if "offsets were removed" in text]
    assert "repeating columns of 1" in warning
    assert "in 6 of 6 frames" in warning
