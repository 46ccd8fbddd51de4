"""Frames that no working detector gives, single pixels that deviate, and headers that differ."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.calibrations import raw_stack
from imaging.calibrations.dark import DarkParameters, make_dark
from imaging.calibrations.flat import FlatParameters, make_flat, make_thermal_flat
from imaging.calibrations.peer_headers import unlike_headers
from imaging.errors import GroupError

SHAPE = (192, 160)
SEEDS = (11, 12, 13)
LAMP = {"OBSTYPE": "FLAT", "EXPTIME": 20.0, "LNRS": 1, "NREADS": 1, "GCALLAMP": "IRhigh"}
ON, OFF = LAMP | {"GCALSHUT": "OPEN"}, LAMP | {"GCALSHUT": "CLOSED"}


def add(frame, electrons) -> None:
    """Add electrons to a frame, rounded to integer ADU."""
    frame.adu += np.rint(electrons / frame.facts.gain).astype(np.int32)


def warm(seed: int):
    """A dark current with half a per cent of warm pixels."""
    rng = np.random.default_rng(seed)
    current = np.full(SHAPE, 37.0)
    where = rng.random(SHAPE) < 0.006
    current[where] = np.exp(rng.uniform(np.log(400), np.log(20000), where.sum()))
    return current


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", [4, 10])
def test_a_shifted_frame_is_found_by_its_warm_pixels(expose, seed, n):
    frames = expose(warm(seed), n, shape=SHAPE, seed=seed)
    assert make_dark(frames).left_out == ()
    frames[1].adu = np.roll(frames[1].adu, (1, 1), axis=(0, 1))
    (odd,) = make_dark(frames).left_out
    assert odd.name == frames[1].name
    assert "share of deviant pixels +" in odd.reason
    assert "(peer_deviant_rms)" in odd.reason


@pytest.mark.parametrize("seed", SEEDS)
def test_a_dark_of_another_exposure_is_found(expose, seed):
    current = warm(seed)
    frames = expose(current, 6, shape=SHAPE, seed=seed)
    (other,) = expose(0.7 * current, 1, shape=SHAPE, seed=seed + 50)
    (odd,) = make_dark([*frames, other]).left_out
    assert odd.name == other.name
    assert "charge of warm pixels -30%" in odd.reason or "charge of warm pixels -29%" in odd.reason


@pytest.mark.parametrize("seed", SEEDS)
def test_a_channel_with_an_offset_is_found_wherever_the_level_is_normal(expose, seed):
    shape = (192, 1024)
    frames = expose(37.0, 5, shape=shape, seed=seed)
    frames[3].adu[:, 320:352] += round(40 / frames[3].facts.gain)
    (odd,) = make_dark(frames).left_out
    assert odd.name == frames[3].name
    assert odd.reason.startswith("shape +")


@pytest.mark.parametrize(("electrons", "level"), [(-400.0, "-298"), (9000.0, "9102")])
def test_a_dark_beyond_the_instruments_limits_is_left_out_whatever_the_others_are(expose, electrons, level):
    frames = expose(37.0, 5, shape=SHAPE)
    clean = make_dark([frames[0], *frames[2:]])
    add(frames[1], electrons)
    result = make_dark(frames)
    (odd,) = result.left_out
    assert odd.alone
    assert odd.reason.startswith(f"level {level}")
    assert "a working detector gives -150 to 3650 e- ([detector.plausible] in the table of F2)" in odd.reason
    assert make_dark(frames, DarkParameters(peers=False)).left_out == (odd,)
    assert result.image.sci.tobytes() == clean.image.sci.tobytes()


def test_darks_that_are_all_bad_are_refused_with_their_figures(expose):
    frames = expose(37.0, 5, shape=SHAPE)
    for frame in frames:
        add(frame, -400.0)
    with pytest.raises(GroupError, match="0 of 5 darks are usable, 2 are needed") as raised:
        make_dark(frames)
    assert all(f"{frame.name}: level -298" in str(raised.value) for frame in frames)


def test_the_limits_are_those_of_a_coadd(expose):
    frames = expose(37.0, 3, shape=SHAPE, COADDS=4, pedestal=12_000.0)
    assert make_dark(frames).left_out == ()
    one = expose(37.0, 3, shape=SHAPE, pedestal=12_000.0)
    with pytest.raises(GroupError, match="are usable"):
        make_dark(one)


def flats(expose, level, n=4):
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    inside = np.hypot(columns - 80, rows - 96) <= 76
    light = level * inside if np.ndim(level) == 0 else np.array(level)[:, None, None] * inside
    return (
        expose(light, n, shape=SHAPE, seed=1, **ON),
        expose(700.0 * inside, 6, shape=SHAPE, seed=2, **OFF),
    )


def test_a_lamp_frame_beyond_the_linear_range_is_left_out(expose):
    on, off = flats(expose, [12_000.0, 12_100.0, 130_000.0, 12_050.0])
    result = make_flat(on, off)
    (odd,) = result.left_out
    assert odd.name == on[2].name
    assert odd.alone
    assert "100% of its lit pixels are beyond the linear range of 1118" in odd.reason
    assert result.metrics.n_on == 3
    alone = make_flat(on, off, FlatParameters(peers=False))
    assert alone.left_out == result.left_out
    assert make_flat(on, off, FlatParameters(peers=False, peer_nonlinear=1.0)).left_out == ()


def test_lamp_frames_that_are_all_beyond_the_linear_range_are_refused(expose):
    on, off = flats(expose, 130_000.0)
    with pytest.raises(GroupError, match="0 of 4 lamp-on flats are usable, 1 are needed"):
        make_flat(on, off)
    assert make_flat(on, off, FlatParameters(peer_nonlinear=1.0)).left_out == ()


def test_a_lamp_off_with_the_lamp_on_in_all_frames_gives_no_flat(expose):
    on, _ = flats(expose, 12_000.0)
    off = expose(12_800.0, 3, shape=SHAPE, seed=7, **OFF)
    with pytest.raises(GroupError, match="not brighter"):
        make_flat(on, off)


@pytest.mark.parametrize(("n_on", "n_off"), [(9, 3), (3, 9), (9, 9)])
def test_many_lamp_frames_and_few_lamp_offs_are_compared_on_the_same_pixels(expose, monkeypatch, n_on, n_off):
    """A large set has a smaller sample."""
    monkeypatch.setattr(raw_stack, "_SAMPLE_PIXELS", 9 * 16 * SHAPE[1] * 3)
    on, off = flats(expose, 12_000.0, n_on)[0], flats(expose, 12_000.0)[1]
    off = (off + off)[:n_off]
    on[1].adu //= 6
    result = make_flat(on, off)
    assert [odd.name for odd in result.left_out] == [on[1].name]
    thermal = make_thermal_flat(on, None)
    assert [odd.name for odd in thermal.left_out] == [on[1].name]


def set_of(expose, keyword, values):
    frames = expose(37.0, len(values), shape=(32, 32))
    for frame, value in zip(frames, values, strict=True):
        if value is not None:
            frame.primary[keyword] = value
    return frames


def test_a_frame_with_another_temperature_is_reported_and_used(expose):
    frames = set_of(expose, "TEMP_CHB", [80.0, 79.998, 80.002, 85.25, 80])
    (text,) = unlike_headers("darks", frames)
    assert text == (
        f"detector temperature (TEMP_CHB) differs among the darks: {frames[3].name} 85.25 K; the median is 80 K, "
        "and 0.1 K is normal"
    )
    result = make_dark(frames)
    assert result.left_out == ()
    assert result.warnings[0] == text
    assert result.doubts == ()


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("TEMP_CHB", [80.0, 79.998, 80.002, 79.996]),
        ("TEMP_CHB", [80.0, None, 80.002]),
        ("TEMP_CHB", [80.0, "unknown", True]),
        ("READMODE", ["Dark", "Dark ", None]),
        ("BIASGATE", [3.507, 3.507]),
    ],
)
def test_equal_missing_and_invalid_header_values_are_no_difference(expose, keyword, values):
    assert unlike_headers("darks", set_of(expose, keyword, values)) == ()


@pytest.mark.parametrize(
    ("keyword", "values", "text"),
    [
        ("BIASGATE", [3.507, 3.507, 0.0], "S20131120S0102.fits 0 V; the median is 3.507 V"),
        ("TEMP_CHB", [80.0, 90.0], "S20131120S0100.fits 80 K, S20131120S0101.fits 90 K; the median is 85 K"),
        ("READMODE", ["Dark", "Bright", "Dark"], "S20131120S0101.fits 'Bright'; most have 'Dark'"),
    ],
)
def test_header_differences_are_named(expose, keyword, values, text):
    (message,) = unlike_headers("darks", set_of(expose, keyword, values))
    assert text in message
    assert f"({keyword})" in message
