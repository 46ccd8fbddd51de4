"""A frame unlike the others of its set is left out by its figure, and the product is that of the others alone."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.calibrations.bpm import BpmParameters, make_bpm
from imaging.calibrations.dark import DarkParameters, make_dark
from imaging.calibrations.flat import FlatParameters, make_flat

SHAPE = (192, 160)
SEEDS = (11, 12)
LAMP = {"OBSTYPE": "FLAT", "EXPTIME": 20.0, "LNRS": 1, "NREADS": 1, "GCALLAMP": "IRhigh"}
ON, OFF = LAMP | {"GCALSHUT": "OPEN"}, LAMP | {"GCALSHUT": "CLOSED"}
SHORT = {"EXPTIME": 2.0, "LNRS": 1, "NREADS": 1}
ROWS, COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]]
GRADIENT = 60.0 * COLUMNS / SHAPE[1]
CORNER = 80.0 * ((ROWS < 40) & (COLUMNS < 40))


def add(frame, electrons) -> None:
    """Add electrons to a frame, rounded to integer ADU."""
    frame.adu += np.rint(electrons / frame.facts.gain).astype(np.int32)


def same(one, other) -> None:
    """All planes are equal to the last bit."""
    for plane in ("sci", "var", "dq"):
        assert getattr(one, plane).tobytes() == getattr(other, plane).tobytes()


def without(frames, bad):
    return [frame for k, frame in enumerate(frames) if k not in bad]


def figure(reason: str, name: str) -> float:
    """The figure of a name in a reason or warning."""
    return float(reason.split(f"{name} ")[1].split()[0])


def noisy(seed: int):
    return np.random.default_rng(seed).normal(0, 12.0, SHAPE)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("level", lambda _: 500.0),
        ("level", lambda _: 22.0),
        ("level", lambda _: -22.0),
        ("shape", lambda _: GRADIENT),
        ("shape", lambda _: CORNER),
        ("noise", noisy),
    ],
)
def test_one_dark_of_ten_unlike_the_others_is_left_out(expose, seed, what, change):
    frames = expose(37.0, 10, shape=SHAPE, seed=seed)
    clean = make_dark(without(frames, {4}))
    add(frames[4], change(seed))
    result = make_dark(frames)
    (odd,) = result.left_out
    assert odd.name == frames[4].name
    assert f"peer_{what}" in odd.reason
    if np.ndim(change(seed)) == 0:
        assert figure(odd.reason, what) == pytest.approx(change(seed), abs=0.5)
    same(result.image, clean.image)
    assert result.metrics == clean.metrics
    assert result.metrics.n_frames == 9
    assert result.pedestal == pytest.approx(65, abs=2)
    assert result.warnings == ()
    pull = (result.image.sci - 102) / np.sqrt(result.image.var)
    assert pull.std() == pytest.approx(1, abs=0.03)


def test_what_a_leaking_dark_did_to_the_pedestal(expose):
    """Without the comparison the mean level includes the leak, which rejection takes out of the pixels."""
    frames = expose(37.0, 10, shape=SHAPE)
    add(frames[0], 500.0)
    before = make_dark(frames, DarkParameters(peers=False))
    assert before.pedestal == pytest.approx(115, abs=2)
    assert before.left_out == ()
    after = make_dark(frames)
    assert after.pedestal == pytest.approx(65, abs=2)
    assert after.image.primary == frames[1].primary


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "bad", [{0: 500.0, 9: 22.0}, {1: 22.0, 5: 22.0, 6: 22.0}, {2: 500.0, 3: 90.0, 8: -30.0}]
)
def test_two_and_three_of_ten(expose, seed, bad):
    frames = expose(37.0, 10, shape=SHAPE, seed=seed)
    for k, electrons in bad.items():
        add(frames[k], electrons)
    result = make_dark(frames)
    assert [odd.name for odd in result.left_out] == [frames[k].name for k in bad]
    for odd, electrons in zip(result.left_out, bad.values(), strict=True):
        assert figure(odd.reason, "level") == pytest.approx(electrons, abs=0.5)
    same(result.image, make_dark(without(frames, bad)).image)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_leak_with_shot_noise_is_named_by_level_and_noise(expose, seed):
    frames = expose(37.0, 7, shape=SHAPE, seed=seed)
    (leaky,) = expose(537.0, 1, shape=SHAPE, seed=seed + 50)
    (odd,) = make_dark([*frames, leaky]).left_out
    assert odd.name == leaky.name
    assert figure(odd.reason, "level") == pytest.approx(500, abs=1)
    assert "noise +" in odd.reason


@pytest.mark.parametrize("n", [3, 4, 5, 6, 7, 10, 20])
def test_good_sets_lose_no_frame(expose, n):
    rng = np.random.default_rng(n)
    frames = expose(37.0, n, shape=SHAPE, seed=n)
    for frame in frames:
        add(frame, rng.normal(0, 2.0))
    result = make_dark(frames)
    assert result.left_out == ()
    assert result.warnings == ()


@pytest.mark.parametrize("seed", SEEDS)
def test_pattern_noise_of_each_frame_is_normal(expose, seed):
    """Readout channels 8 e- and rows 3 e- off, other ones in each frame, and levels that drift."""
    rng = np.random.default_rng(seed)
    frames = expose(37.0, 8, shape=(192, 256), seed=seed)
    for frame in frames:
        channels = np.repeat(rng.normal(0, 8, 32), 8)
        add(frame, rng.normal(0, 2) + channels + rng.normal(0, 3, (192, 1)))
    result = make_dark(frames)
    assert result.left_out == ()
    assert not [warning for warning in result.warnings if "differ" in warning]


@pytest.mark.parametrize("seed", SEEDS)
def test_one_of_three_is_not_decided_but_warned_of(expose, seed):
    """Two may be wrong as well as one. The pedestal belongs to the level that rejection keeps."""
    frames = expose(37.0, 3, shape=SHAPE, seed=seed)
    add(frames[1], 23.0)
    result = make_dark(frames)
    assert result.left_out == ()
    (warning,) = result.warnings
    assert warning.startswith("the darks differ in level and no majority agrees")
    assert figure(warning, frames[1].name) == pytest.approx(23, abs=1)
    assert result.doubts == (warning,)
    assert result.pedestal == pytest.approx(65, abs=2)


@pytest.mark.parametrize("electrons", [60.0, 500.0])
def test_far_off_one_of_three_is_outvoted_and_the_dark_is_doubtful(expose, electrons):
    frames = expose(37.0, 3, shape=SHAPE)
    add(frames[1], electrons)
    result = make_dark(frames)
    (odd,) = result.left_out
    assert odd.name == frames[1].name
    assert figure(odd.reason, "level") == pytest.approx(electrons, abs=1)
    assert "peer_level" in odd.reason
    assert result.doubts == result.warnings
    assert result.doubts == ("1 of 3 darks were left out, so the 2 others may be the wrong ones",)
    two = DarkParameters(min_frames=2)
    same(result.image, make_dark(without(frames, {1}), two).image)
    assert make_dark(frames, two).doubts == ()


def test_two_against_two_are_not_decided(expose):
    frames = expose(37.0, 4, shape=SHAPE)
    for frame in frames[2:]:
        add(frame, 50.0)
    result = make_dark(frames)
    assert result.left_out == ()
    assert "no majority agrees" in result.warnings[0]
    assert result.doubts == result.warnings
    assert result.pedestal - result.image.sci.mean() == pytest.approx(-37, abs=2)


def test_a_set_that_loses_more_than_a_third_is_doubtful(expose):
    frames = expose(37.0, 5, shape=SHAPE)
    add(frames[0], 500.0)
    assert make_dark(frames).doubts == ()
    add(frames[3], GRADIENT)
    result = make_dark(frames)
    assert [odd.name for odd in result.left_out] == [frames[0].name, frames[3].name]
    assert result.doubts == ("2 of 5 darks were left out, so the 3 others may be the wrong ones",)
    same(result.image, make_dark(without(frames, {0, 3})).image)
    assert make_dark(frames, DarkParameters(peer_most=0.5)).doubts == ()


@pytest.mark.parametrize("seed", SEEDS)
def test_five_against_five_are_not_decided(expose, seed):
    frames = expose(37.0, 10, shape=SHAPE, seed=seed)
    for frame in frames[::2]:
        add(frame, 30.0)
    result = make_dark(frames)
    assert result.left_out == ()
    (warning,) = result.doubts
    assert "no majority agrees" in warning


def test_two_that_differ_are_not_decided(expose):
    frames = expose(37.0, 2, shape=SHAPE)
    two = DarkParameters(min_frames=2)
    assert make_dark(frames, two).doubts == ()
    add(frames[0], 40.0)
    (warning,) = make_dark(frames, two).doubts
    assert "no majority agrees" in warning
    assert frames[0].name in warning


def test_the_limits_are_parameters(expose):
    frames = expose(37.0, 6, shape=SHAPE)
    add(frames[0], 22.0)
    assert make_dark(frames, DarkParameters(peer_level_rms=5.0)).left_out == ()
    assert make_dark(frames, DarkParameters(peer_sigma=15.0)).left_out == ()
    add(frames[1], 8.0)
    tight = DarkParameters(peer_level_rms=0.8, peer_fraction_rms=0.0)
    assert [odd.name for odd in make_dark(frames, tight).left_out] == [frames[0].name, frames[1].name]


def noise(sigma):
    return np.random.default_rng(1).normal(0, sigma, SHAPE)


@pytest.fixture
def lamps(expose):
    inside = np.hypot(COLUMNS - 80, ROWS - 96) <= 76
    on = expose(12000.0 * inside + 700 * inside, 5, shape=SHAPE, seed=1, **ON)
    off = expose(700.0 * inside, 6, shape=SHAPE, seed=2, **OFF)
    short = expose(1.0, 7, shape=SHAPE, seed=3, **SHORT)
    return on, off, short


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda frame: -0.5 * frame.adu * frame.facts.gain, "light"),
        (lambda frame: 65 - frame.adu * frame.facts.gain + noise(9), "light -10"),
        (lambda frame: 0.1 * frame.adu * frame.facts.gain * COLUMNS / SHAPE[1], "pattern"),
        (lambda _: noise(300), "noise"),
    ],
)
def test_a_lamp_on_frame_unlike_the_others(lamps, change, what):
    on, off, _ = lamps
    clean = make_flat(without(on, {2}), off)
    add(on[2], change(on[2]))
    result = make_flat(on, off)
    (odd,) = result.left_out
    assert odd.name == on[2].name
    assert what in odd.reason
    same(result.image, clean.image)
    assert result.metrics == clean.metrics
    assert result.on == tuple(frame.name for frame in without(on, {2}))


def test_a_lamp_off_frame_with_the_lamp_on(lamps):
    on, off, _ = lamps
    clean = make_flat(on, without(off, {0}))
    add(off[0], 900.0)
    result = make_flat(on, off)
    assert [odd.name for odd in result.left_out] == [off[0].name]
    assert "level +9" in result.left_out[0].reason
    same(result.image, clean.image)
    assert result.off == tuple(frame.name for frame in off[1:])
    assert make_flat(on, off, FlatParameters(peers=False)).left_out == ()


def test_a_mask_leaves_out_of_each_of_its_sets(lamps):
    on, off, short = lamps
    clean = make_bpm(without(on, {0}), without(off, {1}), without(short, {2, 3}))
    add(on[0], -0.6 * on[0].adu * on[0].facts.gain)
    add(off[1], 300.0)
    add(short[2], 4000.0)
    add(short[3], -40.0)
    result = make_bpm(on, off, short)
    assert {odd.name for odd in result.left_out} == {f.name for f in (on[0], off[1], short[2], short[3])}
    np.testing.assert_array_equal(result.mask.reasons, clean.mask.reasons)
    assert result.metrics == clean.metrics
    assert result.doubts == ()
    (doubt,) = make_bpm(on, off, short, BpmParameters(min_darks=6)).doubts
    assert doubt.startswith("2 of 7 short darks were left out")
