"""The master flat of a simulated lamp: response, photon floor, variance, drift, light and no light."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.calibrations.dark import make_dark
from imaging.calibrations.flat import FlatParameters, make_flat, make_thermal_flat
from imaging.errors import GroupError

SHAPE = (320, 320)
CENTRE, RADIUS = (158.0, 161.0), 150.0
LIGHT, DIM = 12000.0, 700.0
ON = {"OBSTYPE": "FLAT", "EXPTIME": 20.0, "LNRS": 1, "NREADS": 1, "GCALLAMP": "IRhigh", "GCALSHUT": "OPEN"}
OFF = ON | {"GCALLAMP": "IRhigh", "GCALSHUT": "CLOSED"}


@pytest.fixture(scope="module")
def inside():
    yy, xx = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return np.hypot(xx - CENTRE[0], yy - CENTRE[1]) <= RADIUS


@pytest.fixture(scope="module")
def response(inside):
    rng = np.random.default_rng(2)
    yy, xx = np.ogrid[: SHAPE[0], : SHAPE[1]]
    plane = (1 + 0.05 * rng.standard_normal(SHAPE)) * (1 + 0.06 * (xx - 160) / 160 - 0.04 * (yy - 160) / 160)
    plane /= np.median(plane[inside])
    plane[40, 160] = plane[200, 200] = 0.0
    return plane * inside


@pytest.fixture
def night(expose, response):
    on = expose(LIGHT * response + DIM, 4, shape=SHAPE, seed=1, **ON)
    off = expose(DIM, 6, shape=SHAPE, seed=2, **OFF)
    return on, off


def compared(result, response, inside):
    """Ratio to the truth's scale, difference and pull of the good pixels well inside."""
    good = inside & (result.image.dq == 0) & (response > 0.5)
    scale = np.median(result.image.sci[good] / response[good])
    off = result.image.sci[good] - scale * response[good]
    return scale, off, off / np.sqrt(result.image.var[good]), good


def test_response_is_at_the_photon_floor_and_variance_true(night, response, inside):
    result = make_flat(*night)
    scale, off, pull, good = compared(result, response, inside)
    assert scale == pytest.approx(1, abs=1e-3)
    floor2 = 11.7**2 + 4.44**2 / 12
    floor = ((LIGHT * response + DIM + floor2) / 4 + (DIM + floor2) / 6) / LIGHT**2
    assert (off**2).sum() / floor[good].sum() < 1.03**2
    assert pull.std() == pytest.approx(1, abs=0.04)
    assert abs(pull.mean()) < 0.03
    assert result.warnings == ()


def test_metrics_record_levels_noise_and_circle(night, response, inside):
    got = make_flat(*night)
    m = got.metrics
    assert (m.n_on, m.n_off) == (4, 6)
    assert m.level == pytest.approx(LIGHT, rel=0.005)
    assert m.counts_on == pytest.approx(LIGHT + DIM + 65, rel=0.02)
    assert m.counts_off == pytest.approx(DIM + 65, rel=0.02)
    assert m.pedestal == pytest.approx(65, abs=15)
    assert m.rms == pytest.approx(response[inside].std(), rel=0.1)
    assert m.noise == pytest.approx((LIGHT / 4) ** 0.5 / LIGHT, rel=0.06)
    assert m.n_unusable == pytest.approx(2, abs=60)  # two dead pixels, and edge pixels of the measured circle
    circle = got.circle
    assert circle.measured
    assert (circle.x, circle.y, circle.radius) == pytest.approx((*CENTRE, RADIUS), abs=0.4)
    assert got.image.unit == ""


def test_no_light_is_unilluminated_with_value_one(night, inside):
    bpm = np.zeros(SHAPE, np.uint8)
    bpm[40, 160] = bpm[10:12, 160] = bpm[150, 150] = 1
    image = make_flat(*night, bpm=bpm).image
    dead = [(40, 160), (200, 200), (2, 2), (318, 1)]
    for place in dead:
        assert image.dq[place] & 64
        assert (image.sci[place], image.var[place]) == (1, 0)
    assert image.dq[40, 160] == 65
    assert image.dq[150, 150] == 1
    assert image.sci[150, 150] != 1
    assert np.isfinite(image.sci).all()
    assert ((image.sci >= 0.01) & (image.sci <= 10)).all()


