"""Science in a band without lamp flats: refused by default, or reduced with a flat from its own sky."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from night_lab import Lab, Run, link

from imaging.pixels.dq import UNUSABLE
from imaging.simulator.measure_stars import clipped_rms
from imaging.simulator.parameters import NightParameters
from imaging.simulator.score import score_night
from imaging.simulator.simulate import simulate_night
from imaging.simulator.truth import FLAT_LIMITS, NightTruth

pytestmark = pytest.mark.long

FEW = {"n_darks": 6, "n_short_darks": 5, "n_lamp_on": 5, "n_lamp_off": 5}
LAMPS = ("lamp_on", "lamp_off")
WANTED = {"sky_flat": {"make": "if_missing"}}
FROM_SKY = "made from the sky of science frames, not of a lamp"


@dataclass(frozen=True)
class Nights:
    """A band with lamp flats, which give the mask, and another of the same array."""

    with_lamps: NightTruth
    other: NightTruth

    def without_lamps(self, folder: Path) -> Path:
        raw = self.other.folder.parent
        return link([raw / f.file for f in self.other.frames if f.role not in LAMPS], folder)


def nights(folder: Path, first: dict[str, Any], second: dict[str, Any]) -> Nights:
    """Simulate two nights of one array; the second has other file numbers and times."""
    later = {"first": 30, "minutes": 40}
    return Nights(
        simulate_night(
            folder / "a", NightParameters.model_validate({**FEW, "seed": 21, "n_science": 0, **first})
        ),
        simulate_night(
            folder / "b", NightParameters.model_validate({**FEW, **later, "seed": 22, "n_science": 10, **second})
        ),
    )  # fmt: skip


@pytest.fixture(scope="module", params=["F2", "NIRI"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Nights:
    of = {"instrument": request.param, "size": 512, "detector_seed": 21}
    other = {"F2": "J", "NIRI": "H"}[request.param]
    return nights(tmp_path_factory.mktemp(request.param), of | {"band": "Y"}, of | {"band": other})


@dataclass(frozen=True)
class Reduced:
    """The runs into one store: by default, with flats from the sky, and after the lamp flats came."""

    lab: Lab
    refused: Run
    made: Run
    lamps: Run
    again: Run


@pytest.fixture(scope="module")
def reduced(new_lab: Callable[..., Lab], pair: Nights, tmp_path_factory: pytest.TempPathFactory) -> Reduced:
    lab, folder = new_lab(512), tmp_path_factory.mktemp("nights")
    lab.reduce(pair.with_lamps.folder.parent, out="mask")
    bare = pair.without_lamps(folder / "bare")
    raw = pair.other.folder.parent
    refused = lab.reduce(bare, out="refused")
    made = lab.reduce(bare, out="made", steps=WANTED)
    lamps = lab.reduce(
        link([raw / f.file for f in pair.other.frames if f.role in LAMPS], folder / "lamps"), out="lamps"
    )
    return Reduced(lab, refused, made, lamps, lab.reduce(bare, out="again", steps=WANTED))


def test_by_default_the_science_is_refused_and_the_way_out_is_named(reduced: Reduced, pair: Nights) -> None:
    assert "flat" not in reduced.refused.kinds()
    (failure,) = reduced.refused.report.failures
    assert "no flat serves" in failure.message
    assert "sky_flat.make=if_missing" in failure.message
    assert failure.waits_for == "flat"


def test_the_flat_is_made_from_the_sky_with_a_warning(reduced: Reduced, pair: Nights) -> None:
    assert reduced.made.report.failures == ()
    flat, stack = reduced.made.product("flat"), reduced.made.product("image")
    science = {f"{f.root}.fits" for f in pair.other.science if not f.left_out}
    assert set(flat.inputs) == set(stack.inputs) == science
    assert flat.name in stack.calibrations
    assert any(text.startswith("made from the sky of science frames") for text in flat.warnings)
    assert any(FROM_SKY in text for text in stack.warnings)
    assert flat.output is not None
    header = fits.getheader(flat.output)
    assert header["FLATFROM"] == "sky"
    assert header["NSKY"] == len(science)
    assert reduced.lab.store().get(flat.id).provisional == FROM_SKY


def test_the_flat_agrees_with_the_truth(reduced: Reduced, pair: Nights) -> None:
    """Its noise is that of the sky's photons; what is left of sky and stars is below 1 % over blocks of 64 px."""
    path = reduced.made.product("flat").output
    assert path is not None
    ratio, pull, floor = against_truth(path, pair.other)
    assert clipped_rms(pull[np.isfinite(pull)], 5.0) == pytest.approx(1.0, abs=0.15)
    small = ratio - blocks_of(ratio)
    assert clipped_rms(small[np.isfinite(small)], 5.0) < 1.15 * floor  # masks leave fewer frames
    assert np.nanmax(np.abs(blocks_of(ratio))) < 0.01


