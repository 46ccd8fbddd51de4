"""The combine kernel against a slow reference, against ccdproc, and against noise theory."""

from __future__ import annotations

import math

import ccdproc
import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from astropy.stats import sigma_clip
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import gammaln, log_ndtr

from imaging.pixels.bands import run_bands
from imaging.pixels.combine import CombineParameters, _sorting_network, combine, median_factor
from imaging.pixels.dq import DQ, LEVELS

BITS = [0, 0, 0, 0, DQ.NON_LINEAR, DQ.SATURATED, *LEVELS, DQ.BAD_PIXEL | DQ.UNILLUMINATED, DQ.COSMIC_RAY | 4]


def level(bits: int) -> int:
    return max((k + 1 for k, bit in enumerate(LEVELS) if bits & bit), default=0)


def kept(values: np.ndarray, variances: np.ndarray, p: CombineParameters, n: int) -> np.ndarray:
    """Indices of the values that the rejection leaves, by the definitions in plain numpy."""
    index = np.arange(len(values))
    reject = p.rejection_for(n)
    if reject == "minmax":
        low, high = ((k * len(values) + n // 2) // n for k in (p.nlow, p.nhigh))
        while low + high >= len(values):
            low, high = (low - 1, high) if low >= high else (low, high - 1)
        order = np.argsort(values, kind="stable")
        dropped_low = order[:low]
        rest = [i for i in index if i not in dropped_low]
        rest.sort(key=lambda i: (-values[i], i))
        return np.array(sorted(rest[high:]), dtype=int)
    for _ in range(p.max_iterations if reject in ("sigma", "variance") else 0):
        x = values[index].astype(float)
        off = x - np.median(x)
        if reject == "sigma":
            sigma = np.full(len(x), x.std())
        else:
            v = variances[index].astype(float)
            sigma = np.sqrt(np.full(len(x), np.median(v)) if p.pool_variance else v)
        good = (off >= -p.low * sigma) & (off <= p.high * sigma)
        if not good.any():
            return index[np.abs(off) == np.abs(off).min()]
        if good.all():
            break
        index = index[good]
    return index


def reference(values, variances, dq, p, weights, scale, zero):
    """One pixel: value, variance, dq, count."""
    n = len(values)
    values = (scale * values + zero).astype(np.float32)
    variances = (scale**2 * variances).astype(np.float32)
    levels = [level(b) if np.isfinite(x + v) else 99 for x, v, b in zip(values, variances, dq, strict=True)]
    if min(levels) == 99:
        return 0.0, 0.0, int(np.bitwise_or.reduce(dq)) | DQ.NO_DATA, 0
    chosen = np.flatnonzero(np.array(levels) == min(levels))
    chosen = chosen[kept(values[chosen], variances[chosen], p, n)]
    x, v, w = values[chosen].astype(float), variances[chosen].astype(float), weights[chosen]
    bits = int(np.bitwise_or.reduce(dq[chosen]))
    if p.operation == "median":
        return np.median(x), v.sum() / len(x) ** 2 * median_factor(len(x)), bits, len(x)
    return (w * x).sum() / w.sum(), (w * w * v).sum() / w.sum() ** 2, bits, len(x)


#: Values on a grid that is coarse enough for ties, with an outlier or no value now and then.
VALUES = st.one_of(st.integers(-8, 8).map(float), st.sampled_from([0.1, 500.0, -300.0, math.nan, math.inf]))


@st.composite
def stacks(draw):
    n, nx = draw(st.integers(1, 13)), draw(st.sampled_from([1, 3]))
    shape = (n, 1, nx)
    sci = draw(hnp.arrays(np.float32, shape, elements=VALUES, fill=st.nothing()))
    var = draw(hnp.arrays(np.float32, shape, elements=st.sampled_from([0.0, 0.25, 1.0, 4.0, math.nan])))
    dq = draw(hnp.arrays(np.uint16, shape, elements=st.sampled_from([int(b) for b in BITS])))
    return sci, var, dq


@settings(max_examples=400)
@given(
    stacks(),
    st.builds(
        CombineParameters,
        operation=st.sampled_from(["mean", "wmean", "median"]),
        reject=st.sampled_from(["none", "minmax", "sigma", "variance", "auto"]),
        low=st.sampled_from([0.4, 1.1, 3.0]),
        high=st.sampled_from([0.4, 1.1, 3.0]),
        max_iterations=st.integers(1, 4),
        nlow=st.integers(0, 3),
        nhigh=st.integers(0, 3),
        pool_variance=st.booleans(),
    ),
    st.booleans(),
)
def test_every_pixel_agrees_with_the_plain_reference(stack, p, rescaled):
    sci, var, dq = stack
    n = len(sci)
    weights = 1.0 + np.arange(n) % 3
    scale, zero = (
        (1 + 0.25 * (np.arange(n) % 2), -0.5 * np.arange(n)) if rescaled else (np.ones(n), np.zeros(n))
    )
    before = sci.tobytes(), var.tobytes(), dq.tobytes()
    got = combine(
        sci, var, dq, p,
        weights=weights if p.operation == "wmean" else None,
        scale=scale if rescaled else None,
        zero=zero if rescaled else None,
    )  # fmt: skip
    assert before == (sci.tobytes(), var.tobytes(), dq.tobytes())
    if p.operation != "wmean":
        weights = np.ones(n)
    for k in range(sci.shape[2]):
        want = reference(sci[:, 0, k], var[:, 0, k], dq[:, 0, k], p, weights, scale, zero)
        assert int(got.count[0, k]) == want[3]
        assert int(got.dq[0, k]) == want[2]
        np.testing.assert_allclose([got.sci[0, k], got.var[0, k]], want[:2], rtol=1e-6, atol=1e-7)


def noisy(n: int, shape=(40, 50), seed=1, outliers=0.05):
    rng = np.random.default_rng(seed)
    sci = rng.normal(1000, 5, (n, *shape))
    hit = rng.random(sci.shape) < outliers
    sci[hit] += rng.choice([-400.0, 300.0, 5000.0], hit.sum())
    return sci.astype(np.float32), np.full(sci.shape, 25, np.float32), np.zeros(sci.shape, np.uint16)


@pytest.mark.parametrize("n", [5, 8, 10, 25])
@pytest.mark.parametrize("operation", ["mean", "median"])
@pytest.mark.parametrize("reject", ["none", "sigma"])
def test_agrees_with_ccdproc(n, operation, reject):
    """Ccdproc's combine clips once, about the mean by default."""
    sci, var, dq = noisy(n)
    got = combine(sci, var, dq, CombineParameters(operation=operation, reject=reject, max_iterations=1))
    theirs = ccdproc.combine(
        [CCDData(x.astype(float), unit=u.electron) for x in sci],
        method="average" if operation == "mean" else operation,
        sigma_clip=reject == "sigma",
        sigma_clip_low_thresh=3,
        sigma_clip_high_thresh=3,
        sigma_clip_func="median",
        sigma_clip_dev_func="std",
    )
    np.testing.assert_allclose(got.sci, np.asarray(theirs.data), rtol=2e-7)
    assert (got.count < n).any() == (reject == "sigma" and n >= 8)


@pytest.mark.parametrize("n", [9, 25])
def test_iterated_clip_agrees_with_astropy(n):
    sci, var, dq = noisy(n, outliers=0.1)
    theirs = sigma_clip(sci.astype(float), sigma=3, maxiters=5, cenfunc="median", stdfunc="std", axis=0)
    got = combine(sci, var, dq, CombineParameters(reject="sigma", max_iterations=5))
    once = combine(sci, var, dq, CombineParameters(reject="sigma", max_iterations=1))
    np.testing.assert_array_equal(got.count, n - theirs.mask.sum(axis=0))
    np.testing.assert_allclose(got.sci, theirs.mean(axis=0).data, rtol=2e-7)
    assert got.count.sum() < once.count.sum()


def exact_median_factor(n: int) -> float:
    """The integral of the tabulated constant, on a grid."""
    m = np.linspace(-8, 8, 1601)[:, None]
    phi = lambda x: -0.5 * x * x - 0.5 * math.log(2 * math.pi)  # noqa: E731
    if n % 2:
        k = (n - 1) // 2
        log = gammaln(n + 1) - 2 * gammaln(k + 1) + k * (log_ndtr(m) + log_ndtr(-m)) + phi(m)
        density = np.exp(log)[:, 0]
    else:
        k, (x, w) = n // 2, np.polynomial.legendre.leggauss(200)
        half = min(8.0, 24 / math.sqrt(n)) / 2
        apart = half * (x + 1)
        log = math.log(2) + gammaln(n + 1) - 2 * gammaln(k) + phi(m - apart) + phi(m + apart)
        log = log + (k - 1) * (log_ndtr(m - apart) + log_ndtr(-m - apart))
        density = (np.exp(log) * w * half).sum(axis=1)
    return float(n * (density * m[:, 0] ** 2).sum() / density.sum())


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 8, 9, 10, 17, 30, 49, 50])
def test_median_factors_are_the_integrals(n):
    assert median_factor(n) == pytest.approx(exact_median_factor(n) if n > 1 else 1.0, abs=6e-6)