def test_a_drifting_lamp_costs_no_frame(expose, response, inside):
    levels = np.array([0.90, 0.97, 1.04, 1.09])
    on = expose(LIGHT * response * levels[:, None, None] + DIM, 4, shape=SHAPE, **ON)
    off = expose(DIM, 6, shape=SHAPE, seed=2, **OFF)
    on[2].adu[100:110, 100:110] += 900  # outliers that have to go all the same
    levelled = make_flat(on, off)
    _, _, pull, good = compared(levelled, response, inside)
    assert levelled.metrics.drift == pytest.approx(0.19, abs=0.005)
    assert any("drifts by 19%" in w for w in levelled.warnings)
    assert levelled.metrics.rejected < 0.02
    assert pull.std() == pytest.approx(1, abs=0.05)
    block = np.zeros(SHAPE, bool)
    block[100:110, 100:110] = True
    assert abs(pull[block[good]].mean()) < 1
    raw = make_flat(on, off, FlatParameters(level_lamp=False))
    assert raw.metrics.rejected > 0.1
    assert compared(raw, response, inside)[1].std() > 1.1 * compared(levelled, response, inside)[1].std()


def test_no_lamp_offs_is_a_warning(night, response, inside):
    result = make_flat(night[0], [])
    assert any("no lamp-off flats" in w for w in result.warnings)
    assert any("pedestal" in w for w in result.warnings)
    assert compared(result, response, inside)[1].std() > 0


def test_a_pedestal_that_is_given_is_used(night):
    result = make_flat(*night, pedestal=64.0)
    assert result.pedestal == result.metrics.pedestal == 64.0


class Master:
    """A master dark as a product file gives it."""

    def __init__(self, result):
        self.facts, self.header = None, result.image.header
        self.planes = {"SCI": result.image.sci, "VAR": result.image.var, "DQ": result.image.dq}

    def rows(self, extname, rows=None):
        return self.planes[extname][rows or slice(None)]


def test_thermal_flat_is_lamp_off_minus_the_dark(expose, response, inside):
    k = OFF | {"FILTER2": "Ks_G0804", "EXPTIME": 2.0}
    off = expose(9000 * response + 4, 5, shape=SHAPE, **k)
    dark = make_dark(expose(4.0, 5, shape=SHAPE, seed=2, LNRS=1, NREADS=1, EXPTIME=2.0))
    result = make_thermal_flat(off, Master(dark))
    scale, _, pull, _ = compared(result, response, inside)
    assert scale == pytest.approx(1, abs=1e-3)
    assert pull.std() == pytest.approx(1, abs=0.04)
    assert result.metrics.level == pytest.approx(9000, rel=0.005)
    assert result.pedestal == pytest.approx(dark.pedestal, abs=1e-3)
    assert result.warnings == ()
    assert any("no darks" in w for w in make_thermal_flat(off, None).warnings)


def test_lamp_that_is_not_lit_is_refused_by_name(expose):
    on, off = expose(DIM, 2, shape=SHAPE, **ON), expose(DIM + 50, 2, shape=SHAPE, seed=2, **OFF)
    with pytest.raises(GroupError, match=r"S20131120S0100.*not brighter than.*GCALLAMP"):
        make_flat(on, off)


def test_filters_are_not_mixed(expose, response):
    on = expose(LIGHT * response, 2, shape=SHAPE, **ON)
    on += expose(LIGHT * response, 1, shape=SHAPE, seed=5, **(ON | {"FILTER2": "J_G0802"}))
    with pytest.raises(GroupError, match=r"S20131120S0500\.fits"):
        make_flat(on, [])


def test_every_row_is_read_once_and_bits_do_not_depend_on_threads(night):
    first = make_flat(*night, pedestal=65.0, threads=1).image
    for frame in (*night[0], *night[1]):
        np.testing.assert_array_equal(frame.reads, 1)
    second = make_flat(*night, pedestal=65.0, threads=2).image
    for plane in ("sci", "var", "dq"):
        assert getattr(first, plane).tobytes() == getattr(second, plane).tobytes()
