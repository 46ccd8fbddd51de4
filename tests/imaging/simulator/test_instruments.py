"""Nights of every instrument: headers from which its table reads the planned facts, and its detector's response."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from pydantic import ValidationError

from imaging.frames.facts import FrameFacts, facts_from_headers
from imaging.instruments import catalogue
from imaging.simulator.detector import delinearise, make_detector
from imaging.simulator.disturbances.readout_faults import periodic_plane
from imaging.simulator.draw_truth import frame_truth
from imaging.simulator.exposures import Night, simulate_frame
from imaging.simulator.observing_plan import plan_night
from imaging.simulator.parameters import NightParameters
from imaging.simulator.plans.any_table import plan_for
from imaging.simulator.plans.known_plans import file_root, plan_of
from imaging.simulator.simulate import simulate_night
from imaging.simulator.star_field import make_sources, pixel_position
from imaging.sky.choice import SkyParameters

FEW = {"n_science": 3, "n_darks": 2, "n_short_darks": 2, "n_lamp_on": 2, "n_lamp_off": 2}
KINDS = {"science": "object", "dark": "dark", "short_dark": "dark", "lamp_on": "flat", "lamp_off": "flat"}


def niri(**more) -> NightParameters:
    return NightParameters.model_validate({"instrument": "NIRI", "size": 256, "seed": 3, **FEW, **more})


def facts_of(parameters: NightParameters) -> list[tuple[str, FrameFacts]]:
    plan = parameters.plan
    found = []
    for frame in plan_night(parameters):
        primary, image = plan.headers(plan, parameters, frame)
        found.append((frame.role, facts_from_headers(primary, image, name=frame.root + ".fits")))
    return found


@pytest.mark.parametrize("band", list(plan_of("NIRI").bands))
def test_the_facts_of_every_set_and_band(band: str) -> None:
    for role, facts in facts_of(niri(band=band, coadds=2, size=1024)):
        assert (facts.instrument, facts.kind) == ("NIRI", KINDS[role])
        assert facts.filter == ("blank" if facts.kind == "dark" else band)
        assert facts.lamp == {"lamp_on": "on", "lamp_off": "off"}.get(role)
        assert facts.coadds == (2 if role in ("science", "dark") else 1)
        assert facts.root.startswith(f"N{facts.night:%Y%m%d}S")
        assert facts.section == "[1:1024,1:1024]"
        assert facts.unfit() is None
        assert not facts.header_notes


@pytest.mark.parametrize("camera", ["f6", "f14", "f32"])
@pytest.mark.parametrize("mode", ["Low_Background", "Medium_Background", "High_Background"])
@pytest.mark.parametrize("well", ["Shallow", "Deep"])
def test_the_setup_is_in_the_headers(camera: str, mode: str, well: str) -> None:
    parameters = niri(setup=(f"camera={camera}", f"readout_mode={mode}", f"well_depth={well}"), size=512)
    scale = {"f6": 0.1171, "f14": 0.0499, "f32": 0.0219}[camera]
    for role, facts in facts_of(parameters):
        values = facts.values
        assert (values["camera"], values["readout_mode"], values["well_depth"]) == (camera, mode, well)
        assert facts.section == "[257:768,257:768]"
        assert facts.readout.pixel_scale == parameters.axes.scale == scale
        assert facts.readout.saturation_electrons == pytest.approx(
            {"Shallow": 2e5, "Deep": 2.8e5}[well], abs=13
        )
        if role == "science":
            assert facts.exposure_time == parameters.exposure_time


@pytest.mark.parametrize(("camera", "step"), [("f6", 4.574), ("f14", 4.0), ("f32", 4.0)])
def test_dithers_are_wider_than_the_wings_of_stars_at_every_pixel_scale(camera: str, step: float) -> None:
    parameters = niri(setup=(f"camera={camera}",), size=512)
    assert parameters.dither_step == pytest.approx(step, abs=1e-3)
    assert parameters.dither_step > SkyParameters().least_distance
    assert niri(setup=(f"camera={camera}",), size=512, dither=1.5).dither_step == 1.5


def test_the_first_frame_of_each_set_is_recognised() -> None:
    assert [facts.first_frame() is not None for _, facts in facts_of(niri())].count(True) == 5
    truths = [frame_truth(niri(), frame) for frame in plan_night(niri())]
    assert [(truth.left_out, truth.unsettled > 0) for truth in truths] == [
        (truth.number == 0, truth.number == 0) for truth in truths
    ]


def test_files_have_the_form_of_real_ones_and_their_sky_is_in_place(tmp_path: Path) -> None:
    parameters = niri(wcs_rms=0.0, pointing_rms=0.0, turn=2.0)
    truth = simulate_night(tmp_path, parameters, roles=("science",))
    for frame in truth.science:
        with fits.open(tmp_path / frame.file) as hdus:
            assert [hdus[1].header[name] for name in ("BITPIX", "NAXIS", "NAXIS1")] == [-32, 2, 256]
            header = hdus[1].header
            assert header["CD1_1"] < 0 < header["CD2_2"]
            x, y = WCS(header).all_world2pix(truth.sources["ra"], truth.sources["dec"], 0)
        assert frame.pointing is not None
        tx, ty = pixel_position(
            truth.sources, frame.pointing, 256, parameters.axes, frame.disturbance.rotation
        )
        assert np.hypot(x - tx, y - ty).max() < 0.01


def test_offsets_move_stars_as_the_table_states() -> None:
    parameters = niri()
    stars, axes = make_sources(parameters), parameters.axes
    x0, y0 = pixel_position(stars, (0.0, 0.0), 256, axes)
    x1, y1 = pixel_position(stars, (1.171, -2.342), 256, axes)
    assert x1 - x0 == pytest.approx(np.full(len(x0), 10.0))  # x = POFFSET / scale
    assert y1 - y0 == pytest.approx(np.full(len(y0), 20.0))  # y = -QOFFSET / scale


def test_light_is_collected_longer_than_the_exposure_and_reported_non_linearly() -> None:
    parameters = niri(
        size=1024, setup=("readout_mode=Low_Background",), defects=0.0, large_scale_flat=0.0, pixel_flat_rms=0.0,
        pattern_rms=0.0, cosmic_rate=0.0, pedestal=0.0, dark_current=0.0, lamp_drift=0.0, band="J",
    )  # fmt: skip
    plan = plan_night(parameters)
    frame = next(one for one in plan if one.role == "lamp_on" and one.number == 1)
    truth = frame_truth(parameters, frame)
    night = Night(parameters, make_detector(parameters), make_sources(parameters))
    electrons = simulate_frame(night, frame, truth) * 12.3
    collected = truth.level * (5.0 + 1.2662732)
    assert electrons.mean() == pytest.approx(delinearise(collected, 1.0, 6.006310e-7, 1.282732e-12), rel=1e-4)
    facts = dict(facts_of(parameters))["lamp_on"]
    c1, c2, c3 = facts.readout.nonlinearity
    n = electrons.mean()
    assert ((c3 * n + c2) * n + c1) * n == pytest.approx(truth.level * 5.0, rel=2e-4)


def test_coadds_are_summed() -> None:
    one, four = niri(coadds=1), niri(coadds=4)
    levels = []
    for parameters in (one, four):
        frame = next(f for f in plan_night(parameters) if f.role == "science" and f.number == 1)
        night = Night(parameters, make_detector(parameters), make_sources(parameters))
        levels.append(float(np.median(simulate_frame(night, frame, frame_truth(parameters, frame)))))
    assert levels[1] / levels[0] == pytest.approx(4.0, rel=0.1)


def test_the_pattern_is_mirrored_between_quadrants() -> None:
    plane = periodic_plane([float(i) for i in range(32)], 64)
    assert plane[0, :9].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0]
    assert plane[0, :-9:-1].tolist() == [8, 9, 10, 11, 12, 13, 14, 15]
    assert plane[-1, :8].tolist() == [16, 17, 18, 19, 20, 21, 22, 23]
    assert plane[-1, -1] == 24
    assert (plane[:32] == plane[0]).all()


def test_the_pattern_changes_from_frame_to_frame() -> None:
    truths = [frame_truth(niri(pattern_rms=8.0), frame) for frame in plan_night(niri())]
    offsets = {truth.disturbance.pattern_offsets for truth in truths}
    assert len(offsets) == len(truths)
    assert np.std([list(one) for one in offsets]) == pytest.approx(8.0, rel=0.15)
    assert not any(frame_truth(niri(pattern_rms=0.0), f).disturbance.local for f in plan_night(niri()))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"band": "Ks"}, "band is one of J, H, K"),
        ({"size": 300}, "size is one of 1024, 768, 512, 256"),
        ({"setup": ("camera=f7",)}, "no pixel_scale"),
        ({"setup": ("colour=red",)}, "not a fact of NIRI"),
        ({"instrument": "ACME"}, "No table describes the instrument 'ACME'"),
    ],
)
def test_what_an_instrument_does_not_have_is_refused(given: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        niri(**given)


def test_a_pattern_needs_that_of_the_table() -> None:
    with pytest.raises(ValidationError, match="pattern_rms"):
        NightParameters(pattern_rms=3.0)


@pytest.mark.parametrize("name", ["F2", "NIRI"])
def test_a_table_alone_is_enough_for_a_night(name: str) -> None:
    """The plan for any table writes headers from which the table reads what was planned."""
    table = catalogue.named(name)
    plan = plan_for(table)
    parameters = NightParameters(instrument=name, size=256, **FEW)
    for frame in plan_night(parameters):
        primary, image = plan.headers(plan, parameters, frame)
        facts = facts_from_headers(primary, image, name=frame.root + ".fits")
        assert (facts.instrument, facts.kind) == (name, KINDS[frame.role])
        assert facts.exposure_time == frame.exposure_time
        assert facts.read_pairs == frame.read_pairs
        assert facts.lamp == {"lamp_on": "on", "lamp_off": "off"}.get(frame.role)
        assert facts.started == frame.started
        assert facts.unfit() is None
    assert set(plan.bands) == set(table.bands)


def test_names_of_files_follow_the_site() -> None:
    assert file_root(catalogue.named("F2"), "20131121", 75) == "S20131121S0075"
    assert file_root(catalogue.named("NIRI"), "20260310", 60) == "N20260310S0060"
    plain = catalogue.named("NIRI").model_copy(update={"site": type(catalogue.named("NIRI").site)()})
    assert file_root(plain, "20260310", 60) == "NIRI20260310_0060"
