"""The score of calibrations: a perfect product passes, each broken one fails in its own figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from imaging.simulator import score as s
from imaging.simulator.score_figures import NightScore, ScoreRow
from imaging.simulator.truth import NightTruth, flat_level, stack_level

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]


def _ok(rows: list[ScoreRow]) -> dict[str, bool | None]:
    return {row.figure: row.ok for row in rows}


def _values(rows: list[ScoreRow]) -> dict[str, float]:
    return {row.figure: row.value for row in rows}


@pytest.fixture
def dark(small_night: tuple[Path, NightTruth]) -> Planes:
    """A dark with the noise that its truth allows, and a matching VAR."""
    _, truth = small_night
    planes = truth.plane("DARK"), truth.plane("OFFSET"), truth.plane("RESPONSE")
    _, var = stack_level(planes, truth.of_role("dark"), truth.parameters.camera)
    level = planes[1] + planes[0] * 120.0
    sci = level + np.random.default_rng(1).normal(size=level.shape) * np.sqrt(var)
    return sci.astype(np.float32), var, np.zeros(sci.shape, np.uint16)


@pytest.fixture
def flat(small_night: tuple[Path, NightTruth]) -> Planes:
    """A flat with the noise of its lamps, normalised."""
    _, truth = small_night
    levels = flat_level(
        (truth.plane("DARK"), truth.plane("OFFSET"), truth.plane("RESPONSE")),
        truth.frames,
        truth.parameters.camera,
    )
    assert levels is not None
    norm = np.median(levels[0][truth.plane("ILLUMINATED")])
    noise = np.random.default_rng(2).normal(size=levels[0].shape) * np.sqrt(levels[1]) / norm
    dq = (truth.plane("BPM") > 0).astype(np.uint16)
    return (truth.plane("RESPONSE") + noise).astype(np.float32), levels[1] / norm**2, dq


def test_the_true_bpm_is_perfect(small_night: tuple[Path, NightTruth]) -> None:
    _, truth = small_night
    rows = s.score_bpm(truth.plane("BPM"), truth.plane("MARGIN"), truth.plane("ILLUMINATED"))
    assert _values(rows) == {"bad pixels found": 100.0, "false bad pixels": 0.0}
    assert all(row.ok for row in rows)


def test_a_missed_and_a_false_bad_pixel_fail(small_night: tuple[Path, NightTruth]) -> None:
    _, truth = small_night
    bpm, margin, lit = truth.plane("BPM").copy(), truth.plane("MARGIN"), truth.plane("ILLUMINATED")
    missed = np.argwhere(lit & (margin > 5))[0]
    bpm[tuple(missed)] = 0
    assert _ok(s.score_bpm(bpm, margin, lit)) == {"bad pixels found": False, "false bad pixels": True}
    bpm = truth.plane("BPM").copy()
    bpm[tuple(np.argwhere(lit & (margin < -5))[0])] = 1
    assert _ok(s.score_bpm(bpm, margin, lit)) == {"bad pixels found": True, "false bad pixels": False}


def test_pixels_near_a_limit_or_in_the_dark_do_not_count(small_night: tuple[Path, NightTruth]) -> None:
    _, truth = small_night
    margin, lit = truth.plane("MARGIN"), truth.plane("ILLUMINATED")
    bpm = truth.plane("BPM") | (np.abs(margin) < 5) | ~lit
    assert all(row.ok for row in s.score_bpm(bpm, margin, lit))


def test_an_honest_dark_passes(small_night: tuple[Path, NightTruth], dark: Planes) -> None:
    rows = s.score_dark(dark, small_night[1])
    values = _values(rows)
    assert values["VAR pull"] == pytest.approx(1.0, abs=0.02)
    assert values["VAR pull, standard deviation"] == pytest.approx(1.0, abs=0.02)
    assert values["mean offset"] == pytest.approx(0.0, abs=0.05)
    assert _ok(rows)["VAR pull"] is True


@pytest.mark.parametrize("factor", [0.7, 2.0])
def test_a_dark_with_a_wrong_variance_fails(small_night, dark: Planes, factor: float) -> None:
    rows = s.score_dark((dark[0], factor * dark[1], dark[2]), small_night[1])
    assert _ok(rows)["VAR pull"] is False
    assert _values(rows)["VAR pull"] == pytest.approx(factor**-0.5, rel=0.03)


def test_a_dark_that_is_off_shows_it(small_night, dark: Planes) -> None:
    values = _values(s.score_dark((dark[0] + 3.0, dark[1], dark[2]), small_night[1]))
    assert values["mean offset"] == pytest.approx(3.0, abs=0.05)
    assert values["VAR pull"] == pytest.approx(1.0, abs=0.02)


def test_flagged_pixels_of_a_dark_do_not_count(small_night, dark: Planes) -> None:
    sci, dq = dark[0].copy(), dark[2].copy()
    sci[::2], dq[::2] = 1e4, 1
    assert all(row.ok is not False for row in s.score_dark((sci, dark[1], dq), small_night[1]))


def test_an_honest_flat_is_at_the_floor(small_night, flat: Planes) -> None:
    rows = s.score_flat(flat, small_night[1])
    values = _values(rows)
    assert values["rms / photon floor"] == pytest.approx(1.0, abs=0.02)
    assert values["photon floor"] == pytest.approx(0.34, abs=0.03)
    assert values["VAR pull"] == pytest.approx(1.0, abs=0.02)
    assert all(row.ok is not False for row in rows)


def test_another_normalisation_is_no_error_of_a_flat(small_night, flat: Planes) -> None:
    values = _values(s.score_flat((1.02 * flat[0], 1.02**2 * flat[1], flat[2]), small_night[1]))
    assert values["rms / photon floor"] == pytest.approx(1.0, abs=0.02)
    assert values["scale"] == pytest.approx(1.02, abs=1e-3)


def test_a_flat_with_more_noise_or_a_slope_fails(small_night, flat: Planes) -> None:
    extra = np.random.default_rng(3).normal(0, 0.0012, flat[0].shape)
    assert _ok(s.score_flat((flat[0] + extra, *flat[1:]), small_night[1]))["rms / photon floor"] is False
    slope = 1 + np.linspace(-0.003, 0.003, flat[0].shape[1])
    assert _ok(s.score_flat((flat[0] * slope, *flat[1:]), small_night[1]))["rms / photon floor"] is False


def test_a_flat_cannot_be_judged_without_flats(small_night, flat: Planes) -> None:
    _, truth = small_night
    bare = NightTruth(truth.folder, truth.parameters, truth.science)
    with pytest.raises(ValueError, match="no flats"):
        s.score_flat(flat, bare)
    with pytest.raises(ValueError, match="no darks"):
        s.score_dark(flat, bare)


def test_products_are_read_from_their_files(small_night, dark: Planes, flat: Planes, tmp_path: Path) -> None:
    _, truth = small_night
    for name, planes in (("dark", dark), ("flat", flat)):
        hdus = [fits.ImageHDU(p, name=n) for p, n in zip(planes, ("SCI", "VAR", "DQ"), strict=True)]
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / f"{name}.fits")
    bpm = fits.ImageHDU(truth.plane("BPM"), name="SCI")
    fits.HDUList([fits.PrimaryHDU(), bpm]).writeto(tmp_path / "bpm.fits")
    night = s.score_night(
        truth, bpm=tmp_path / "bpm.fits", dark=tmp_path / "dark.fits", flat=tmp_path / "flat.fits"
    )
    assert {row.product for row in night.rows} == {"bpm", "dark", "flat"}
    assert night.ok
    assert not night.failed
    assert night.value("bpm", "bad pixels found") == 100.0
    assert night.value("dark", "VAR pull") == pytest.approx(_values(s.score_dark(dark, truth))["VAR pull"])
    with pytest.raises(KeyError, match="stack"):
        night.value("stack", "registration")


@pytest.mark.parametrize(
    ("low", "high", "value", "ok", "limit"),
    [
        (None, None, 5.0, None, ""),
        (None, 1.0, 1.0, True, "<= 1"),
        (None, 1.0, 1.1, False, "<= 1"),
        (0.9, 1.1, 0.8, False, "0.9 to 1.1"),
        (0.9, 1.1, 1.0, True, "0.9 to 1.1"),
        (100.0, None, 99.9, False, ">= 100"),
        (None, 1.0, float("nan"), False, "<= 1"),
        (0.5, None, float("nan"), False, ">= 0.5"),
    ],
)
def test_limits(low, high, value: float, ok: bool | None, limit: str) -> None:
    row = ScoreRow(product="p", figure="f", value=value, low=low, high=high)
    assert row.ok is ok
    assert row.limit == limit


def test_a_score_goes_to_json_with_its_judgement_and_comes_back() -> None:
    night = NightScore(rows=(ScoreRow(product="p", figure="f", value=2.0, high=1.0),))
    reported = night.model_dump(mode="json")
    assert reported["ok"] is False
    assert (reported["rows"][0]["ok"], reported["rows"][0]["limit"]) == (False, "<= 1")
    assert NightScore.model_validate(reported) == night


def test_a_score_without_judged_figures_is_not_good() -> None:
    assert not NightScore(rows=()).ok
    assert not NightScore(rows=(ScoreRow(product="p", figure="f", value=1.0),)).ok
