"""A simulated night: names, headers, bytes and the truth next to the files."""

from __future__ import annotations

import bz2
import gzip
import hashlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from pydantic import ValidationError

from imaging.errors import FrameError
from imaging.frames.facts import FrameFacts, facts_from_headers
from imaging.simulator.detector import make_detector
from imaging.simulator.observing_plan import plan_night
from imaging.simulator.parameters import NightParameters
from imaging.simulator.plans.f2_nights import BANDS, SKY_SCALE
from imaging.simulator.simulate import simulate_night
from imaging.simulator.star_field import make_sources, pixel_position
from imaging.simulator.truth import NightTruth, load_truth, write_truth

camera = NightParameters().camera

TUTORIAL = {
    "science": [f"S20131121S{n:04d}" for n in range(75, 84)],
    "dark": [f"S20131120S{n:04d}" for n in range(115, 121)]
    + ["S20131121S0010", "S20131122S0012", "S20131122S0438", "S20131122S0439"],
    "short_dark": [f"S20131121S{n:04d}" for n in range(369, 376)],
    "lamp_on": [f"S20131129S{n:04d}" for n in range(320, 324)],
    "lamp_off": [f"S20131126S{n:04d}" for n in range(1111, 1117)],
}


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def _facts(path: Path) -> FrameFacts:
    with fits.open(path) as hdus:
        return facts_from_headers(hdus[0].header, hdus[1].header, name=path.name)


def test_the_default_night_is_the_tutorials() -> None:
    plan = plan_night(NightParameters())
    for role, names in TUTORIAL.items():
        assert [f.root for f in plan if f.role == role] == names
    assert len(plan) == 36
    for first, second in pairwise(sorted(plan, key=lambda f: f.root)):
        if first.root[:9] == second.root[:9]:
            assert second.started.timestamp() > first.started.timestamp() + first.exposure_time
    assert all(f.started.strftime("S%Y%m%d") == f.root[:9] for f in plan)


@pytest.mark.parametrize("band", list(BANDS))
def test_long_plans_have_names_of_their_own(band: str) -> None:
    plan = plan_night(NightParameters(band=band, n_science=36, n_darks=20, n_short_darks=12, n_lamp_off=12))
    assert len({f.root for f in plan}) == len(plan)


def test_files_have_the_form_of_real_ones(small_night: tuple[Path, NightTruth]) -> None:
    out, truth = small_night
    assert sorted(p.name for p in out.glob("*.fits")) == sorted(
        n + ".fits" for v in TUTORIAL.values() for n in v
    )
    for path in truth.raw_paths():
        with fits.open(path) as hdus:
            assert len(hdus) == 2
            assert hdus[0].data is None
            assert hdus[1].name == ""
            assert hdus[1].header["BITPIX"] == 32
            assert hdus[1].data.shape == (1, 256, 256)
            assert "BZERO" not in hdus[1].header
            assert len(hdus[0].header) > 90


def test_facts_of_every_set(small_night: tuple[Path, NightTruth]) -> None:
    _, truth = small_night
    expected = {
        "science": ("object", 120.0, 8, "Y_G0811", None),
        "dark": ("dark", 120.0, 8, "DK_G0807", None),
        "short_dark": ("dark", 2.0, 1, "DK_G0807", None),
        "lamp_on": ("flat", 20.0, 1, "Y_G0811", "on"),
        "lamp_off": ("flat", 20.0, 1, "Y_G0811", "off"),
    }
    labels = set()
    for path, frame in zip(truth.raw_paths(), truth.frames, strict=True):
        facts = _facts(path)
        found = (facts.kind, facts.exposure_time, facts.read_pairs, facts.filter_id, facts.lamp)
        assert found == expected[frame.role]
        assert facts.unfit() is None
        assert facts.coadds == 1
        assert (facts.lyot, facts.focal_mask, facts.disperser) == ("f/16_G5830", "Open", "Open")
        assert not facts.processed
        assert facts.started.strftime("S%Y%m%d") == facts.root[:9]
        labels.add(facts.data_label)
    assert len(labels) == len(truth.frames)


