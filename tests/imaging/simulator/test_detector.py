"""The simulated array: linearity, saturation, reads, defects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.simulator import detector as d
from imaging.simulator.parameters import NightParameters

camera = NightParameters().camera

SIZE = 128
NO_HITS = (np.empty(0, np.int64), np.empty(0))


def _plain(*, dark: float = 0.0, offset: float = 0.0, response: float = 1.0) -> d.Detector:
    full = [np.full((SIZE, SIZE), v, np.float32) for v in (dark, offset, response)]
    return d.Detector(*full, np.ones((SIZE, SIZE), bool), np.zeros((SIZE, SIZE), np.uint8))


def _expose(array: d.Detector, level: float, **more) -> np.ndarray:
    options = {"exposure_time": 1.0, "read_pairs": 1, "coadds": 1, "key": 11, "hits": NO_HITS} | more
    scene = options.pop("scene", np.zeros((SIZE, SIZE), np.float32))
    return d.expose(array, d.Light(level), camera=camera, scene=scene, **options)


@given(st.floats(-3000.0, 1.0 * camera.well_depth))
def test_delinearise_is_the_exact_inverse_of_the_cubic(electrons: float) -> None:
    c1, c2, c3 = camera.nonlinearity
    n = d.delinearise(electrons, *camera.nonlinearity)
    assert ((c3 * n + c2) * n + c1) * n == pytest.approx(electrons, abs=1e-7)


def test_the_array_clips_at_its_well_and_a_blown_core_reads_low() -> None:
    saturated = camera.well_depth
    well, numbers = d.Well.of(camera), d.array_numbers(camera)
    assert d.report(1.3 * saturated, numbers) == well.clip > saturated
    assert d.report(20 * saturated, numbers) == well.blown_level < 0.5 * saturated
    levels = [d.report(x, numbers) for x in np.linspace(0, 2 * saturated, 300)]
    assert (np.diff(levels) >= 0).all()


@pytest.mark.parametrize("read_pairs", [1, 4, 6, 8])
@pytest.mark.parametrize("coadds", [1, 3])
def test_noise_of_a_flat_frame_is_shot_read_and_rounding_noise(read_pairs: int, coadds: int) -> None:
    mean, pedestal = 2900.0, 65.0
    adu = _expose(_plain(offset=pedestal), mean, read_pairs=read_pairs, coadds=coadds)
    electrons = adu * camera.gain(read_pairs)
    slope = 1 / (
        d.delinearise(mean + 0.5, *camera.nonlinearity) - d.delinearise(mean - 0.5, *camera.nonlinearity)
    )
    expected = (
        coadds * mean / slope**2
        + camera.read_noise(read_pairs, coadds) ** 2
        + camera.gain(read_pairs) ** 2 / 12
    )
    assert electrons.var() == pytest.approx(expected, rel=5 * np.sqrt(2 / SIZE**2))
    level = coadds * d.delinearise(mean + pedestal, *camera.nonlinearity)
    assert electrons.mean() == pytest.approx(level, abs=5 * np.sqrt(expected) / SIZE)


def test_the_pedestal_has_no_shot_noise_and_reads_may_be_negative() -> None:
    dark = _expose(_plain(offset=0.0), 0.0)
    lifted = _expose(_plain(offset=65.0), 0.0)
    assert dark.min() < 0
    assert lifted.std() == pytest.approx(dark.std(), rel=0.02)
    assert (lifted - dark).mean() * camera.gain(1) == pytest.approx(
        d.delinearise(65.0, *camera.nonlinearity), abs=0.1
    )


def test_response_multiplies_light_but_not_dark_current() -> None:
    adu = _expose(_plain(dark=500.0, response=0.5), 1000.0)
    assert adu.mean() * camera.gain(1) == pytest.approx(d.delinearise(1000.0, *camera.nonlinearity), abs=1.5)


def test_a_cosmic_ray_adds_its_electrons_to_its_pixels_alone() -> None:
    plain = _expose(_plain(), 100.0)
    hit = _expose(_plain(), 100.0, hits=(np.array([5, 700]), np.array([4440.0, 888.0])))
    changed = np.flatnonzero(hit != plain)
    assert changed.tolist() == [5, 700]
    assert (hit - plain).flat[5] == pytest.approx(1000, abs=2)


def test_frames_with_other_keys_have_other_noise() -> None:
    a, b = _expose(_plain(), 1000.0, key=1), _expose(_plain(), 1000.0, key=2)
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / SIZE


def test_cosmic_rays_are_short_tracks_each_pixel_once() -> None:
    rng = np.random.default_rng(3)
    pixels, electrons = d.cosmic_rays(rng, 512, 300)
    assert np.unique(pixels).size == pixels.size == electrons.size
    assert 300 < pixels.size < 3000
    assert (electrons > 0).all()
    assert pixels.min() >= 0
    assert pixels.max() < 512**2


def test_the_array_has_every_kind_of_defect_on_both_sides_of_the_limits() -> None:
    array = d.make_detector(NightParameters(size=256))
    kinds = array.defect[array.illuminated]
    for kind in d.Defect:
        if kind:
            assert (kinds & kind).any(), kind
    inside = array.response[array.illuminated]
    assert (inside < 0.68).any()
    assert ((inside > 0.70) & (inside < 0.85)).any()
    assert (inside > 1.28).any()
    assert ((inside > 1.10) & (inside < 1.26)).any()
    assert np.median(inside[kinds == 0]) == pytest.approx(1.0, abs=1e-5)


def test_no_light_outside_the_circle() -> None:
    parameters = NightParameters(size=256, radius=90.0, centre=(120.0, 130.0))
    array = d.make_detector(parameters)
    y, x = np.indices((256, 256))
    r = np.hypot(x - 120, y - 130)
    assert array.response[r > 110].max() < 1e-5
    assert (array.illuminated == (r < 90 - d.FULL_LIGHT * d.EDGE_SCALE)).mean() > 0.999
    assert np.median(array.response[(r > 83) & (r < 84)]) > 0.9


def test_without_defects_only_the_edge_departs_from_the_smooth_response() -> None:
    array = d.make_detector(NightParameters(size=128, defects=0.0))
    assert not array.defect.any()
    assert np.abs(array.response[array.illuminated] - 1).max() < 0.15


def test_detector_is_a_value() -> None:
    array = _plain()
    with pytest.raises(AttributeError):
        array.dark = array.offset  # type: ignore[misc]
    assert replace(array, dark=array.offset).dark is array.offset