@pytest.mark.parametrize("n", [51, 52, 99, 100])
def test_median_factors_beyond_the_table(n):
    assert median_factor(n) == pytest.approx(exact_median_factor(n), rel=5e-4)


@pytest.mark.parametrize("n", [3, 4, 9, 10])
@pytest.mark.parametrize("operation", ["mean", "median"])
@pytest.mark.parametrize("reject", ["none", "variance"])
def test_stated_variance_is_the_scatter(n, operation, reject):
    sci, var, dq = noisy(n, shape=(200, 200), outliers=0)
    got = combine(sci, var, dq, CombineParameters(operation=operation, reject=reject))
    pull = (got.sci - 1000) / np.sqrt(got.var)
    assert pull.std() == pytest.approx(1, abs=0.015 if reject == "none" else 0.03)
    assert abs(pull.mean()) < 4 / 200


def test_weighted_mean_is_the_best_of_unequal_frames():
    rng = np.random.default_rng(5)
    sigma = np.array([2.0, 2.0, 10.0])
    sci = (rng.normal(size=(3, 200, 200)) * sigma[:, None, None]).astype(np.float32)
    var = np.broadcast_to((sigma**2)[:, None, None], sci.shape).astype(np.float32)
    dq = np.zeros(sci.shape, np.uint16)
    p = CombineParameters(operation="wmean", reject="none")
    got = combine(sci, var, dq, p, weights=1 / sigma**2)
    assert got.sci.std() == pytest.approx((1 / sigma**2).sum() ** -0.5, rel=0.015)
    assert (got.sci / np.sqrt(got.var)).std() == pytest.approx(1, rel=0.015)