def test_offsets_and_wcs_follow_the_telescope(small_night: tuple[Path, NightTruth]) -> None:
    out, truth = small_night
    stars = truth.sources[truth.sources["kind"] == "bright"]
    for frame in truth.science:
        header = fits.getheader(out / frame.file, 1)
        header.rename_keyword("RADECSYS", "RADESYS")  # astropy warns of the old name
        facts = _facts(out / frame.file)
        assert (header["CD1_1"], header["CD2_2"]) == (0.0, 0.0)
        assert header["CD1_2"] == header["CD2_1"] == pytest.approx(4.97778e-5, rel=1e-5)
        assert frame.pointing == pytest.approx((facts.poffset, facts.qoffset), abs=0.6)
        x, y = WCS(header).celestial.all_world2pix(stars["ra"], stars["dec"], 0)
        tx, ty = pixel_position(stars, frame.pointing, 256, NightParameters().axes)
        off = np.hypot(np.median(x - tx), np.median(y - ty)) * SKY_SCALE
        assert off == pytest.approx(np.hypot(*frame.wcs_error), abs=0.02)
        if frame.number == truth.parameters.stale_wcs:
            assert off > 6.0
        else:
            assert 0.0 < off < 1.2
        centre = (256 - 1) / 2 - frame.pointing[1] / SKY_SCALE, (256 - 1) / 2 - frame.pointing[0] / SKY_SCALE
        assert frame.field_centre == pytest.approx(centre)


def test_other_software_finds_pointing_and_wcs_in_agreement(tmp_path: Path) -> None:
    """DRAGONS refuses frames whose WCS is not where target and offsets are, or moves differently.

    It takes a target without tracking rates, or with any, for a moving one, and then its coordinates for
    apparent ones.
    """
    truth = simulate_night(
        tmp_path, NightParameters(size=128, n_darks=1, n_lamp_on=0, n_lamp_off=0, n_short_darks=0)
    )
    pointings = []
    for frame in truth.science:
        primary, image = (fits.getheader(tmp_path / frame.file, n) for n in (0, 1))
        assert (primary["FRAME"], primary["TRKFRAME"]) == ("FK5", "FK5")
        assert (primary["RATRACK"], primary["DECTRACK"], primary["PMRA"], primary["PMDEC"]) == (0, 0, 0, 0)
        target = SkyCoord(primary["RA"], primary["DEC"], unit="deg")
        # P is East and Q is North at position angle 0.
        assert primary["PA"] == 0
        expected = target.spherical_offsets_by(primary["POFFSET"] * u.arcsec, primary["QOFFSET"] * u.arcsec)
        found = SkyCoord(image["CRVAL1"], image["CRVAL2"], unit="deg")
        assert found.separation(expected).arcsec < 10
        # Real frames have these with the opposite sign.
        assert (primary["XOFFSET"], primary["YOFFSET"]) == (-primary["POFFSET"], -primary["QOFFSET"])
        image.rename_keyword("RADECSYS", "RADESYS")
        moved = np.array([-primary["QOFFSET"], -primary["POFFSET"]]) / SKY_SCALE
        pointings.append((moved, WCS(image).celestial, found))
    (first, base, centre), *others = pointings
    here = np.array(base.world_to_pixel(centre))
    for moved, wcs, _ in others:
        commanded, measured = moved - first, np.array(wcs.world_to_pixel(centre)) - here
        assert np.hypot(*measured) > 0.5 * np.hypot(*commanded)
        clear = np.abs(commanded) > 2
        assert (np.sign(measured[clear]) == np.sign(commanded[clear])).all()


