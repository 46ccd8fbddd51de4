"""The table of nights: each can be simulated, and each disturbance of the simulator is in it."""

from __future__ import annotations

import math
import re

import pytest

from benchmarks.skies.judge import Judged, estimate_wrong
from benchmarks.skies.nights import NIGHTS, SkyNight, parameters_of
from imaging.simulator.disturbances.conditions import Disturbances
from imaging.simulator.score_figures import ScoreRow

#: Parameters that shape a disturbance that another one switches on, or that nights of one filter do not have.
DETAILS = {
    "sky_wave_length", "channels", "persistence_from", "persistence_decay", "exposed_before", "probe_glow",
    "probe_radius", "galaxy_axis_ratio", "trail_level", "aborted_after", "unguided_length",
    "pattern_rms", "unsettled",  # not of this instrument
    "distortion",  # of the camera, not of the sky
}  # fmt: skip


def test_names_are_unique_and_patterns_compile() -> None:
    assert len({night.name for night in NIGHTS}) == len(NIGHTS)
    assert all(re.compile(night.message) and re.compile(night.silent) for night in NIGHTS)


@pytest.mark.parametrize("night", NIGHTS, ids=lambda night: night.name)
def test_a_night_can_be_simulated_at_each_size(night: SkyNight) -> None:
    full, half = (parameters_of(night, 2, size) for size in (2048, 1024))
    assert (full.size, half.size, full.seed) == (2048, 1024, 2)
    assert half.galaxy_scale == pytest.approx(
        full.galaxy_scale / (2 if "galaxy_scale" in night.settings else 1)
    )
    assert half.n_stars <= full.n_stars
    # Sky frames have to be another field at any size.
    assert half.sky_offset == full.sky_offset


def test_every_disturbance_has_a_night() -> None:
    tried = {name for night in NIGHTS for name in night.settings}
    assert set(Disturbances.model_fields) - tried - DETAILS == set()
    assert not DETAILS & tried


def test_several_disturbances_are_counted() -> None:
    together = [night for night in NIGHTS if night.disturbances > 1]
    assert len(together) >= 3
    assert all("," in night.name for night in together)


def test_a_night_holds_if_nothing_is_wrong() -> None:
    row = ScoreRow(product="stack", figure="pull", value=1.0)
    assert Judged("calm", 1, (row,), 9, ()).ok
    assert not Judged("calm", 1, (row,), 9, ("8 of 9 frames used",)).ok
    assert Judged("calm", 1, (row,), 9, ()).value("pull") == 1.0
    assert math.isnan(Judged("calm", 1, (row,), 9, ()).value("blocks"))


TRUE = [
    ScoreRow(product="stack", figure="loss of the centre", value=13.0),
    ScoreRow(product="stack", figure="loss at two scale lengths", value=42.0),
]
WARNING = (
    "an extended source at RA 63.4917, Dec -47.8443 (x 1034, y 1022) with a scale length of 33 arcsec loses {} % of "
    "its light at the centre and {} % at 2 scale lengths (limit 5 %, sky.loss), because its sky frames contain it: {}"
)
WIDER = (
    "its frames are a median of 28 arcsec from their sky frames; dithers {} times as wide, a median of 226 arcsec, "
    "would do"
)
OFFSET = "no dithers on this detector would do; take frames of the sky at least 240 arcsec away"


@pytest.mark.parametrize(
    ("warnings", "wrong"),
    [
        ([WARNING.format(14, 40, WIDER.format(8.0))], ""),
        ([WARNING.format(14, 40, OFFSET)], ""),
        (["the sky is bright", WARNING.format(14, 40, OFFSET)], ""),
        ([], "no warning"),
        (["an extended source may lose light"], "no losses are named"),
        ([WARNING.format(20, 40, OFFSET)], "loss of the centre: estimated 20 %, true 13 %"),
        ([WARNING.format(14, 25, OFFSET)], "loss at two scale lengths: estimated 25 %, true 42 %"),
        ([WARNING.format(42, 13, OFFSET)], "estimated 42 %, true 13 %"),
        ([WARNING.format(14, 40, OFFSET).replace("2 scale", "1 scale")], "judged at 1 scale lengths"),
        ([WARNING.format(14, 40, "take care")], "no throw is named"),
        ([WARNING.format(14, 40, WIDER.format(20.0))], "dithers 20.0 times as wide"),
        ([WARNING.format(14, 40, WIDER.format(1.0))], "dithers 1.0 times as wide"),
    ],
)
def test_the_warning_about_a_galaxy_is_compared_with_the_truth(warnings: list[str], wrong: str) -> None:
    found = estimate_wrong(TRUE, warnings)
    assert (wrong in "; ".join(found)) if wrong else found == []


def test_only_galaxies_in_their_own_sky_may_be_named_as_extended_sources() -> None:
    named = {night.name for night in NIGHTS if not night.silent}
    assert named == {"galaxy, dither 20 arcsec", "galaxy filling the detector"}
    assert all(re.search(night.silent, "an extended source at x 1, y 2") for night in NIGHTS if night.silent)
