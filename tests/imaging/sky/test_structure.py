"""The structure of skies: found where it is the sky's or the readout's, left where it is a source's."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.sky import shapes
from imaging.sky.structure import find_structure, median_of_known
from tests.imaging.sky.skies import DITHERS, LEVEL, NOISE, SIZE, airglow, group


def calm(_):
    return 0.0


def flattened(blocks, found):
    """Return what the frames still do not share, relative to each other, electrons."""
    left = blocks.medians - np.stack([found.surface(i, blocks) for i in range(len(blocks.medians))])
    if found.channels is not None:
        left = left - found.channels
    relative = left / blocks.units[:, None, None]
    return (relative - median_of_known(relative)) * LEVEL


def rms(values):
    return float(np.sqrt(np.nanmean(values**2)))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_airglow_is_removed_down_to_the_noise(seed):
    rng = np.random.default_rng(seed)
    levels = LEVEL * rng.uniform(0.7, 1.3, len(DITHERS))
    blocks = group(rng, airglow(rng), levels=levels)
    found = find_structure(blocks)
    assert min(found.orders) > shapes.QUADRATIC
    assert min(found.scatter) > 5 * NOISE
    assert rms(flattened(blocks, found)) < 1.5 * NOISE * LEVEL / levels.min()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_coefficients_are_spent_on_the_kinks_of_a_median(seed):
    # Splines of four intervals follow one wave; eight would only follow what the median of nine of them leaves.
    rng = np.random.default_rng(seed)
    found = find_structure(group(rng, airglow(rng)))
    assert {shapes.terms(order) for order in found.orders} == {49}


def test_frames_of_which_none_serves_as_sky_get_planes():
    rng = np.random.default_rng(1)
    found = find_structure(group(rng, airglow(rng), serving=np.zeros(len(DITHERS), bool)))
    assert max(found.orders) <= shapes.PLANE


def test_a_frame_whose_blocks_are_all_a_source_s_leaves_levels_alone(monkeypatch):
    def fixed(left, shifts):
        return np.arange(len(left))[:, None, None] * np.ones(left.shape[1:]) == 0

    monkeypatch.setattr("imaging.sky.structure.fixed_to_the_sky", fixed)
    found = find_structure(group(np.random.default_rng(1), airglow(np.random.default_rng(1))))
    assert set(found.orders) == {shapes.LEVEL}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_calm_sky_needs_no_more_than_a_plane(seed):
    rng = np.random.default_rng(seed)
    found = find_structure(group(rng, airglow(rng, tilt=0.01, wave=0.0)), channels=SIZE)
    assert set(found.orders) == {shapes.PLANE}
    assert found.channels is None
    assert not any(found.channel_rms)


@pytest.mark.parametrize(
    "field",
    [
        lambda x, y: 2700 * np.exp(-np.hypot(x - 14, y - 17) / 2.9),
        lambda x, y: 100 * np.sin(x / 3) * np.cos(y / 4),
        lambda x, y: 60 * np.exp(-0.5 * ((x - 16) ** 2 + (y - 12) ** 2) / 25),
    ],
    ids=["galaxy", "nebula everywhere", "faint halo"],
)
def test_sources_that_move_with_the_stars_are_left_alone(field):
    rng = np.random.default_rng(5)
    found = find_structure(group(rng, airglow(rng, tilt=0.01, wave=0.0), field=field), channels=SIZE)
    assert max(found.orders) <= shapes.PLANE
    assert found.channels is None


def test_a_galaxy_in_airglow_is_excluded_and_the_airglow_removed():
    rng = np.random.default_rng(6)
    blocks = group(rng, airglow(rng), field=lambda x, y: 3000 * np.exp(-np.hypot(x - 14, y - 17) / 1.5))
    found = find_structure(blocks)
    assert min(found.orders) > shapes.QUADRATIC
    assert found.fixed[4, 17, 14]
    assert found.fixed.mean() < 0.35


def test_frames_of_an_object_next_to_offset_skies_keep_what_no_sky_has():
    rng = np.random.default_rng(7)
    serving = np.arange(len(DITHERS)) % 2 == 1
    found = find_structure(group(rng, airglow(rng), serving=serving))
    assert all(
        (order > shapes.PLANE) == bool(serves) for order, serves in zip(found.orders, serving, strict=True)
    )


@pytest.mark.parametrize("turned", [False, True])
def test_channels_are_found_in_either_direction(turned):
    rng = np.random.default_rng(8)
    blocks = group(rng, calm)
    offsets = 8 * rng.standard_normal((len(DITHERS), SIZE))
    planes = offsets[:, :, None] if turned else offsets[:, None, :]
    blocks.medians[:] += planes
    found = find_structure(blocks, channels=SIZE)
    assert found.channels is not None
    assert np.median(found.channel_rms) == pytest.approx(8, rel=0.25)
    assert rms(flattened(blocks, found)) < 1.3 * NOISE


def test_two_frames_are_never_given_more_than_a_plane():
    rng = np.random.default_rng(9)
    blocks = group(rng, airglow(rng))
    two = type(blocks)(
        blocks.medians[:2], blocks.counts[:2], blocks.levels[:2], blocks.units[:2], blocks.shifts[:2],
        blocks.serving[:2], blocks.frame,
    )  # fmt: skip
    assert max(find_structure(two, channels=SIZE).orders) <= shapes.PLANE