@pytest.mark.parametrize("size", [512, 2048])
def test_the_wcs_of_a_long_night_never_moves_the_other_way(size: int) -> None:
    for seed in range(10):
        plan = plan_night(NightParameters(size=size, n_science=45, seed=seed))
        science = [frame for frame in plan if frame.role == "science"]
        commanded, reported = (
            np.array([getattr(frame, name) for frame in science]) - getattr(science[0], name)
            for name in ("offset", "wcs")
        )
        assert (commanded * reported >= 0).all()
        assert np.std(reported - commanded, axis=0) == pytest.approx(0.25, rel=0.3)


def test_a_stale_frame_carries_the_previous_frames_wcs(small_night: tuple[Path, NightTruth]) -> None:
    out, truth = small_night
    values = [tuple(fits.getheader(out / f.file, 1)[f"CRVAL{i}"] for i in (1, 2)) for f in truth.science]
    assert values[3] == values[2]
    assert len(set(values)) == len(values) - 1


def test_levels_are_those_of_the_truth(small_night: tuple[Path, NightTruth]) -> None:
    out, truth = small_night
    good = truth.plane("ILLUMINATED") & (truth.plane("DEFECT") == 0)
    for frame in truth.frames:
        electrons = fits.getdata(out / frame.file, 1)[0] * camera.gain(frame.read_pairs)
        light = truth.plane("DARK") + truth.plane("RESPONSE") * frame.level
        expected = float(np.median((light * frame.exposure_time + truth.plane("OFFSET"))[good]))
        assert np.median(electrons[good]) == pytest.approx(expected, abs=3 + 0.01 * expected)


def test_stars_are_at_their_true_positions(small_night: tuple[Path, NightTruth]) -> None:
    out, truth = small_night
    bright = truth.sources[truth.sources["kind"] == "bright"]
    for frame in truth.science[:3]:
        electrons = fits.getdata(out / frame.file, 1)[0] * camera.gain(8)
        level = np.median(electrons)
        x, y = pixel_position(bright, frame.pointing, 256, NightParameters().axes)
        inside = (x > 6) & (x < 249) & (y > 6) & (y < 249)
        peaks = [electrons[round(b) - 1 : round(b) + 2, round(a) - 1 : round(a) + 2].max() for a, b in
                 zip(x[inside], y[inside], strict=True)]  # fmt: skip
        assert np.mean(np.array(peaks) > level + 1500) > 0.9


def test_a_star_saturates(small_night: tuple[Path, NightTruth]) -> None:
    out, truth = small_night
    frame = truth.science[4]
    adu = fits.getdata(out / frame.file, 1)[0]
    cool = truth.plane("DARK") < 10
    assert (adu[cool] >= camera.saturation_adu(8)).sum() >= 4


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_threads(tmp_path: Path) -> None:
    small = NightParameters(size=128, n_science=2, n_darks=2, n_short_darks=2, n_lamp_on=1, n_lamp_off=1)
    for name, threads in (("one", 1), ("three", 3)):
        simulate_night(tmp_path / name, small, threads=threads)
    simulate_night(tmp_path / "other", small.model_copy(update={"seed": 5}))
    one, three, other = (_digests(tmp_path / name) for name in ("one", "three", "other"))
    assert one == three
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one)


def test_writing_the_truth_leaves_the_detectors_planes_alone(tmp_path: Path) -> None:
    small = NightParameters(size=128)
    detector = make_detector(small)
    before = detector.response.copy()
    swapped = []

    class Watched(np.ndarray):
        def byteswap(self, inplace: bool = False) -> np.ndarray:
            swapped.append(inplace)
            return super().byteswap(inplace)

    watched = replace(detector, response=detector.response.view(Watched))
    write_truth(tmp_path, small, (), make_sources(small), watched)
    assert not any(swapped)
    assert (detector.response == before).all()
    assert (load_truth(tmp_path).plane("RESPONSE") == before).all()


