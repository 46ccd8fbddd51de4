"""Frames of NIRI, by its table: invented headers with the traps of real ones."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest

from imaging.detrend.prepare import prepare
from imaging.errors import FrameError
from imaging.frames.facts import FrameFacts, facts_from_headers
from imaging.frames.pointing import moved_by
from imaging.header import Header
from imaging.instruments import catalogue
from imaging.pixels.noise import NoiseModel
from imaging.pixels.wcs import with_valid_wcs
from imaging.products.header_cards import saturation_electrons

CARDS: dict[str, Any] = {
    "INSTRUME": "NIRI", "OBSTYPE": "OBJECT", "OBSCLASS": "science", "OBJECT": "NGC 1", "FILTER1": "J_G0202",
    "FILTER2": "open", "FILTER3": "pupil38_G5207", "CAMERA": "f6", "FPMASK": "f6-cam_G5208", "EXPTIME": 30.001,
    "COADDS": 2, "LNRS": 1, "NDAVGS": 16, "A_VDDUC": -3.49, "A_VDET": -2.91, "DATE-OBS": "2008-10-02",
    "TIME-OBS": "10:00:01.5", "UT": "10:00:01.0", "UTEND": "10:01:09.0", "MJD_OBS": 54741.41735, "POFFSET": 6.0,
    "QOFFSET": -3.0, "RAOFFSET": -6.0, "DECOFFSE": 3.0, "PA": 0.0, "INPORT": 3, "AOFOLD": "park-pos.",
    "RA": 12.5, "DEC": 31.5, "AIRMASS": 1.2, "ARRAYID": "47911", "GEMPRGID": "GN-2008B-Q-1", "OBSID": "GN-2008B-Q-1-5",
    "DATALAB": "GN-2008B-Q-1-5-004", "RAWGEMQA": "USABLE", "RAWIQ": "70-percentile",
}  # fmt: skip
IMAGE: dict[str, Any] = {
    "NAXIS": 2, "NAXIS1": 1024, "NAXIS2": 1024, "LOWROW": 0, "HIROW": 1023, "LOWCOL": 0, "HICOL": 1023,
}  # fmt: skip
MATRIX: dict[str, Any] = {
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 512.5, "CRPIX2": 512.5, "CRVAL1": 12.5, "CRVAL2": 31.5,
    "CD1_1": -3.25e-5, "CD1_2": 1.3e-7, "CD2_1": -9.0e-9, "CD2_2": 3.23e-5,
}  # fmt: skip


def read(image: dict[str, Any] | None = None, **changes: Any) -> FrameFacts:
    cards = {keyword: value for keyword, value in (CARDS | changes).items() if value is not None}
    return facts_from_headers(cards, IMAGE | (image or {}), name="N20081002S0101.fits")


def test_a_frame_of_the_sky() -> None:
    facts = read()
    assert (facts.instrument, facts.kind, facts.filter_id, facts.filter) == ("NIRI", "object", "J_G0202", "J")
    assert (facts.exposure_time, facts.coadds, facts.exposure) == (30.001, 2, 60.002)
    assert (facts.section, facts.disperser, facts.focal_mask) == ("[1:1024,1:1024]", "Open", "f6-cam")
    assert (facts.value("camera"), facts.value("well_depth")) == ("f6", "Shallow")
    assert facts.started == datetime(2008, 10, 2, 10, 0, 1, tzinfo=UTC)
    assert facts.night == date(2008, 10, 2)
    assert (facts.unfit(), facts.first_frame(), facts.notes) == (None, None, ())
    assert {"NIRI", "NORTH", "IMAGE"} < facts.tags


@pytest.mark.parametrize(
    ("reads", "mode", "noise"),
    [
        ((16, 16), "Low_Background", 12.3),
        ((1, 16), "Medium_Background", 35.0),
        ((1, 1), "High_Background", 70.0),
        ((4, 16), "unknown", 35.0),
        ((16, 1), "unknown", 35.0),
    ],
)
def test_the_read_mode_gives_the_noise(reads: tuple[int, int], mode: str, noise: float) -> None:
    facts = read(LNRS=reads[0], NDAVGS=reads[1])
    assert facts.value("readout_mode") == mode
    assert facts.gain == 12.3
    assert facts.read_noise == pytest.approx(noise * 2**0.5)
    assert any("no known read mode" in note for note in facts.notes) == (mode == "unknown")


@pytest.mark.parametrize(
    ("volts", "well", "electrons"),
    [
        ((-3.49, -2.91), "Shallow", 200_000.0),
        ((-3.49, -2.84), "Shallow", 200_000.0),
        ((-3.49, "-2.602"), "Deep", 280_000.0),
    ],
)
def test_the_bias_gives_the_well_depth(volts: tuple[float, Any], well: str, electrons: float) -> None:
    facts = read(A_VDDUC=volts[0], A_VDET=volts[1])
    assert facts.value("well_depth") == well
    assert facts.readout.saturation == 2 * int(electrons / 12.3)
    assert facts.readout.linear_fraction == 0.7


@pytest.mark.parametrize("detector", [-3.49, -2.75, -2.0, None])
def test_another_bias_is_refused(detector: float | None) -> None:
    with pytest.raises(FrameError) as caught:
        read(A_VDET=detector)
    error = caught.value
    if detector is None:
        assert (error.keyword, error.found) == ("A_VDET", None)
    else:
        assert error.keyword == "A_VDDUC - A_VDET"
        assert error.found == pytest.approx(-3.49 - detector)
        assert error.expected == "-0.65 to -0.55 (Shallow) or -0.92 to -0.82 (Deep)"


#: By read mode (LNRS, NDAVGS), rows and bias: dt, gamma and eta of the observatory's formula.
COEFFICIENTS: dict[tuple[int, int, int, float], tuple[float, float, float]] = {
    (16, 16, 1024, -2.90): (1.2662732, 6.006310e-7, 1.282732e-12),
    (1, 16, 1024, -2.90): (0.0944252, 2.787629e-7, 3.178236e-12),
    (1, 16, 256, -2.90): (0.0102926, 5.540988e-7, 1.404726e-12),
    (1, 1, 1024, -2.90): (0.0096973, 2.471575e-7, 3.067479e-12),
    (1, 1, 1024, -2.62): (0.0076808, 2.912125e-7, 1.203254e-12),
}


@pytest.mark.parametrize("mode", COEFFICIENTS)
def test_non_linearity_per_coadd_and_the_longer_exposure(mode: tuple[int, int, int, float]) -> None:
    dt, gamma, eta = COEFFICIENTS[mode]
    rows = {"NAXIS1": mode[2], "NAXIS2": mode[2], "HIROW": mode[2] - 1, "HICOL": mode[2] - 1}
    facts = read(rows, LNRS=mode[0], NDAVGS=mode[1], A_VDET=mode[3])
    assert facts.notes == ()
    adu = np.array([[100, 5000, 15000]], np.int32)
    sci, var, _ = prepare(adu, facts)
    one = adu * 12.3 / 2
    scale = 30.001 / (30.001 + dt)
    charge = 2 * (one + gamma * one**2 + eta * one**3)
    np.testing.assert_allclose(sci, charge * scale, rtol=1e-6)
    # The charge is Poisson: the variance of charge x scale is charge x scale squared.
    slope = scale * (1 + 2 * gamma * one + 3 * eta * one**2)
    floor = facts.read_noise**2 + 12.3**2 / 12
    np.testing.assert_allclose(var, charge * scale**2 + floor * slope**2, rtol=1e-6)
    model = NoiseModel.of(facts).variance(sci, linearised=True)
    np.testing.assert_allclose(model, var, rtol=2e-3)
    well = facts.readout.saturation_electrons
    assert saturation_electrons(facts, corrected=True) == pytest.approx(
        2 * scale * (well + gamma * well**2 + eta * well**3)
    )


def test_a_combination_without_coefficients_is_not_corrected_and_noted() -> None:
    facts = read(LNRS=16, NDAVGS=16, A_VDET=-2.62)
    assert (facts.readout.nonlinearity, facts.readout.time_scale) == ((1.0, 0.0, 0.0), 1.0)
    assert any("not corrected for non-linearity" in note for note in facts.notes)
    sci, _, _ = prepare(np.array([[15000]], np.int32), facts)
    assert sci[0, 0] == pytest.approx(15000 * 12.3)


@pytest.mark.parametrize(
    ("wheels", "filter_id", "name"),
    [
        (("open", "open", "Pupil38_G5207"), "Open", "Open"),
        (("Kprime_G0206", "open", "pupil38_G5207"), "Kprime_G0206", "K(prime)"),
        (("Kshort_G0205", "open", "pupil38_G5207"), "Kshort_G0205", "K(short)"),
        (("PK50_G0201", "CH4long_G0229", "Pupil38_G5207"), "CH4long_G0229", "CH4(long)"),
        (("PK50_G0201", "open", "Jcon(112)_G0235"), "Jcon(112)_G0235", "Jcon(112)"),
        (("PK50_G0201", "open", "blank"), "blank", "blank"),
        (("PK50_G0201", "open", "pupil38_G5207"), "PK50_G0201", "PK50"),
        (("K_G0204", "H2v=1-0S1_G0216", "Pupil38_G5207"), "K_G0204&H2v=1-0S1_G0216", "H2_1-0_S1"),
        (("K_G0204", "H2v=1-0s1_G0216", "pupil38_G5207"), "K_G0204&H2v=1-0s1_G0216", "H2_1-0_S1"),
    ],
)
def test_three_wheels_name_one_filter(wheels: tuple[str, str, str], filter_id: str, name: str) -> None:
    facts = read(FILTER1=wheels[0], FILTER2=wheels[1], FILTER3=wheels[2])
    assert (facts.filter_id, facts.filter) == (filter_id, name)


def test_a_wheel_that_did_not_answer_is_refused() -> None:
    with pytest.raises(FrameError, match=r"FILTER2 = 'Get Timed Out\?', expected the name of a filter"):
        read(FILTER2="Get Timed Out?")


def test_a_blank_filter_lets_no_light_through() -> None:
    blank = {"FILTER3": "blank"}
    assert read(OBSTYPE="DARK", **blank).unfit() is None
    for kind in ("OBJECT", "FLAT"):
        assert "no light reached the detector" in str(read(OBSTYPE=kind, **blank).unfit())
    assert read(**blank).kind == "object"


def test_a_grism_is_spectroscopy() -> None:
    facts = read(FILTER1="Ksort_G0211", FILTER3="Kgrism_G5204")
    assert (facts.disperser, facts.filter) == ("Kgrism", "K_order_sort")
    assert str(facts.unfit()).startswith("spectroscopy (FILTER3 = 'Kgrism')")


@pytest.mark.parametrize(
    ("camera", "scale", "band", "zero_point"),
    [("f6", 0.1171, "J", 26.69), ("f13.9", 0.0499, "J", None), ("f14", 0.0499, "J", None), ("f32", 0.0219, "H", 26.34)],
)  # fmt: skip
def test_the_camera_gives_scale_and_zero_point(
    camera: str, scale: float, band: str, zero_point: float | None
) -> None:
    facts = read(CAMERA=camera, FILTER1=f"{band}_G0202")
    assert facts.readout.pixel_scale == scale
    assert facts.table.zero_point(facts.values) == zero_point
    assert facts.focal_mask == "f6-cam"  # whatever the camera


def test_an_unknown_camera_is_refused() -> None:
    with pytest.raises(FrameError, match="CAMERA = 'f16', expected one of f6, f14, f32"):
        read(CAMERA="f16")


@pytest.mark.parametrize(
    ("borders", "section"),
    [
        ((0, 1023, 0, 1023), "[1:1024,1:1024]"),
        ((0, 767, 0, 767), "[129:896,129:896]"),
        ((0, 255, 0, 255), "[385:640,385:640]"),
        ((256, 767, 256, 767), "[257:768,257:768]"),
        ((0, 511, 256, 767), "[257:768,257:768]"),
    ],
)
def test_the_section_follows_from_rows_and_columns(borders: tuple[int, ...], section: str) -> None:
    x1, x2, y1, y2 = borders
    size = {"NAXIS1": x2 - x1 + 1, "NAXIS2": y2 - y1 + 1}
    facts = read({"LOWROW": x1, "HIROW": x2, "LOWCOL": y1, "HICOL": y2} | size)
    assert facts.section == section


def test_a_product_states_its_section() -> None:
    without = {keyword: value for keyword, value in IMAGE.items() if not keyword.startswith(("LOW", "HI"))}
    size = {"NAXIS1": 256, "NAXIS2": 256, "DETSEC": "[385:640,385:640]"}
    assert facts_from_headers(CARDS, without | size, name="n1.fits").section == "[385:640,385:640]"
    assert facts_from_headers(CARDS, without, name="n1.fits").section == "[1:1024,1:1024]"


@pytest.mark.parametrize("changes", [{"HICOL": 1024}, {"LOWROW": 500, "HIROW": 499}, {"HIROW": None}])
def test_an_impossible_section_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(FrameError) as caught:
        read(changes)
    assert caught.value.keyword in ("HICOL", "HIROW")


@pytest.mark.parametrize(
    ("port", "fold", "shift"),
    [(3, "park-pos.", (60.0, 30.0)), (1, "park-pos.", (-60.0, 30.0)), (1, "IN", (60.0, 30.0))],
)
def test_offsets_are_flipped_on_the_port_that_looks_up(
    port: int, fold: str, shift: tuple[float, float]
) -> None:
    facts = read(INPORT=port, AOFOLD=fold, POFFSET=60 * 0.1171, QOFFSET=-30 * 0.1171)
    assert moved_by(facts) == pytest.approx(shift)


@pytest.mark.parametrize("pa", [0.0, 21.7, 90.0, 333.84])
def test_early_headers_have_their_offsets_on_the_sky(pa: float) -> None:
    p, q = 6.5, -2.5
    cosine, sine = np.cos(np.radians(pa)), np.sin(np.radians(pa))
    early = {
        "POFFSET": None,
        "QOFFSET": None,
        "RAOFFSET": q * sine - p * cosine,
        "DECOFFSE": -p * sine - q * cosine,
    }
    facts = read(PA=pa, **early)
    assert (facts.poffset, facts.qoffset) == pytest.approx((p, q))


def test_headers_of_2002() -> None:
    """Neither OBSCLASS, P, Q nor the fold mirror; the time differs in UT and TIME-OBS; MJD_OBS is a minute late."""
    lacking = dict.fromkeys(("OBSCLASS", "POFFSET", "QOFFSET", "AOFOLD", "UTEND"))
    early = {
        "DATE-OBS": "2002-06-20",
        "UT": "07:16:17.1",
        "TIME-OBS": "07:16:17.6",
        "MJD_OBS": 52445.3037750128,
    }
    facts = facts_from_headers(
        {keyword: value for keyword, value in (CARDS | lacking | early).items() if value is not None},
        IMAGE,
        name="N20020620S0035.fits",
    )
    assert facts.started == datetime(2002, 6, 20, 7, 16, 17, 100_000, tzinfo=UTC)
    assert (facts.observation_class, facts.unfit(), facts.notes) == ("", None, ())


def test_the_night_changes_at_14_hours_local_time() -> None:
    site = catalogue.named("NIRI").site
    assert site.night_of(datetime(2014, 12, 3, 23, 27, tzinfo=UTC)) == date(2014, 12, 3)
    assert site.night_of(datetime(2015, 4, 5, 3, 27, tzinfo=UTC)) == date(2015, 4, 5)
    assert site.date_in("N20150405S0028.fits") == date(2015, 4, 5)


def test_corrupt_world_coordinates_of_the_image_are_replaced() -> None:
    image = with_valid_wcs(Header(IMAGE | MATRIX | {"CD1_1": -3.25e-55}), Header(CARDS | MATRIX))
    assert image["CD1_1"] == -3.25e-5
    facts = facts_from_headers(Header(CARDS | MATRIX), image, name="n1.fits")
    assert any("those of the primary header are used" in note for note in facts.notes)
    both = with_valid_wcs(Header(IMAGE | MATRIX), Header(CARDS | MATRIX | {"CD1_1": 0.0, "CD2_1": 0.0}))
    assert (both["CD1_1"], both.notes) == (-3.25e-5, ())


@pytest.mark.parametrize(
    ("label", "first"),
    [("GN-2008B-Q-1-5-001", True), ("GN-2008B-Q-1-5-011", False), ("GN-2008B-Q-1-1-002", False), ("", False)],
)
def test_the_first_frame_of_an_observation_is_bad(label: str, first: bool) -> None:
    facts = read(DATALAB=label)
    assert facts.unfit() is None
    assert (facts.first_frame() is not None) == first
    if first:
        assert (
            facts.first_frame()
            == "the first frame of an observation, by DATALAB, which is bad in data of NIRI"
        )


def test_the_lamp() -> None:
    flat = {"OBSTYPE": "FLAT", "GCALLAMP": "IRhigh"}
    assert read(**flat, GCALSHUT="OPEN").lamp == "on"
    assert read(**flat, GCALSHUT="CLOSED").lamp == "off"
    assert read(OBSTYPE="FLAT", GCALLAMP="QH", GCALSHUT="OPEN").lamp == "on"
    assert read(**flat, GCALSHUT="?").lamp is None
    assert catalogue.named("NIRI").thermal_bands == ()
