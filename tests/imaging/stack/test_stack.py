"""Stacking: cosmic rays go, stars stay intact, VAR and figures are true, one result for any band."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from imaging.errors import GroupError
from imaging.frames.facts import FrameFacts
from imaging.header import Header
from imaging.io.planes import Planes, write_planes
from imaging.pixels.combine import CombineParameters, combine
from imaging.pixels.dq import DQ, UNUSABLE
from imaging.registration.distortion.camera_distortion import Distortion
from imaging.registration.geometry import Affine, make_grid
from imaging.registration.resampling.resample import ResampleParameters, array_source, resample_rows
from imaging.stack.psf_matching import STRAIGHT
from imaging.stack.rejection import _match_all
from imaging.stack.stack import StackInput, StackParameters, make_stack
from imaging.stack.template import make_template, sort_frames

START = datetime(2013, 11, 21, 2, 0, tzinfo=UTC)
SKY_SIGMA = 45.0
SHAPE = (210, 220)


def facts(i, exposure_time=120.0):
    return FrameFacts(
        name=f"f{i}", instrument="F2", kind="object", observation_class="science", target="W",
        exposure_time=exposure_time, coadds=1, read_pairs=1, filter_id="Y", filter="Y", lyot="f",
        focal_mask="Open", disperser="Open", detector="H2",
        airmass=1.0 + 0.1 * i, started=START + timedelta(seconds=130 * i),
    )  # fmt: skip


def stored(folder, i, sci, var=None, dq=None, *, transform=None, exposure_time=120.0, **more):
    var = np.full(sci.shape, SKY_SIGMA**2) if var is None else var
    dq = np.zeros(sci.shape, np.uint16) if dq is None else dq
    folder = write_planes(
        folder / f"f{i}", {"sci": sci.astype(np.float32), "var": var.astype(np.float32), "dq": dq}
    )
    return StackInput(f"f{i}", Planes(folder), transform or Affine(), facts(i, exposure_time), **more)


def grid_of(inputs):
    shapes = [f.planes.shape("sci") for f in inputs]
    return make_grid([f.transform for f in inputs], shapes, Header())


def stars(shape, positions, flux, fwhm, dx, dy):
    """Gaussian stars, sampled at the pixels' centres (their sum is the flux to 1e-6 at this width)."""
    sigma = fwhm / 2.3548
    y, x = np.mgrid[: shape[0], : shape[1]]
    out = np.zeros(shape)
    for px, py in positions:
        r2 = (x - px - dx) ** 2 + (y - py - dy) ** 2
        out += flux / (2 * np.pi * sigma**2) * np.exp(-r2 / 2 / sigma**2)
    return out


POSITIONS = [(40 + 45 * i + 0.13 * j, 40 + 43 * j + 0.21 * i) for i in range(4) for j in range(4)]


