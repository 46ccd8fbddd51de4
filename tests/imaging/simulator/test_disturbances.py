"""The disturbances of a night: each does what the truth records, and nothing else changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray
from pydantic import ValidationError

from imaging.simulator.detector import make_detector
from imaging.simulator.disturbances.affected import Affected
from imaging.simulator.disturbances.drawn import course
from imaging.simulator.disturbances.latent_charge import latent_plane, trapped
from imaging.simulator.disturbances.readout_faults import channel_numbers
from imaging.simulator.draw_truth import frame_truth
from imaging.simulator.exposures import Night, affected_of, simulate_frame
from imaging.simulator.observing_plan import plan_night
from imaging.simulator.parameters import NightParameters
from imaging.simulator.simulate import simulate_night
from imaging.simulator.star_field import make_sources, pixel_position
from imaging.simulator.truth import FrameTruth

camera = NightParameters().camera

CALM: dict[str, Any] = {
    "size": 256, "seed": 5, "band": "J", "n_science": 4, "n_darks": 0, "n_short_darks": 0, "n_lamp_on": 0,
    "n_lamp_off": 0, "cosmic_rate": 0.0, "defects": 0.0,
}  # fmt: skip


def frames(**changes: Any) -> tuple[list[FrameTruth], list[NDArray[np.float64]], list[NDArray[np.uint8]]]:
    """Truth, electrons and affected pixels of the frames of a small night."""
    parameters = NightParameters(**(CALM | changes))
    night = Night(parameters, make_detector(parameters), make_sources(parameters))
    truths, electrons, bits = [], [], []
    for frame in plan_night(parameters):
        truth = frame_truth(parameters, frame)
        affected = affected_of(night, frame, truth)
        adu = simulate_frame(night, frame, truth, affected if truth.disturbance.local else None)
        truths.append(truth)
        electrons.append(adu * camera.gain(truth.read_pairs))
        bits.append(affected.bits)
    return truths, electrons, bits


@pytest.fixture(scope="module")
def calm() -> list[NDArray[np.float64]]:
    return frames()[1]


def test_a_calm_night_has_no_affected_pixels_and_no_planes(tmp_path: Path) -> None:
    truth = simulate_night(tmp_path, NightParameters(**CALM))
    assert all(not truth.affected(frame).bits.any() for frame in truth.science)
    assert not (tmp_path / "truth" / "frames").exists()
    assert {frame.throughput for frame in truth.science} == {frame.transparency for frame in truth.science}


def test_a_range_is_covered_evenly_and_a_list_is_kept() -> None:
    assert sorted(course((1.0, 0.5), 5, seed=1)) == pytest.approx([0.5, 0.625, 0.75, 0.875, 1.0])
    assert course((1.0, 0.5), 5, seed=1) != course((1.0, 0.5), 5, seed=2)
    assert course((0.7, 0.8, 0.9), 3, seed=1) == [0.7, 0.8, 0.9]
    with pytest.raises(ValidationError, match="each of the 4 science frames, not 3"):
        NightParameters(**CALM, seeing_course=(0.7, 0.8, 0.9))
    with pytest.raises(ValidationError, match=r"between 0\.02 and 5"):
        NightParameters(**CALM, seeing_course=(0.01, 0.9))


def test_seeing_and_clouds_are_in_the_truth() -> None:
    night = NightParameters(
        **CALM, seeing_course=(0.6, 0.7, 0.8, 1.2), transparency_course=(1.0, 0.9, 0.5, 0.8)
    )
    truths = [frame_truth(night, frame) for frame in plan_night(night)]
    assert [round(t.fwhm * 0.1792, 6) for t in truths if t.fwhm] == [0.6, 0.7, 0.8, 1.2]
    assert [t.transparency for t in truths] == [1.0, 0.9, 0.5, 0.8]


def test_an_unstable_sky_changes_level_slope_and_wave() -> None:
    truths, electrons, _ = frames(sky_swing=0.3, sky_tilt=0.04, sky_wave=0.02, n_faint=0, n_galaxies=0)
    levels = [t.level for t in truths]
    assert max(levels) / min(levels) > 1.5
    for truth, image in zip(truths, electrons, strict=True):
        wave = truth.disturbance.wave
        assert wave is not None
        assert wave.amplitude == 0.02
        middle = np.median(image[96:160, 96:160])
        assert middle == pytest.approx(truth.level * truth.exposure, rel=0.12)
    assert len({t.disturbance.wave.phase for t in truths if t.disturbance.wave}) == 4


def test_channels_and_rows_are_offset_by_the_pattern(calm: list[NDArray[np.float64]], tmp_path: Path) -> None:
    changes = {"channel_rms": 80.0, "row_rms": 30.0, "channels": 8}
    truth = simulate_night(tmp_path, NightParameters(**(CALM | changes)))
    for frame, before in zip(truth.science, calm, strict=True):
        pattern = truth.affected(frame).pattern
        assert pattern is not None
        after = fits.getdata(tmp_path / frame.file, 1)[0] * camera.gain(frame.read_pairs)
        dark_edge = before < 0.3 * camera.well_depth
        assert np.std((after - before - pattern)[dark_edge]) < 3.0
        assert len(np.unique(pattern[0])) == 8


def test_channels_lie_in_strips_or_in_quadrants() -> None:
    strips = channel_numbers(NightParameters(**CALM, channels=32), 256)
    assert np.array_equal(np.bincount(strips.ravel()), np.full(32, 256 * 8))
    quadrants = channel_numbers(NightParameters(**CALM, channels=32, channel_layout="quadrants"), 256)
    assert np.array_equal(np.bincount(quadrants.ravel()), np.full(32, 128 * 16))
    assert len(np.unique(quadrants[0])) == 8 + 1  # strips of columns, then one row of the right quadrant


def test_persistence_decays_and_adds_up() -> None:
    began = datetime(2020, 1, 1, tzinfo=UTC)
    electrons = np.array([[50e3, 70e3], [160e3, 400e3]], np.float32)
    left = trapped(electrons, began, threshold=60e3, limit=150e3)
    assert left.pixels.tolist() == [1, 2, 3]
    for age in (0.0, 100.0):
        plane = latent_plane(
            [left, left], began + timedelta(seconds=age), fraction=0.004, decay=100.0, shape=(2, 2)
        )
        expected = 2 * 0.004 * np.exp(-age / 100) * np.array([[0, 10e3], [90e3, 90e3]])
        assert plane == pytest.approx(expected, rel=1e-5)
    earlier = latent_plane([left], began - timedelta(seconds=1), fraction=0.004, decay=100.0, shape=(2, 2))
    assert not earlier.any()


def test_persistence_follows_saturated_stars_and_earlier_nights(tmp_path: Path) -> None:
    first = simulate_night(tmp_path / "j", NightParameters(**CALM, persistence=0.004))
    latent = [first.affected(frame).latent for frame in first.science]
    assert all(plane is not None for plane in latent)
    assert not latent[0].any()  # type: ignore[union-attr]
    assert 100 < latent[1].max() < 400  # type: ignore[union-attr]
    other = CALM | {
        "band": "H",
        "first": 50,
        "minutes": 5.5,
        "persistence": 0.004,
        "exposed_before": str(tmp_path / "j"),
    }
    second = simulate_night(tmp_path / "h", NightParameters(**other))
    inherited = second.affected(second.science[0]).latent
    assert inherited is not None
    assert inherited.max() > 30
    assert not {f.root for f in first.frames} & {f.root for f in second.frames}


def test_the_probe_takes_light_and_glows(calm: list[NDArray[np.float64]]) -> None:
    truths, electrons, bits = frames(probe=0.35, probe_glow=0.05, probe_radius=45.0)
    centres = [t.disturbance.probe.centre for t in truths if t.disturbance.probe]
    assert len(set(centres)) == 4
    for truth, before, after, affected in zip(truths, calm, electrons, bits, strict=True):
        probe = truth.disturbance.probe
        assert probe is not None
        core = (affected & Affected.PROBE) > 0
        assert core.sum() == pytest.approx(np.pi * probe.radius**2, rel=0.05)
        assert np.median(after[core] / before[core]) == pytest.approx(0.65 + 0.05, abs=0.025)
        assert np.median((after / before)[(affected & Affected.GLOW) > 0]) > 1.005
        assert np.median((after / before)[affected == 0]) == pytest.approx(1.0, abs=0.002)
    field = frames(probe=0.35, probe_path="field")[0]
    moved = np.diff([t.disturbance.probe.centre for t in field if t.disturbance.probe], axis=0)
    assert moved == pytest.approx(np.diff([t.field_centre for t in field if t.field_centre], axis=0), abs=2.0)


def test_the_galaxy_is_a_smooth_disc_that_moves_with_the_field(calm: list[NDArray[np.float64]]) -> None:
    truths, electrons, _ = frames(galaxy=0.5, galaxy_scale=5.0, galaxy_axis_ratio=1.0)
    for truth, before, after in zip(truths, calm, electrons, strict=True):
        assert truth.field_centre is not None
        x, y = (round(c) for c in truth.field_centre)
        centre = np.median((after - before)[y - 2 : y + 3, x - 2 : x + 3])
        assert centre == pytest.approx(0.5 * 100.0 * 60.0 * truth.transparency, rel=0.1)


def test_a_turned_field_says_so_in_its_headers(tmp_path: Path) -> None:
    truth = simulate_night(
        tmp_path, NightParameters(**CALM, turn=1.5, wcs_rms=0.0, pointing_rms=0.0, n_faint=0)
    )
    assert [frame.disturbance.rotation for frame in truth.science] == [0.0, 0.0, 1.5, 1.5]
    stars = truth.sources[truth.sources["kind"] == "bright"]
    for frame in truth.science:
        with fits.open(tmp_path / frame.file) as hdus:
            assert hdus[0].header["PA"] == frame.disturbance.rotation
            header = hdus[1].header
            header["RADESYS"] = header.pop("RADECSYS")
            found = WCS(header).celestial.all_world2pix(stars["ra"], stars["dec"], 0)
        assert frame.pointing is not None
        true = pixel_position(stars, frame.pointing, 256, NightParameters().axes, frame.disturbance.rotation)
        assert np.abs(np.subtract(found, true)).max() < 0.02


def test_frames_that_went_wrong(calm: list[NDArray[np.float64]]) -> None:
    truths, electrons, bits = frames(
        trail=0, aborted=1, aborted_after=0.3, half_unread=2, quadrant_off=3, unguided=1, trail_level=2.0
    )
    ratio = electrons[0] / calm[0]
    assert ratio.max() > 2.0
    assert np.median(ratio[(bits[0] & Affected.TRAIL) == 0]) == pytest.approx(1.0, abs=0.002)
    assert np.median(electrons[1] / calm[1]) == pytest.approx(0.3, abs=0.01)
    assert truths[1].throughput == pytest.approx(0.3 * truths[1].transparency)
    assert truths[1].disturbance.smear is not None
    assert not electrons[2][128:].any()
    assert np.array_equal(electrons[2][:128], calm[2][:128])
    assert np.median(electrons[3][bits[3] > 0]) == pytest.approx(65.0, abs=2.0)
    assert ((bits[3] & Affected.QUADRANT_OFF) > 0).mean() == 0.25
    with pytest.raises(ValidationError, match="trail = 4"):
        NightParameters(**CALM, trail=4)


def test_offset_sky_frames_are_blank() -> None:
    truths, electrons, _ = frames(sky_offset=400.0, n_bright=20)
    assert [t.disturbance.blank for t in truths] == [False, True, False, True]
    assert truths[1].pointing is not None
    assert truths[1].pointing[0] > 380
    assert electrons[1].max() < 2 * np.median(electrons[1]) < electrons[0].max()


@pytest.mark.parametrize("stars", [0, 12, 500])
def test_fields_of_few_and_many_stars(stars: int) -> None:
    counts = {"n_bright": 0, "n_saturated": 0, "n_faint": 0, "n_galaxies": 0, "n_stars": stars}
    night = NightParameters(**(CALM | counts))
    assert len(make_sources(night)) == stars
