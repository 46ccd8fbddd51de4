"""The bad pixel mask: every planted defect for its reason, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.calibrations.bpm import BpmParameters, make_bpm
from imaging.calibrations.local_deviants import local_deviants
from imaging.errors import GroupError
from imaging.pixels.image import Reason

SHAPE = (320, 320)
CENTRE, RADIUS = (160.5, 158.0), 150.0
ON = {"OBSTYPE": "FLAT", "EXPTIME": 20.0, "LNRS": 1, "NREADS": 1, "GCALLAMP": "IRhigh", "GCALSHUT": "OPEN"}
OFF = ON | {"GCALSHUT": "CLOSED"}
SHORT = {"EXPTIME": 2.0, "LNRS": 1, "NREADS": 1}
#: Places inside the circle and what is wrong there.
HOT, COLD, LOW, HIGH, WARM = (100, 100), (101, 180), (150, 90), (220, 160), (60, 200)
OUTSIDE = (3, 4)


@pytest.fixture
def night(expose):
    rng = np.random.default_rng(3)
    yy, xx = np.ogrid[: SHAPE[0], : SHAPE[1]]
    inside = np.hypot(xx - CENTRE[0], yy - CENTRE[1]) <= RADIUS
    response = (1 + 0.03 * rng.standard_normal(SHAPE)).clip(0.9, 1.1) * inside
    response[LOW], response[HIGH] = 0.62, 1.36
    current = np.full(SHAPE, 0.3)
    current[HOT], current[WARM], current[OUTSIDE] = 2500.0, 1200.0, 4000.0
    pedestal = np.full(SHAPE, 65.0)
    pedestal[COLD] = -400.0
    on = expose(15000 * response + 20 * current, 4, shape=SHAPE, pedestal=pedestal, seed=1, **ON)
    off = expose(500 * inside + 20 * current, 6, shape=SHAPE, pedestal=pedestal, seed=2, **OFF)
    short = expose(2 * current, 5, shape=SHAPE, pedestal=pedestal, seed=4, **SHORT)
    return on, off, short, inside


def test_each_defect_is_found_for_its_reason_and_nothing_else(night):
    on, off, short, inside = night
    result = make_bpm(on, off, short)
    want = {HOT: Reason.HOT, COLD: Reason.COLD, LOW: Reason.LOW_RESPONSE, HIGH: Reason.HIGH_RESPONSE}
    for place, reason in want.items():
        assert result.mask.reasons[place] == reason
    bad = {tuple(map(int, place)) for place in np.argwhere((result.mask.bad != 0) & inside)}
    assert bad == set(want)
    assert result.mask.bad[OUTSIDE] == 0
    assert result.mask.bad.dtype == np.uint8
    m = result.metrics
    assert (m.n_hot, m.n_cold, m.n_high) == (1, 1, 1)
    assert (m.n_on, m.n_off, m.n_darks) == (4, 6, 5)
    assert m.n_bad == np.count_nonzero(result.mask.bad)
    assert m.n_judged == pytest.approx(inside.sum(), rel=0.005)
    assert m.pedestal.value == pytest.approx(65, abs=2)
    assert result.mask.header["PEDESTAL"] == pytest.approx(result.pedestal, abs=1e-3)
    assert result.warnings == ()


def test_limits_are_parameters(night):
    on, off, short, inside = night
    strict = make_bpm(on, off, short, BpmParameters(dark_highest=1000.0, flat_lowest=0.6))
    bad = {tuple(map(int, place)) for place in np.argwhere((strict.mask.bad != 0) & inside)}
    assert bad == {HOT, COLD, HIGH, WARM}


def test_the_soft_edge_of_the_light_is_dim_and_not_bad(expose):
    """The light falls off over some pixels; a dead pixel among them is found, its dim neighbours are not."""
    yy, xx = np.ogrid[: SHAPE[0], : SHAPE[1]]
    depth = RADIUS - np.hypot(xx - CENTRE[0], yy - CENTRE[1])
    response = np.clip(0.5 + depth / 6, 0, 1)
    dead = (round(CENTRE[1]), round(CENTRE[0] - RADIUS) + 2)
    assert 0.6 < response[dead] < 0.95
    response[dead] *= 0.3
    on = expose(15000 * response, 4, shape=SHAPE, seed=1, **ON)
    off = expose(np.zeros(SHAPE), 4, shape=SHAPE, seed=2, **OFF)
    short = expose(np.zeros(SHAPE), 4, shape=SHAPE, seed=3, **SHORT)
    found = make_bpm(on, off, short).mask
    assert found.reasons[dead] == Reason.LOW_RESPONSE
    assert found.bad.sum() == 1
    blunt = make_bpm(on, off, short, BpmParameters(edge=0)).mask
    assert blunt.bad.sum() > 100  # without it the entire rim counts as bad


def test_a_cosmic_ray_in_one_frame_is_no_bad_pixel(night):
    on, off, short, _ = night
    on[1].adu[120, 120] += 9000
    off[2].adu[130, 130] += 9000
    short[0].adu[140, 140] += 9000
    bad = make_bpm(on, off, short).mask.bad
    assert bad[120, 120] == bad[130, 130] == bad[140, 140] == 0


def test_thermal_night_takes_lamp_offs_and_darks(night, expose):
    _, _, short, inside = night
    rng = np.random.default_rng(8)
    response = (1 + 0.03 * rng.standard_normal(SHAPE)).clip(0.9, 1.1) * inside
    response[LOW] = 0.5
    k = OFF | {"FILTER2": "Ks_G0804", "EXPTIME": 2.0}
    result = make_bpm(expose(9000 * response, 4, shape=SHAPE, **k), short, short)
    assert result.mask.reasons[LOW] & Reason.LOW_RESPONSE
    assert result.mask.reasons[COLD] & Reason.COLD
    good = inside.copy()
    for place in (LOW, COLD, HOT):
        good[place] = False
    assert not result.mask.bad[good].any()


def test_missing_lamp_offs_cause_a_warning(night):
    on, _, short, _ = night
    assert any("no flats without" in warning for warning in make_bpm(on, [], short).warnings)


def test_no_short_darks_is_an_error(night):
    on, off, _, _ = night
    with pytest.raises(GroupError, match="0 short darks"):
        make_bpm(on, off, [])


def test_mixed_darks_are_named(night, expose):
    on, off, short, _ = night
    with pytest.raises(GroupError, match="S20131120S0600"):
        make_bpm(on, off, short + expose(0.0, 1, shape=SHAPE, seed=6, **(SHORT | {"EXPTIME": 3.0})))


def test_ccdmask_finds_what_differs_from_its_neighbourhood(night):
    on, off, short, inside = night
    result = make_bpm(on, off, short, BpmParameters(method="ccdmask", ccdmask_sigma=12.0))
    reasons = result.mask.reasons
    assert (reasons[HOT], reasons[COLD]) == (Reason.HOT, Reason.COLD)
    assert (reasons[LOW], reasons[HIGH]) == (Reason.LOW_RESPONSE, Reason.HIGH_RESPONSE)
    assert (reasons[~inside] == 0).all()
    assert np.count_nonzero(reasons) < 20
    assert result.metrics.n_low >= 1
    # A dead region wider than its median box is its own neighbourhood.
    light = np.full((60, 60), 1000.0, np.float32) + np.random.default_rng(1).normal(0, 10, (60, 60)).astype(
        "f4"
    )
    light[20:40, 20:40] = 10.0
    light[50, 50] = 10.0
    found = local_deviants(light, np.ones((60, 60), bool), 1000.0, 15.0)
    assert found[50, 50]
    assert not found[25:35, 25:35].any()


def test_the_edge_of_the_light_is_no_step(night):
    *_, inside = night
    light = np.where(inside, 1000.0, 0.0).astype(np.float32)
    assert not local_deviants(light, inside, 1000.0, 5.0).any()