@pytest.mark.parametrize("n", [3, 4, 6, 7])
def test_one_outlier_goes_even_from_a_small_stack(n):
    sci, var, dq = noisy(n, outliers=0)
    sci[1] += 100
    auto = combine(sci, var, dq)
    assert (auto.count < n).all()
    assert auto.sci.mean() == pytest.approx(1000, abs=0.5)
    sigma = combine(sci, var, dq, CombineParameters(reject="sigma"))
    assert (sigma.count == n).all()  # the reason for `auto`


@pytest.mark.parametrize(("threshold", "few"), [(3.0, 10), (4.0, 19)])
def test_auto_changes_over_where_a_sigma_clip_rejects_outliers(threshold, few):
    p = CombineParameters(low=threshold, high=threshold)
    assert p.rejection_for(1) == p.rejection_for(few) == "variance"
    assert p.rejection_for(few + 1) == p.rejection_for(100) == "sigma"


@pytest.mark.parametrize("n", [4, 14, 15, 16, 19, 20, 30])
@pytest.mark.parametrize("outlier", [30, 150])
def test_a_cosmic_ray_is_rejected_whatever_the_number_of_frames(n, outlier):
    sci, var, dq = noisy(n, outliers=0)
    sci[1] += outlier * np.sqrt(var[1])
    got = combine(sci, var, dq, CombineParameters(low=4.0, high=4.0))
    assert (got.count < n).all()
    assert np.abs(got.sci - 1000).max() < 6 * np.sqrt(var[0, 0, 0] / n)