def against_truth(path: Path, truth: NightTruth) -> tuple[np.ndarray, np.ndarray, float]:
    """Return flat / response - 1 (nan on bad pixels), its pull, and the rms that the sky's photons allow."""
    with fits.open(path) as hdus:
        sci, var, dq = (np.asarray(hdus[name].data) for name in ("SCI", "VAR", "DQ"))
    response = truth.plane("RESPONSE")
    good = ((dq & UNUSABLE) == 0) & truth.plane("ILLUMINATED") & (truth.plane("BPM") == 0)
    good &= (response > FLAT_LIMITS[0]) & (response < FLAT_LIMITS[1]) & (var > 0)
    ratio = np.where(good, sci / np.where(good, response, 1), np.nan)
    ratio /= np.nanmedian(ratio)
    frames = [f for f in truth.science if not f.left_out]
    light = np.mean([f.level * f.exposure for f in frames])
    read = np.mean([f.read_variance for f in frames]) + truth.parameters.pattern_rms**2 * frames[0].coadds
    dark = float(np.median(truth.plane("DARK"))) * frames[0].exposure
    floor = math.sqrt((light + dark + read) / len(frames)) / light
    return ratio - 1, ((ratio - 1 - blocks_of(ratio - 1)) * response / np.sqrt(var))[good], floor


def blocks_of(plane: np.ndarray) -> np.ndarray:
    """Return the medians of blocks of 64 x 64 px, at the shape of the plane."""
    n = plane.shape[0] // 64
    with np.errstate(all="ignore"):
        parts = plane.reshape(n, 64, n, 64).swapaxes(1, 2).reshape(n, n, -1)
        enough = np.isfinite(parts).sum(axis=-1) > 400
        middle = np.full((n, n), np.nan)
        middle[enough] = np.nanmedian(parts[enough], axis=-1)
    return np.kron(middle, np.ones((64, 64)))


def test_the_stack_is_good(reduced: Reduced, pair: Nights) -> None:
    score = score_night(pair.other, stack=reduced.made.product("image").output)
    figures = ("registration", "VAR pull", "outliers beyond 8 sigma")
    assert [row for row in score.failed if row.figure in figures] == []
    assert score.value("stack", "flux scatter") < 1.0
    assert score.value("stack", "flux scale") == pytest.approx(1.0, abs=0.01)


def test_a_flat_of_a_lamp_is_taken_as_soon_as_it_exists(reduced: Reduced, pair: Nights) -> None:
    lamp = reduced.lamps.product("flat")
    assert reduced.again.report.failures == ()
    assert "flat" not in reduced.again.kinds()
    assert lamp.name in reduced.again.product("image").calibrations
    sky = reduced.made.product("flat")
    store = reduced.lab.store()
    facts = store.frames.with_sha256s([frame_sha256(store, sky)])
    (frame,) = facts.values()
    candidates = {one.product.name: one for one in store.explain(frame.facts, "flat").candidates}
    assert candidates[lamp.name].taken
    assert not candidates[sky.name].taken
    assert candidates[sky.name].reason == f"{FROM_SKY}; another was taken"


def frame_sha256(store: Any, product: Any) -> str:
    """Return the identity of the first frame of a product."""
    return next(ref.source for ref in store.inputs_of(store.get(product.id)) if isinstance(ref.source, str))


def test_lamp_flats_among_the_frames_leave_no_flat_from_the_sky(
    reduced: Reduced, pair: Nights, tmp_path: Path, new_lab: Callable[..., Lab]
) -> None:
    lab = new_lab(512)
    run = lab.reduce(pair.other.folder.parent, steps=WANTED)
    assert run.report.failures == ()
    (flat,) = [one for one in run.report.products if one.kind == "flat"]
    assert not any("made from the sky" in text for text in flat.warnings)
    assert not any(FROM_SKY in text for text in run.product("image").warnings)