def test_frames_do_not_depend_on_the_other_sets(tmp_path: Path) -> None:
    few = NightParameters(size=128, n_science=1, n_darks=2, n_short_darks=0, n_lamp_on=0, n_lamp_off=0)
    simulate_night(tmp_path / "few", few)
    simulate_night(tmp_path / "more", few.model_copy(update={"n_darks": 4}))
    few_files, more_files = _digests(tmp_path / "few"), _digests(tmp_path / "more")
    assert all(more_files[n] == d for n, d in few_files.items() if n.endswith(".fits") and "truth" not in n)


@pytest.mark.parametrize(("compression", "opener"), [("gz", gzip.open), ("bz2", bz2.open)])
def test_compressed_files_hold_the_same_bytes(tmp_path: Path, compression: str, opener) -> None:
    small = NightParameters(size=128, n_science=1, n_darks=0, n_short_darks=0, n_lamp_on=0, n_lamp_off=0)
    (plain,) = simulate_night(tmp_path / "plain", small).raw_paths()
    packed = small.model_copy(update={"compression": compression})
    (path,) = simulate_night(tmp_path / "packed", packed).raw_paths()
    assert path.name == f"{plain.name}.{compression}"
    with opener(path, "rb") as file:
        assert file.read() == plain.read_bytes()


def test_progress_is_reported_after_every_frame(tmp_path: Path) -> None:
    reported: list[tuple[int, int]] = []
    small = NightParameters(size=128, n_science=0, n_darks=3, n_short_darks=0, n_lamp_on=0, n_lamp_off=0)
    simulate_night(tmp_path, small, progress=lambda done, total: reported.append((done, total)))
    assert reported == [(1, 3), (2, 3), (3, 3)]


def test_k_flats_are_lamp_offs_with_darks_of_their_exposure(tmp_path: Path) -> None:
    k = NightParameters(band="K-red", size=128, n_science=1, n_darks=3, n_lamp_off=2, n_short_darks=3)
    truth = simulate_night(tmp_path, k)
    roles = {f.role for f in truth.frames}
    assert roles == {"science", "dark", "short_dark", "lamp_off"}
    flat, dark = truth.of_role("lamp_off")[0], truth.of_role("short_dark")[0]
    assert (flat.exposure_time, flat.read_pairs) == (dark.exposure_time, dark.read_pairs) == (2.0, 1)
    facts = _facts(tmp_path / flat.file)
    assert (facts.filter, facts.lamp, facts.root) == ("K-red", "off", "S20200108S0010")
    assert {f.role for f in plan_night(k.model_copy(update={"flat_time": 4.0}))} == roles | {"flat_dark"}
    assert truth.plane("BPM").sum() > 20


@pytest.mark.parametrize("band", list(BANDS))
def test_levels_of_every_band_stay_linear(band: str) -> None:
    p = NightParameters(band=band)
    limit = camera.linear_fraction * camera.well_depth
    assert 500 < p.sky_rate * p.exposure_time < 0.3 * limit
    assert 5000 < (p.defaults.lamp + p.defaults.thermal) * p.flat_exposure < 0.5 * limit


def test_the_truth_is_loaded_as_it_was_written(small_night: tuple[Path, NightTruth]) -> None:
    out, truth = small_night
    again = load_truth(out)
    assert again.folder == load_truth(out / "truth").folder == truth.folder
    assert again.parameters == truth.parameters
    assert again.frames == truth.frames
    assert (
        again.frame("S20131121S0077.fits.bz2") == again.frame("S20131121S0077_image.fits") == truth.science[2]
    )
    assert np.asarray(again.sources["flux"]) == pytest.approx(np.asarray(truth.sources["flux"]))
    with pytest.raises(FrameError, match="S20131121S0075"):
        again.frame("S19990101S0001.fits")
    with pytest.raises(FrameError, match=r"night\.json"):
        load_truth(out / "nowhere")


