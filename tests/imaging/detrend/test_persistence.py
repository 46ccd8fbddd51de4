"""Persistence: what earlier exposures release, what is flagged, and what the frame's own pixels correct."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from imaging.detrend.persistence import Earlier, Expected, Found, expected, find_persistence, largest_charge
from imaging.instruments.detector import Persistence, Readout
from imaging.pixels.bright_pixels import BrightPixels
from imaging.pixels.dq import DQ

SHAPE = (200, 240)
WELL = 150000.0
LAW = Persistence(threshold=60000.0, fraction=0.01, decay=100.0, saturated=10.0)
READOUT = Readout(4.0, 5.0, 37500, WELL, 0.8, (1.0, 0.0, 0.0), 0.2)
SKY = 5000.0


def bright(charges: dict[int, float], base: float = 60000.0) -> BrightPixels:
    return BrightPixels(
        SHAPE,
        base,
        np.array(sorted(charges), np.int64),
        np.array([charges[p] for p in sorted(charges)], np.float32),
    )


def released(*earlier: Earlier, exposure: float = 60.0) -> dict[int, float]:
    found = expected(earlier, LAW, READOUT, shape=SHAPE, exposure=exposure)
    return dict(zip(found.pixels.tolist(), found.electrons.tolist(), strict=True))


def test_the_release_falls_exponentially_and_is_integrated_over_the_exposure() -> None:
    one = bright({7: 30000.0})
    for age, exposure in ((0.0, 60.0), (50.0, 60.0), (300.0, 5.0)):
        seconds = np.linspace(age, age + exposure, 100_001)
        rate = 30000.0 * LAW.fraction / LAW.decay * np.exp(-seconds / LAW.decay)
        assert released(Earlier(one, age), exposure=exposure)[7] == pytest.approx(
            np.trapezoid(rate, seconds), rel=1e-4
        )
    assert released(Earlier(one, 0.0), exposure=1e5)[7] == pytest.approx(LAW.fraction * 30000.0)


def test_several_exposures_add_up_whatever_their_order() -> None:
    first, second = (
        Earlier(bright({7: 30000.0, 9: 1000.0}), 80.0),
        Earlier(bright({7: 20000.0, 11: 5.0}), 10.0),
    )
    both = released(first, second)
    assert both == pytest.approx(released(second, first))
    assert sorted(both) == [7, 9, 11]
    assert both[7] == pytest.approx(released(first)[7] + released(second)[7], rel=1e-6)


def test_nothing_comes_from_later_exposures_beyond_the_horizon_or_another_section() -> None:
    one = bright({7: 30000.0})
    assert released(Earlier(one, -1.0)) == {}
    assert released(Earlier(one, LAW.horizon + 1)) == {}
    assert released(Earlier(one, LAW.horizon - 1))
    other = BrightPixels((100, 240), 60000.0, one.pixels, one.charge)
    assert released(Earlier(other, 0.0)) == {}


def test_non_linear_pixels_count_as_full_wells_and_saturated_ones_as_several() -> None:
    one = bright({1: 59000.0, 2: 61000.0, 3: math.inf})
    found = expected([Earlier(one, 0.0)], LAW, READOUT, shape=SHAPE, exposure=60.0)
    part = LAW.released(0.0, 60.0)
    assert found.electrons == pytest.approx(part * np.array([59000.0, WELL - 60000.0, 10 * WELL - 60000.0]))
    assert found.least == pytest.approx(part * np.array([59000.0, WELL - 60000.0, WELL - 60000.0]))
    assert found.known.tolist() == [True, False, False]
    assert largest_charge(one, LAW, READOUT) == 10 * WELL - 60000.0
    ignored = np.zeros(SHAPE, bool)
    ignored.ravel()[3] = True
    assert largest_charge(one, LAW, READOUT, ignored) == WELL - 60000.0
    assert largest_charge(bright({}), LAW, READOUT) == 0.0


class Night:
    """A frame with the persistence of stars of an earlier exposure."""

    def __init__(self, strength: float, *, saturated: float = 0.0, seed: int = 1, stars: int = 40) -> None:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
        before = np.zeros(SHAPE)
        for k in range(stars):
            cy, cx = rng.uniform(12, SHAPE[0] - 12), rng.uniform(12, SHAPE[1] - 12)
            peak = 110000.0 if not saturated or k % 2 else saturated * WELL
            before += peak * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 2.0**2))
        charge = np.where(before >= WELL, np.inf, before - 60000.0)
        pixels = np.flatnonzero(charge.ravel() > 0)
        self.before = BrightPixels(SHAPE, 60000.0, pixels, charge.ravel()[pixels].astype(np.float32))
        self.latent = strength * LAW.released(10.0, 60.0) * np.maximum(before - 60000.0, 0.0)
        self.var = np.full(SHAPE, SKY, np.float32)
        self.sci = (SKY + self.latent + rng.normal(0, math.sqrt(SKY), SHAPE)).astype(np.float32)
        self.dq = np.zeros(SHAPE, np.uint16)

    @property
    def expected(self) -> Expected:
        return expected([Earlier(self.before, 10.0)], LAW, READOUT, shape=SHAPE, exposure=60.0)

    def found(self, limit: float = 0.5) -> Found:
        return find_persistence(self.sci, self.var, self.dq, self.expected, level=SKY, limit=limit)

    def flags(self, limit: float = 0.5) -> NDArray[np.bool_]:
        plane = np.zeros(SHAPE, bool)
        plane.ravel()[self.found(limit).pixels] = True
        return plane


@pytest.mark.parametrize("saturated", [0.0, 8.0])
@pytest.mark.parametrize("limit", [0.5, 1.5])
def test_all_pixels_in_which_persistence_matters_are_flagged(saturated: float, limit: float) -> None:
    night = Night(1.0, saturated=saturated)
    matters = night.latent > 1.01 * limit * np.sqrt(SKY)
    assert matters.sum() > 50
    assert night.flags(limit)[matters].all()
    if not saturated:
        assert not night.flags(limit)[night.latent < 0.95 * limit * np.sqrt(SKY)].any()


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_strength_is_measured(strength: float, seed: int) -> None:
    found = Night(strength, seed=seed, stars=60).found()
    assert found.strength is not None
    assert found.error is not None
    assert 0.02 < found.error < 0.2
    assert abs(found.strength - strength) < 4 * found.error


def test_persistence_that_is_stronger_than_the_table_is_flagged_further_out() -> None:
    night = Night(4.0, stars=60)
    matters = night.latent > math.sqrt(SKY)
    weak = Night(1.0, stars=60)
    assert night.flags(1.0)[matters].mean() > 0.95
    assert night.flags(1.0).sum() > 1.3 * weak.flags(1.0).sum()


@pytest.mark.parametrize("seed", range(5))
def test_what_is_measurably_absent_is_not_flagged(seed: int) -> None:
    assert not Night(0.0, saturated=8.0, seed=seed, stars=100).flags().any()


def test_few_pixels_decide_nothing() -> None:
    night = Night(0.0, stars=1)
    assert night.found().strength is None
    assert night.flags().any()


def test_a_bright_source_keeps_its_own_pixels() -> None:
    """A field that is exposed twice at one position has each star on its own, weak persistence."""
    night = Night(1.0, saturated=8.0)
    repeated = night.sci.copy()
    star = np.zeros(SHAPE, np.float32)
    star.ravel()[night.before.pixels] = 200000.0
    star[100:110, 100:110] = 0.0
    night.sci = repeated + star
    night.var += star
    night.dq[star > 0] |= np.uint16(DQ.SATURATED)
    assert not night.flags()[star > 0].any()
    night.dq[:] = 0
    known = np.zeros(SHAPE, bool)
    known.ravel()[night.before.pixels[np.isfinite(night.before.charge)]] = True
    assert not night.flags()[(star > 0) & known].any()


def test_unusable_pixels_are_left_as_they_are() -> None:
    night = Night(1.0)
    night.dq[:, :120] = np.uint16(DQ.UNILLUMINATED)
    flags = night.flags()
    assert not flags[:, :120].any()
    assert flags[:, 120:].any()


def test_the_expectation_is_seen_with_the_response() -> None:
    night = Night(1.0)
    response: Any = np.full(len(night.expected.pixels), 0.5, np.float32)
    response[0] = 0.0
    seen = night.expected.seen_with(response)
    np.testing.assert_allclose(seen.electrons[1:], 2 * night.expected.electrons[1:])
    np.testing.assert_allclose(seen.least[1:], 2 * night.expected.least[1:])
    assert seen.electrons[0] == 0
