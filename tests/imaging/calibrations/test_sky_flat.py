"""The flat from the sky of dithered frames: response, sources, variance, and the frames that do not allow one."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.calibrations.sky_flat import SkyFlatParameters, make_sky_flat
from imaging.errors import GroupError
from imaging.simulator.star_field import add_stars

SHAPE = (256, 256)
SKY, DARK, PEDESTAL = 9000.0, 40.0, 65.0
N = 9
STEP = 24  # px between pointings


class Dark:
    """A master dark without noise."""

    def __init__(self) -> None:
        self.header = {"PEDESTAL": PEDESTAL}

    def rows(self, extname: str, rows: slice | None = None):
        fill = {"SCI": (DARK + PEDESTAL, np.float32), "VAR": (0, np.float32), "DQ": (0, np.uint16)}
        value, dtype = fill[extname]
        return np.full(SHAPE, value, dtype)[rows or slice(None)]


@pytest.fixture(scope="module")
def response():
    rng = np.random.default_rng(2)
    yy, xx = np.ogrid[: SHAPE[0], : SHAPE[1]]
    plane = (1 + 0.02 * rng.standard_normal(SHAPE)) * (1 + 0.05 * (xx - 128) / 128 - 0.03 * (yy - 128) / 128)
    plane /= np.median(plane)
    plane[40, 160] = 0.0
    return plane


@pytest.fixture(scope="module")
def field():
    """Return positions and electrons of stars, some of them faint; the last fills many frames' middle."""
    rng = np.random.default_rng(4)
    x, y = rng.uniform(-40, 296, (2, 60))
    return x, y, np.exp(rng.uniform(np.log(3e3), np.log(4e5), 60))


@pytest.fixture
def dithered(expose, response, field):
    def make(n=N, step=STEP, sky=SKY, tilt=0.0, stars=True, **cards):
        frames = []
        xx = np.linspace(-1, 1, SHAPE[1])
        for k in range(n):
            p, q = (k % 3 - 1) * step, (k // 3 % 3 - 1) * step
            light = np.zeros(SHAPE, np.float32)
            if stars:
                add_stars(light, field[0] + q, field[1] + p, field[2], fwhm=4.0, beta=3.5, level=0.02)
            light = light + sky * (1 + 0.1 * np.sin(k)) * (1 + tilt * xx)
            scale = 0.1792
            offsets = {"POFFSET": p * scale, "QOFFSET": q * scale}
            frames += expose(
                light * response + DARK, 1, shape=SHAPE, seed=20 + k, read_noise=6.0,
                **({"OBSTYPE": "OBJECT"} | offsets | cards),
            )  # fmt: skip
        return frames

    return make


def compared(flat, response):
    inside = flat.circle.mask(SHAPE).view(bool) if flat.circle.measured else np.ones(SHAPE, bool)
    good = inside & (flat.image.dq == 0) & (response > 0.5)
    scale = np.median(flat.image.sci[good] / response[good])
    off = flat.image.sci[good] - scale * response[good]
    return off, off / np.sqrt(flat.image.var[good]), good


def test_response_is_at_the_photon_floor_although_stars_cover_parts_of_the_frames(dithered, response):
    flat = make_sky_flat(dithered(), Dark())
    off, pull, good = compared(flat, response)
    assert good.mean() > 0.98
    floor = np.sqrt((SKY * response[good] + DARK + 6.0**2 + 4.44**2 / 12) / N).mean() / SKY
    # Masks and clipping leave fewer values.
    assert 0.03 < flat.metrics.rejected < 0.15
    floor /= np.sqrt(1 - flat.metrics.rejected)
    assert 1.4826 * np.median(np.abs(off)) / floor == pytest.approx(1.0, abs=0.02)
    assert np.std(off) / floor < 1.03
    assert 1.4826 * np.median(np.abs(pull)) == pytest.approx(1.0, abs=0.05)
    assert flat.image.dq[40, 160] != 0
    assert flat.metrics.n_on == N
    assert flat.metrics.n_off == 0
    assert flat.metrics.level == pytest.approx(SKY, rel=0.05)
    assert flat.metrics.drift == pytest.approx(0.2, abs=0.05)
    assert flat.on == tuple(raw.name for raw in dithered())
    assert any("made from the sky" in text for text in flat.warnings)


def test_stars_leave_no_more_than_a_night_without_stars(dithered, response):
    """What stars leave in the response, over blocks of 16 px, is below 0.1 %."""
    means = []
    for stars in (True, False):
        flat = make_sky_flat(dithered(stars=stars), Dark())
        ratio = np.where(flat.image.dq == 0, flat.image.sci / np.where(response > 0.5, response, 1), np.nan)
        means.append(np.nanmean(ratio.reshape(16, 16, 16, 16), axis=(1, 3)))
    with_stars, without = means
    off = with_stars / np.median(with_stars) - without / np.median(without)
    assert np.abs(off).max() < 1e-3


def test_a_gradient_of_the_sky_becomes_part_of_the_response(dithered, response):
    flat = make_sky_flat(dithered(tilt=0.02, stars=False), Dark())
    ratio = np.where(flat.image.dq == 0, flat.image.sci / np.where(response > 0.5, response, 1), np.nan)
    columns = np.nanmean(ratio, axis=0)
    slope = np.polyfit(np.linspace(-1, 1, SHAPE[1]), columns, 1)[0]
    assert slope == pytest.approx(0.02, abs=2e-3)


def test_a_source_in_fewer_than_half_of_the_frames_leaves_nothing(dithered, response):
    frames = dithered(stars=False)
    for raw in frames[:4]:
        raw.adu[100:130, 100:130] += 3000
    flat = make_sky_flat(frames, Dark())
    part = np.s_[98:132, 98:132]
    good = flat.image.dq[part] == 0
    off = (flat.image.sci[part] / response[part] - 1)[good]
    assert np.mean(off) == pytest.approx(0, abs=2e-3)
    assert np.median(flat.image.var[part]) > 1.5 * np.median(flat.image.var[150:190, 98:132])


def test_threads_and_memory_change_nothing(dithered):
    frames = dithered()
    one = make_sky_flat(frames, Dark(), threads=1)
    two = make_sky_flat(frames, Dark(), threads=3, memory=4 * 1024**2)
    for name in ("sci", "var", "dq"):
        assert np.array_equal(getattr(one.image, name), getattr(two.image, name))


def test_a_frame_without_sky_is_left_out_by_name(dithered):
    frames = dithered()
    frames[4].adu //= 10
    flat = make_sky_flat(frames, Dark())
    assert [one.name for one in flat.left_out] == [frames[4].name]
    assert frames[4].name not in flat.on


@pytest.mark.parametrize(
    ("given", "parameters", "text"),
    [
        ({"n": 3}, {}, "3 science frames"),
        ({"step": 0}, {}, "have 1 pointings at least 10 pixels apart"),
        ({"sky": 30.0}, {}, "too faint for a flat"),
        ({"sky": 0.0, "stars": False}, {}, "show the sky above their dark|too faint"),
    ],
)
def test_frames_that_allow_no_flat(dithered, given, parameters, text):
    with pytest.raises(GroupError, match=text):
        make_sky_flat(dithered(**given), Dark(), SkyFlatParameters(**parameters))