@pytest.mark.parametrize(("threshold", "most"), [(3.0, 1.09), (4.0, 1.015)])
@pytest.mark.parametrize("n", [3, 4, 6])
def test_clipping_costs_what_is_documented(n, threshold, most):
    sci, var, dq = noisy(n, shape=(400, 400), outliers=0)
    p = CombineParameters(reject="variance", low=threshold, high=threshold)
    assert combine(sci, var, dq, p).sci.var() / (25 / n) < most


def test_pooled_variances_take_the_bias_of_clipping_low_counts_away():
    rng = np.random.default_rng(8)
    sci = rng.normal(35, math.sqrt(35 + 25), (4, 300, 300)).astype(np.float32)
    var = (25 + np.maximum(sci, 0)).astype(np.float32)
    dq = np.zeros(sci.shape, np.uint16)
    own = combine(sci, var, dq, CombineParameters()).sci.mean() - sci.mean()
    pooled = combine(sci, var, dq, CombineParameters(pool_variance=True)).sci.mean() - sci.mean()
    assert own > 0.1
    assert abs(pooled) < 0.03


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 11, 16, 37])
def test_sorting_networks_sort(n):
    """A network that sorts every sequence of zeros and ones sorts everything (the 0-1 principle)."""
    rng = np.random.default_rng(n)
    rows = [(np.arange(2**n)[:, None] >> np.arange(n)) & 1] if n <= 16 else [rng.integers(0, 2, (50000, n))]
    x = rows[0].astype(np.int8)
    for i, j in _sorting_network(n):
        x[:, i], x[:, j] = np.minimum(x[:, i], x[:, j]), np.maximum(x[:, i], x[:, j])
    assert (np.diff(x, axis=1) >= 0).all()


def test_bands_and_threads_do_not_change_a_bit():
    sci, var, dq = noisy(9, shape=(61, 333))
    dq[np.random.default_rng(3).random(dq.shape) < 0.01] = 1
    whole = combine(sci, var, dq)
    for rows, threads in ((61, 1), (7, 2), (1, 2)):
        out = [np.zeros_like(plane) for plane in whole]

        def work(band: slice, out=out) -> None:
            for plane, part in zip(out, combine(sci[:, band], var[:, band], dq[:, band]), strict=True):
                plane[band] = part

        run_bands(work, 61, rows_per_band=rows, threads=threads)
        assert all(a.tobytes() == b.tobytes() for a, b in zip(whole, out, strict=True))


@pytest.mark.parametrize(
    ("kwargs", "word"),
    [
        ({"weights": [1, 1, 1]}, "wmean"),
        ({"parameters": CombineParameters(operation="wmean")}, "weights"),
        ({"parameters": CombineParameters(operation="wmean"), "weights": [1, 0, 1]}, "greater than 0"),
        ({"scale": [1, 2]}, "scale"),
        ({"zero": [1, 2, math.nan]}, "zero"),
    ],
)
def test_nonsense_is_refused(kwargs, word):
    planes = noisy(3)
    with pytest.raises(ValueError, match=word):
        combine(*planes, **kwargs)


def test_wrong_shapes_and_types_are_refused():
    sci, var, dq = noisy(3)
    with pytest.raises(ValueError, match="one shape"):
        combine(sci, var[:2], dq)
    with pytest.raises(ValueError, match="float64"):
        combine(sci.astype(float), var, dq)


@pytest.mark.parametrize("operation", ["mean", "wmean", "median"])
@pytest.mark.parametrize("reject", ["none", "minmax", "sigma", "variance"])
def test_complete_blocks_and_single_pixels_are_computed_alike(operation, reject):
    """A bit that is a level sends every pixel down the way of the single pixel; all at one level change nothing."""
    sci, var, dq = noisy(9, shape=(3, 777), outliers=0.02)
    p = CombineParameters(operation=operation, reject=reject, nlow=2, nhigh=1)
    weights = np.arange(1.0, 10.0) if operation == "wmean" else None
    blocks = combine(sci, var, dq, p, weights=weights)
    pixels = combine(sci, var, dq | DQ.BAD_PIXEL.value, p, weights=weights)
    for plane in ("sci", "var", "count"):
        assert getattr(blocks, plane).tobytes() == getattr(pixels, plane).tobytes()
    assert (pixels.dq == DQ.BAD_PIXEL).all()
    assert not blocks.dq.any()
