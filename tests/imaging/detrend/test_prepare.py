"""Raw ADU to electrons: the formulas of the reduction, and a simulated detector's noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imaging.detrend.prepare import PrepareParameters, prepare, saturated_islands
from imaging.frames.facts import facts_from_headers
from imaging.pixels.dq import DQ
from imaging.simulator.parameters import NightParameters

camera = NightParameters().camera

CARDS = {
    "INSTRUME": "F2", "OBJECT": "X", "OBSTYPE": "OBJECT", "EXPTIME": 120.0, "COADDS": 1, "LNRS": 8,
    "FILTER1": "Y_G0811", "DATE-OBS": "2013-11-21", "UTSTART": "02:52:48.0",
}  # fmt: skip


def facts_of(**cards):
    return facts_from_headers(CARDS | cards, None, name="S20131121S0075.fits")


@settings(max_examples=150)
@given(
    st.data(),
    st.sampled_from([1, 4, 6, 8]),
    st.sampled_from([1, 3]),
    st.booleans(),
    st.sampled_from([0.0, 65.0]),
    st.sampled_from(["DARK", "OBJECT", "FLAT"]),
)
def test_agrees_with_the_formulas(data, lnrs, coadds, linearise, pedestal, kind):
    facts = facts_of(LNRS=lnrs, COADDS=coadds, OBSTYPE=kind)
    saturation = int(155400 / (4.44 / lnrs)) * coadds
    edges = [saturation - 1, saturation, saturation + 5, int(0.72 * saturation), int(0.72 * saturation) + 1]
    values = st.one_of(st.integers(-3000, 3 * saturation // 2), st.sampled_from(edges))
    raw = data.draw(hnp.arrays(np.int32, (2, 3), elements=values))
    bpm = data.draw(st.none() | hnp.arrays(np.uint8, (2, 3), elements=st.integers(0, 1)))
    lit = data.draw(st.none() | hnp.arrays(np.bool_, (2, 3)))
    before = raw.tobytes()

    sci, var, dq = prepare(
        raw, facts, bpm=bpm, pedestal=pedestal, illuminated=lit, linearise=linearise
    )  # fmt: skip

    assert raw.tobytes() == before
    n = raw * (4.44 / lnrs) / coadds
    c = (0.9999107, -4.2854848e-8, 1.0096585e-12) if linearise else (1.0, 0.0, 0.0)
    electrons = coadds * (c[0] * n + c[1] * n**2 + c[2] * n**3)
    slope = c[0] + 2 * c[1] * n + 3 * c[2] * n**2
    read = {1: 11.7, 4: 6.0, 6: 5.3, 8: 5.0}[lnrs]
    floor = coadds * read**2 + (4.44 / lnrs) ** 2 / 12
    np.testing.assert_allclose(sci, electrons, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(var, floor * slope**2 + np.maximum(electrons - pedestal, 0), rtol=1e-6)
    want = np.where(raw >= saturation, 4, np.where(raw > 0.72 * saturation, 2, 0))
    want |= 0 if bpm is None else bpm
    want |= 0 if lit is None or kind == "DARK" else np.where(lit, 0, 64)
    np.testing.assert_array_equal(dq, want)
    assert (sci.dtype, var.dtype, dq.dtype) == (np.float32, np.float32, np.uint16)


@pytest.mark.parametrize("dtype", [">i4", "<i4", ">i2", "<u2", ">f4", "<f8"])
def test_every_stored_type_gives_the_same(dtype):
    raw = np.array([[0, 17, 1200], [3, 30000, 32767]])
    want = prepare(raw.astype(np.int32), facts_of(), pedestal=65.0)
    got = prepare(raw.astype(dtype), facts_of(), pedestal=65.0)
    for a, b in zip(want, got, strict=True):
        np.testing.assert_array_equal(a, b)


def test_values_that_are_not_finite_are_no_data():
    raw = np.array([[1.0, np.nan, np.inf, -np.inf]], np.float32)
    _, _, dq = prepare(raw, facts_of())
    assert dq.tolist() == [[0, 16, 16, 16]]


def test_linear_limit_is_a_parameter():
    raw = np.array([[100000]], np.int32)
    assert prepare(raw, facts_of())[2] == 0
    assert prepare(raw, facts_of(), parameters=PrepareParameters(linear_fraction=0.3))[2] == DQ.NON_LINEAR


def test_planes_of_another_shape_are_refused():
    raw = np.zeros((2, 3), np.int32)
    with pytest.raises(ValueError, match=r"bpm.*\(3, 2\).*\(2, 3\)"):
        prepare(raw, facts_of(), bpm=np.zeros((3, 2), np.uint8))


@pytest.mark.parametrize("coadds", [1, 3])
@pytest.mark.parametrize("light", [0.0, 300.0, 20000.0, 105000.0])
def test_values_and_variances_are_the_simulated_detectors(expose, light, coadds):
    """A non-linear, noisy, rounding detector is undone without bias, and its scatter agrees with VAR."""
    frame = expose(light, 1, COADDS=coadds, shape=(200, 200))[0]
    sci, var, _ = prepare(frame.adu, frame.facts, pedestal=65.0)
    truth = coadds * light + 65
    pull = (sci - truth) / np.sqrt(var)
    assert abs(pull.mean()) < 4 / 200 + 65 * 1e-2 / np.sqrt(var.mean())
    # Without light a frame's own read noise, where it is positive, counts as shot noise: some per cent too much.
    assert pull.std() == pytest.approx(1, abs=0.02 if light else 0.08)


def test_derivative_for_all_of_the_noise_would_be_wrong(expose):
    """The choice that `prepare` makes, against the alternative, where the two differ most."""
    frame = expose(110000.0, 1, shape=(300, 300))[0]
    sci, var, _ = prepare(frame.adu, frame.facts, pedestal=65.0)
    c1, c2, c3 = camera.nonlinearity
    n = frame.adu * frame.facts.gain
    other = (var - 25 + n - sci) * (c1 + 2 * c2 * n + 3 * c3 * n * n) ** 2
    assert sci.var() / var.mean() == pytest.approx(1, abs=0.015)
    assert sci.var() / other.mean() < 0.96


def saturated(*rows):
    return np.array([[4 if c == "#" else 0 for c in row] for row in rows], np.uint16)


def test_a_blown_core_is_saturated():
    dq = saturated("........", "..###...", ".#...#..", ".#...#..", "..###...", "........")
    dq[2, 3] |= 1
    before = dq.copy()
    got = saturated_islands(dq)
    assert np.argwhere(got).tolist() == [[2, 2], [2, 3], [2, 4], [3, 2], [3, 3], [3, 4]]
    assert set(np.unique(got)) == {0, 4}
    np.testing.assert_array_equal(dq, before)


@pytest.mark.parametrize(
    "rows",
    [
        ("......", "......"),
        ("..#...", "......", "....##", "....##"),  # nothing enclosed
        (".##..", ".#...", ".###."),  # open to the right
        ("#..", ".#.", "..#"),
        ("##...", ".#...", "##..."),  # closed by the frame's border only
    ],
)
def test_pixels_that_are_not_enclosed_are_no_island(rows):
    assert saturated_islands(saturated(*rows)) is None


def test_a_rim_may_touch_at_corners():
    assert np.argwhere(saturated_islands(saturated("..#..", ".#.#.", "..#.."))).tolist() == [[1, 2]]


def test_a_large_hole_is_sky():
    dq = np.zeros((60, 60), np.uint16)
    dq[10:50, 10:50] = 4
    dq[12:48, 12:48] = 0
    assert saturated_islands(dq, largest=36 * 36 - 1) is None
    assert np.count_nonzero(saturated_islands(dq, largest=36 * 36)) == 36 * 36


@settings(max_examples=60)
@given(hnp.arrays(np.bool_, (9, 11)))
def test_islands_are_the_background_that_cannot_reach_the_border(plane):
    reached = np.zeros((11, 13), bool)
    free = np.pad(~plane, 1, constant_values=True)
    reached[0, 0] = True
    for _ in range(60):
        grown = reached.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        reached = grown & free
    want = free & ~reached
    got = saturated_islands(np.where(plane, 4, 0).astype(np.uint16))
    np.testing.assert_array_equal(np.zeros_like(plane) if got is None else got != 0, want[1:-1, 1:-1])


def test_pixels_without_data_are_flagged_and_zero():
    raw = np.random.default_rng(1).normal(5000, 100, (40, 128)).astype(np.int32)
    raw[30:, 64:] = 12
    raw[2, 3] = -(2**31)
    sci, var, dq = prepare(raw, facts_of())
    lost = np.zeros(raw.shape, bool)
    lost[30:, 64:] = lost[2, 3] = True
    np.testing.assert_array_equal(dq, np.where(lost, DQ.NO_DATA, 0))
    assert (sci[lost] == 0).all()
    assert np.isfinite(var).all()
    blank = raw.astype(np.float32)
    blank[lost] = np.nan
    for ours, theirs in zip(prepare(blank, facts_of()), (sci, var, dq), strict=True):
        np.testing.assert_array_equal(ours, theirs)