def night(folder, rng, *, flux=3e5, seeing=0.1, rays=0, jitter=0.05, n=9, **options):
    """Dithered frames: seeing that varies, shifts known to ``jitter`` pixels, cosmic rays."""
    inputs, hits = [], []
    for i in range(n):
        dx, dy = 7.3 * (i % 3), 6.7 * (i // 3)
        fwhm = 4.0 * (1 + seeing * (2 * i / max(n - 1, 1) - 1))
        light = stars(SHAPE, POSITIONS, flux, fwhm, dx - 8, dy - 8)
        sci = light + rng.normal(0, SKY_SIGMA, SHAPE) + rng.normal(0, 1, SHAPE) * np.sqrt(light)
        var = SKY_SIGMA**2 + light
        for _ in range(rays):
            y, x = rng.integers(30, 180, 2)
            strength = rng.uniform(1500, 20000)
            sci[y, x] += strength
            var[y, x] += strength
            hits.append((x - dx, y - dy))
        transform = Affine.shift(-dx + rng.normal(0, jitter), -dy + rng.normal(0, jitter))
        inputs.append(stored(folder, i, sci, var, transform=transform, **options))
    return inputs, hits


def aperture(result, grid, x, y, radius=11):
    v, u = np.mgrid[: result.sci.shape[0], : result.sci.shape[1]]
    inside = np.hypot(u + grid.origin[0] - x, v + grid.origin[1] - y) < radius
    return float(result.sci[inside].sum(dtype=float))


def test_bright_stars_keep_their_flux_while_seeing_varies_and_cosmic_rays_go(tmp_path):
    rng = np.random.default_rng(17)
    inputs, hits = night(tmp_path, rng, rays=40)
    grid = grid_of(inputs)
    result = make_stack(inputs, grid)
    plain = make_stack(inputs, grid, parameters=StackParameters(reject="none"))
    centres = [(x - 8, y - 8) for x, y in POSITIONS]
    ratio = [aperture(result, grid, x, y) / 3e5 for x, y in centres]
    noise = SKY_SIGMA * np.sqrt(np.pi) * 11 / 3 / 3e5
    assert np.median(ratio) == pytest.approx(1.0, abs=0.002)
    assert np.std(ratio) < 3 * np.hypot(noise, 1 / np.sqrt(9 * 3e5))
    off_stars = [(x, y) for x, y in hits if min(np.hypot(x - a, y - b) for a, b in centres) > 14]
    rows = np.array([round(y) - grid.origin[1] for _, y in off_stars])
    columns = np.array([round(x) - grid.origin[0] for x, _ in off_stars])
    assert len(rows) > 150
    pull = np.abs(result.sci[rows, columns]) / np.sqrt(result.var[rows, columns])
    assert np.mean(pull > 5) < 0.01
    assert np.mean(np.abs(plain.sci[rows, columns]) / np.sqrt(plain.var[rows, columns]) > 5) > 0.5
    assert result.metrics.rejected > len(hits)


def test_no_star_is_rejected_without_cosmic_rays(tmp_path):
    """Rejected values follow the normal tail, on stars as on sky."""
    inputs, _ = night(tmp_path, np.random.default_rng(2), seeing=0.1)
    result = make_stack(inputs, grid_of(inputs))
    full = result.count >= 8
    near = np.zeros_like(full)
    grid = grid_of(inputs)
    v, u = np.mgrid[: full.shape[0], : full.shape[1]]
    for x, y in POSITIONS:
        near |= np.hypot(u + grid.origin[0] - x + 8, v + grid.origin[1] - y + 8) < 3
    assert near.sum() > 300
    assert np.all(result.count[near] >= 8)
    assert 2e-6 < result.metrics.rejected_share < 1e-4  # 7e-6 for normal noise about a known mean


def test_equals_resampling_complete_frames_and_combining(tmp_path):
    rng = np.random.default_rng(5)
    inputs = []
    for i in range(4):
        dq = np.where(rng.random((90, 110)) < 0.02, DQ.BAD_PIXEL, 0).astype(np.uint16)
        turn = Affine(
            np.cos(0.001 * i), -np.sin(0.001 * i), np.sin(0.001 * i), np.cos(0.001 * i), 3.3 * i, -2.6 * i
        )
        inputs.append(stored(tmp_path, i, rng.normal(0, SKY_SIGMA, (90, 110)), dq=dq, transform=turn))
    grid = grid_of(inputs)
    result = make_stack(inputs, grid, parameters=StackParameters(reject="none"))
    whole = [
        resample_rows(
            array_source(*(f.planes.rows(p) for p in ("sci", "var", "dq"))), (90, 110),
            grid.place(f.transform), slice(0, grid.shape[0]), grid.shape[1],
        )
        for f in inputs
    ]  # fmt: skip
    planes = [np.stack(p) for p in zip(*whole, strict=True)]
    expected = combine(*planes, CombineParameters(reject="none"))
    for name in ("sci", "var"):
        np.testing.assert_allclose(getattr(result, name), getattr(expected, name), rtol=1e-5, atol=1e-4)
    assert np.array_equal(result.dq, expected.dq)
    assert np.array_equal(result.count, expected.count)


def test_distorted_frames_become_a_stack_without_distortion(tmp_path, monkeypatch):
    """No pixel of a star is rejected, and a star is as bright as it would be."""
    rng = np.random.default_rng(2)
    distortion = Distortion.radial(SHAPE, 0.004)
    places = np.array(POSITIONS, float)
    inputs = []
    for i in range(6):
        dx, dy = 7.3 * (i % 3) - 8, 6.7 * (i // 3) - 8
        x, y = distortion.inverse(*(places + np.array([dx, dy])).T)
        light = np.zeros(SHAPE)
        for a, b, area in zip(x, y, distortion.area(x, y), strict=True):
            light += stars(SHAPE, [(a, b)], 3e5 / area, 4.0, 0, 0)
        sci = light + rng.normal(0, SKY_SIGMA, SHAPE) + rng.normal(0, 1, SHAPE) * np.sqrt(light)
        inputs.append(
            stored(
                tmp_path,
                i,
                sci,
                SKY_SIGMA**2 + light,
                transform=Affine.shift(-dx, -dy),
                distortion=distortion,
                seeing=4.0,
                noise=SKY_SIGMA,
            )
        )
    transforms = [one.transform for one in inputs]
    grid = make_grid(transforms, [SHAPE] * len(inputs), Header(), undistorted=distortion)
    result = make_stack(inputs, grid)
    assert result.metrics.rejected < 30
    fluxes = [aperture(result, grid, x, y) for x, y in POSITIONS]
    assert np.median(fluxes) == pytest.approx(3e5, rel=0.005)
    assert np.std(fluxes) < 0.01 * 3e5
    assert result.metrics.noise_correlation > 1.03

    def slopes():
        """How much the stars of each frame differ from the median, as a fraction of their gradient."""
        frames = sort_frames(inputs, grid, np.ones(len(inputs)), ResampleParameters(), 1, 1 << 28)
        return [matched.slope for matched in _match_all(frames, make_template(frames))]

    assert max(slopes()) < 0.03
    monkeypatch.setattr(Distortion, "expanded", lambda _: STRAIGHT)
    assert min(slopes()) > 0.05


def test_threads_and_memory_change_no_bit(tmp_path):
    inputs, _ = night(tmp_path, np.random.default_rng(1), rays=20, n=4)
    grid = grid_of(inputs)
    one, two = (make_stack(inputs, grid, threads=t, memory=m) for t, m in ((1, 1 << 30), (3, 1)))
    for plane in ("sci", "var", "dq", "count"):
        assert getattr(one, plane).tobytes() == getattr(two, plane).tobytes()
    assert one.metrics == two.metrics


def test_variance_and_noise_correlation_predict_the_scatter_of_pixels_and_of_bins(tmp_path):
    rng = np.random.default_rng(7)
    inputs, _ = night(tmp_path, rng, flux=0.0)
    grid = grid_of(inputs)
    result = make_stack(inputs, grid)
    inner = (slice(30, 190), slice(30, 190))
    assert np.std(result.sci[inner] / np.sqrt(result.var[inner])) == pytest.approx(1.0, abs=0.02)
    bins = result.sci[inner].reshape(20, 8, 20, 8).mean(axis=(1, 3), dtype=float)
    said = np.sqrt(result.var[inner].mean() / 64) * result.metrics.noise_correlation
    assert result.metrics.noise_correlation > 1.03
    assert np.std(bins) / said == pytest.approx(1.0, abs=0.08)
    assert result.metrics.background_rms == pytest.approx(np.std(result.sci[inner]), rel=0.03)


def test_scaling_by_exposure_and_by_stars(tmp_path):
    level = np.full((40, 40), 100.0)
    short = stored(tmp_path, 0, level, exposure_time=60.0, flux_scale=1.0)
    long = stored(tmp_path, 1, 3 * level, exposure_time=120.0, flux_scale=3.0)
    grid = grid_of([short, long])

    def middle(**options):
        parameters = StackParameters(reject="none", **options)
        result = make_stack([short, long], grid, parameters=parameters, reference="f0")
        return float(result.sci[20, 20]), float(result.var[20, 20]), result.metrics.scales["f1"]

    v = SKY_SIGMA**2
    assert middle() == pytest.approx((125.0, v * (1 + 1 / 4) / 4, 0.5))
    assert middle(scale="stars") == pytest.approx((100.0, v * (1 + 1 / 9) / 4, 1 / 3))
    assert middle(scale="none") == pytest.approx((200.0, v / 2, 1.0))


def test_weights_by_noise_and_seeing_and_the_exposures_that_follow(tmp_path):
    good = stored(tmp_path, 0, np.full((40, 40), 10.0), noise=10.0, seeing=3.0)
    poor = stored(
        tmp_path, 1, np.full((40, 40), 40.0), np.full((40, 40), 400.0), noise=20.0, seeing=6.0,
        exposure_time=60.0,
    )  # fmt: skip
    grid = grid_of([good, poor])
    equal = make_stack([good, poor], grid, parameters=StackParameters(scale="none", weights="none")).metrics
    # The mean of both has the variance (10^2 + 20^2) / 4: that of 0.8 such frames as the reference.
    assert (equal.total_exposure, equal.effective_exposure) == pytest.approx((180.0, 120 * 0.8))
    assert (equal.ncombine, equal.mean_airmass) == (2, pytest.approx(1.05))
    assert (equal.started, equal.ended) == (START, START + timedelta(seconds=190))
    for name, share in (("noise", 0.8), ("point_source", 16 / 17)):
        parameters = StackParameters(scale="none", weights=name)
        result = make_stack([good, poor], grid, parameters=parameters)
        assert result.metrics.weights == pytest.approx({"f0": share, "f1": 1 - share})
        assert result.sci[20, 20] == pytest.approx(10 * share + 40 * (1 - share))
        expected = 120 / (share**2 + 4 * (1 - share) ** 2)
        assert result.metrics.effective_exposure == pytest.approx(expected)


def test_flags_and_coverage_of_a_union(tmp_path):
    sci = np.full((60, 60), 5.0)
    dq = np.zeros((60, 60), np.uint16)
    dq[30, 30] = DQ.BAD_PIXEL
    inputs = [stored(tmp_path, 0, sci, dq=dq), stored(tmp_path, 1, sci, dq=dq, transform=Affine.shift(20, 0))]
    result = make_stack(inputs, grid_of(inputs))
    assert result.sci.shape == (60, 80)
    assert set(np.unique(result.count[5:55, 25:55])) == {1, 2}
    assert result.count[30, 30] == result.count[30, 50] == 1
    assert np.all((result.dq & UNUSABLE) == 0)
    alone = make_stack(inputs[:1], grid_of(inputs[:1]))
    assert alone.dq[30, 30] & DQ.BAD_PIXEL
    assert alone.metrics.noise_correlation == pytest.approx(1.0)


def test_what_cannot_be_stacked_is_refused(tmp_path):
    frame = stored(tmp_path, 0, np.zeros((40, 40)), flux_scale=float("nan"))
    grid = grid_of([frame])
    with pytest.raises(GroupError, match="No frame"):
        make_stack([], grid)
    with pytest.raises(GroupError, match="reference nobody is not among"):
        make_stack([frame], grid, reference="nobody")
    with pytest.raises(GroupError, match="No flux scale for f0"):
        make_stack([frame], grid, parameters=StackParameters(scale="stars"))


def test_median_and_interpolant_by_name(tmp_path):
    inputs, _ = night(tmp_path, np.random.default_rng(3), n=5, flux=0.0)
    grid = grid_of(inputs)
    inner = (slice(30, 190), slice(30, 190))
    mean, median = (
        make_stack(inputs, grid, ResampleParameters(interpolant="nearest"), StackParameters(operation=how))
        for how in ("mean", "median")
    )
    assert np.std(median.sci[inner]) / np.std(mean.sci[inner]) == pytest.approx(np.sqrt(1.434), rel=0.03)
    assert mean.metrics.noise_correlation == pytest.approx(1.0)