def test_true_bad_pixels_are_those_beyond_the_limits(small_night: tuple[Path, NightTruth]) -> None:
    _, truth = small_night
    bpm, margin, lit = truth.plane("BPM"), truth.plane("MARGIN"), truth.plane("ILLUMINATED")
    short = truth.plane("OFFSET") + 2.0 * truth.plane("DARK")
    response = truth.plane("RESPONSE")
    plainly = (short < -200) | (short > 3200) | (response < 0.66) | (response > 1.31)
    assert bpm[lit & plainly].all()
    fine = (short > -100) & (short < 2900) & (response > 0.70) & (response < 1.25)
    assert not bpm[lit & fine].any()
    assert not bpm[~lit].any()
    assert (bpm[lit] == (margin[lit] > 0)).all()
    close = lit & (np.abs(margin) < 5)
    assert 0 < close.sum() < 0.1 * bpm.sum()
    assert np.isfinite(margin).all()


def test_invalid_parameters_are_refused() -> None:
    with pytest.raises(ValidationError, match="stale_wcs"):
        NightParameters(n_science=3, stale_wcs=3)
    with pytest.raises(ValidationError, match="read pairs"):
        NightParameters(science_reads=3)
    with pytest.raises(ValidationError, match="size"):
        NightParameters(size=16)


def test_another_night_of_the_same_array(tmp_path: Path) -> None:
    few = {"size": 128, "n_science": 2, "n_darks": 1, "n_short_darks": 1, "n_lamp_on": 1, "n_lamp_off": 1}
    first, later = NightParameters(**few, seed=3), NightParameters(**few, seed=4, detector_seed=3, days=30)
    for name in ("dark", "response", "defect"):
        assert np.array_equal(getattr(make_detector(first), name), getattr(make_detector(later), name))
    assert [f.root for f in plan_night(later) if f.role == "dark"] == ["S20131220S0115"]
    night = simulate_night(tmp_path, later)
    dark = _facts(night.folder.parent / night.of_role("dark")[0].file)
    assert f"{dark.started:%Y-%m-%d}" == "2013-12-20"
    assert dark.name.startswith("S20131220")


def test_several_nights_of_one_field_differ_in_all_but_the_field(tmp_path: Path) -> None:
    few = {"size": 128, "n_science": 3, "n_darks": 1, "n_short_darks": 1, "n_lamp_on": 1, "n_lamp_off": 1}
    first = NightParameters(**few, seed=3)
    later = NightParameters(**few, seed=4, field_seed=3, detector_seed=3, days=2)
    nights = [simulate_night(tmp_path / name, p) for name, p in (("first", first), ("later", later))]
    sources = [night.sources for night in nights]
    assert all(np.array_equal(sources[0][name], sources[1][name]) for name in sources[0].colnames)
    one, two = (night.science for night in nights)
    facts = [[_facts(night.folder.parent / f.file) for f in night.science] for night in nights]
    for a, b in zip(*facts, strict=True):
        assert (a.ra, a.dec, a.poffset, a.qoffset) == (b.ra, b.dec, b.poffset, b.qoffset)
        assert (b.started - a.started).days == 2
    # Sky, transparency, seeing and the errors of the pointing are the night's own.
    for a, b in zip(one, two, strict=True):
        assert (a.level, a.transparency, a.fwhm, a.pointing) != (b.level, b.transparency, b.fwhm, b.pointing)
    frames = [fits.getdata(n.folder.parent / n.science[0].file, 1) for n in nights]
    assert not np.array_equal(*frames)


def test_a_field_of_its_own_seed_is_another_field() -> None:
    own, same, other = (make_sources(NightParameters(size=128, field_seed=s)) for s in (None, 20131121, 7))
    assert np.array_equal(own["ra"], same["ra"])
    assert np.array_equal(own["flux"], same["flux"])
    assert not np.array_equal(own["ra"], other["ra"])
