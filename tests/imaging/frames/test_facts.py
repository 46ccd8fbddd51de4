"""Every row of the keyword table: the contents of a FLAMINGOS-2 header, and invalid values."""

from __future__ import annotations

import pickle
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from imaging.errors import FrameError
from imaging.frames.facts import FrameFacts, facts_from_headers
from imaging.frames.file_names import plain_name
from imaging.instruments import catalogue

Cards = dict[str, Any]


def read(cards: Cards, name: str = "S20131121S0075.fits", **changes: Any) -> FrameFacts:
    """Facts of some cards with changes; a change to None drops the card."""
    merged = cards | {"DATE-OBS" if k == "DATE_OBS" else k: v for k, v in changes.items()}
    return facts_from_headers({k: v for k, v in merged.items() if v is not None}, None, name=name)


def dark(cards: Cards, **changes: Any) -> FrameFacts:
    return read(cards, **{"OBSTYPE": "DARK", "FILTER2": "DK_G0807"} | changes)


def flat(cards: Cards, **changes: Any) -> FrameFacts:
    return read(cards, **{"OBSTYPE": "FLAT", "GCALLAMP": "IRhigh", "GCALSHUT": "OPEN"} | changes)


def test_science_frame(science: Cards) -> None:
    facts = read(science, name="/data/S20131121S0075.fits.bz2")
    assert facts.name == "S20131121S0075.fits"
    assert facts.root == "S20131121S0075"
    assert (facts.instrument, facts.kind, facts.observation_class) == ("F2", "object", "science")
    assert (facts.target, facts.program) == ("FIELD-A", "GS-2013B-Q-15")
    assert (facts.observation_id, facts.data_label) == ("GS-2013B-Q-15-39", "GS-2013B-Q-15-39-001")
    assert (facts.ra, facts.dec, facts.airmass) == (63.4917, -47.8443, 1.1)
    assert (facts.poffset, facts.qoffset, facts.pa, facts.inport) == (-19.8, -19.9, 0.0, 3)
    assert (facts.filter_id, facts.filter, facts.lyot) == ("Y_G0811", "Y", "f/16_G5830")
    assert (facts.focal_mask, facts.disperser, facts.detector) == ("Open", "Open", "109")
    assert facts.lamp is None
    assert facts.guided
    assert not facts.peripheral_guider
    assert not facts.processed
    assert facts.unfit() is None
    assert facts.tags == {"GEMINI", "SOUTH", "F2", "RAW", "IMAGE"}


def test_times_are_utc(science: Cards) -> None:
    facts = read(science, COADDS=3, EXPTIME=20.0)
    start = datetime(2013, 11, 21, 2, 52, 48, tzinfo=UTC)
    assert facts.started == start
    assert facts.exposure == 60.0
    assert facts.middle == start + timedelta(seconds=30)
    assert facts.ended == start + timedelta(seconds=60)


@pytest.mark.parametrize(
    ("day", "clock", "night"),
    [
        ("2013-11-21", "02:52:48.0", date(2013, 11, 21)),
        ("2013-11-20", "23:30:00", date(2013, 11, 21)),
        ("2013-11-21", "16:59:59", date(2013, 11, 21)),
        ("2013-11-21", "17:00:00", date(2013, 11, 22)),
    ],
)
def test_night_rolls_over_in_the_chilean_afternoon(science: Cards, day: str, clock: str, night: date) -> None:
    assert read(science, DATE_OBS=day, UTSTART=clock).night == night


def test_start_from_other_keywords(science: Cards) -> None:
    expected = datetime(2013, 11, 21, 2, 52, 48, 500000, tzinfo=UTC)
    assert read(science, UTSTART=None, **{"TIME-OBS": "02:52:48.5"}).started == expected
    assert read(science, DATE_OBS="2013-11-21T02:52:48.5", UTSTART=None).started == expected


def test_early_name_of_the_instrument(science: Cards) -> None:
    assert read(science, INSTRUME="Flam").instrument == "F2"


@pytest.mark.parametrize(
    ("obstype", "kind"), [("DARK", "dark"), ("FLAT", "flat"), ("OBJECT", "object"), ("ARC", "arc")]
)
def test_kind(science: Cards, obstype: str, kind: str) -> None:
    assert read(science, OBSTYPE=obstype).kind == kind


@pytest.mark.parametrize("wheels", [("DK_G0807", "Open"), ("Open", "DK_G0807"), ("Y_G0811", "DK_G0807")])
def test_a_dark_filter_makes_a_dark(science: Cards, wheels: tuple[str, str]) -> None:
    facts = read(science, OBSTYPE="OBJECT", FILTER1=wheels[0], FILTER2=wheels[1])
    assert facts.kind == "dark"
    assert {"DARK", "CAL"} <= facts.tags


@pytest.mark.parametrize("grism", ["JH_G5801", "HK_G5802", "R3K_G5803", "Unknown"])
def test_a_grism_is_spectroscopy(science: Cards, grism: str) -> None:
    facts = read(science, GRISM=grism)
    assert facts.spectroscopic
    assert "SPECT" in facts.tags
    assert "IMAGE" not in facts.tags
    assert "spectroscopy" in str(facts.unfit())


def test_pre_2010_wheel_names(science: Cards) -> None:
    old = science | dict.fromkeys(("GRISM", "FILTER1", "FILTER2", "LYOT"))
    facts = read(old, FILT1POS="J_G0802", FILT2POS="Open", GRISMPOS="JH_G5801", LYOTPOS="f/16_G5830")
    assert (facts.filter, facts.disperser, facts.lyot) == ("J", "JH", "f/16_G5830")


@pytest.mark.parametrize(
    ("mospos", "maskname", "mask"),
    [
        ("Open", "None", "Open"),
        ("Open", "GS2013BQ015-01", "Open"),
        ("mask1", "GS2013BQ015-01", "GS2013BQ015-01"),
        ("2pix-slit_G5851", "None", "2pix-slit"),
        (None, None, "Open"),
    ],
)
def test_focal_plane_mask(science: Cards, mospos: str | None, maskname: str | None, mask: str) -> None:
    assert read(science, MOSPOS=mospos, MASKNAME=maskname).focal_mask == mask


@pytest.mark.parametrize(
    ("first", "second", "lyot", "filter_id", "band"),
    [
        ("Open", "Y_G0811", "f/16_G5830", "Y_G0811", "Y"),
        ("K-red_G0814", "Open", "f/16_G5830", "K-red_G0814", "K-red"),
        ("Open", "Open", "K-long_G0812", "K-long_G0812", "K-long"),
        ("Open", "J_G0802", "GEMS_over_G5836", "J_G0802", "J"),
        ("Open", "H_G0803", "Hart1_G5833", "H_G0803", "H"),
        ("Open", "Open", "f/16_G5830", "Open", "Open"),
    ],
)
def test_filter_in_three_wheels(
    science: Cards, first: str, second: str, lyot: str, filter_id: str, band: str
) -> None:
    facts = read(science, FILTER1=first, FILTER2=second, LYOT=lyot)
    assert (facts.filter_id, facts.filter) == (filter_id, band)


@pytest.mark.parametrize(
    ("lamp", "shutter", "state"),
    [
        ("IRhigh", "OPEN", "on"),
        ("IRlow", "OPEN", "on"),
        ("QH", "OPEN", "on"),
        ("QH", "CLOSED", "off"),
        ("IRhigh", "CLOSED", "off"),
        ("No Value", "CLOSED", "off"),
        (None, "CLOSED", "off"),
        ("No Value", "OPEN", None),
        ("IRhigh", None, None),
    ],
)
def test_lamp(science: Cards, lamp: str | None, shutter: str | None, state: str | None) -> None:
    facts = flat(science, GCALLAMP=lamp, GCALSHUT=shutter)
    assert facts.lamp == state
    assert ("GCALFLAT" in facts.tags) == (state is not None)
    assert ("LAMPON" in facts.tags, "LAMPOFF" in facts.tags) == (state == "on", state == "off")


def test_only_flats_have_a_lamp(science: Cards) -> None:
    assert read(science, GCALLAMP="IRhigh", GCALSHUT="OPEN").lamp is None


@pytest.mark.parametrize(("pairs", "noise"), [(1, 11.7), (4, 6.0), (6, 5.3), (8, 5.0)])
def test_gain_and_noise_follow_the_read_pairs(science: Cards, pairs: int, noise: float) -> None:
    facts = read(science, LNRS=pairs, NREADS=pairs, COADDS=4)
    assert facts.gain == pytest.approx(4.44 / pairs)
    assert facts.read_noise == pytest.approx(2 * noise)


@pytest.mark.parametrize(("lnrs", "nreads"), [(2, 4), (6, 8)])
def test_nreads_is_right_in_early_data(science: Cards, lnrs: int, nreads: int) -> None:
    facts = read(science, LNRS=lnrs, NREADS=nreads, DATE_OBS="2015-03-31")
    assert (facts.read_pairs, facts.read_pairs_corrected) == (nreads, True)
    with pytest.raises(FrameError, match="disagree"):
        read(science, LNRS=lnrs, NREADS=nreads, DATE_OBS="2015-04-01")


def test_any_other_disagreement_is_refused(science: Cards) -> None:
    with pytest.raises(FrameError, match=r"LNRS and NREADS = 1 disagree.*LNRS = 8"):
        read(science, NREADS=1)


def test_nreads_may_be_missing(science: Cards) -> None:
    assert read(science, NREADS=None).read_pairs == 8


@pytest.mark.parametrize(
    ("states", "guided", "peripheral"),
    [
        (("parked", "guiding", "parked"), True, True),
        (("guiding", "parked", "parked"), True, False),
        (("parked", "parked", "guiding"), True, False),
        (("parked", "frozen", "frozen"), False, False),
        ((None, None, None), True, False),
    ],
)
def test_guiding(science: Cards, states: tuple[str | None, ...], guided: bool, peripheral: bool) -> None:
    facts = read(science, **dict(zip(("PWFS1_ST", "PWFS2_ST", "OIWFS_ST"), states, strict=True)))
    assert (facts.guided, facts.peripheral_guider) == (guided, peripheral)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"OBSTYPE": "ARC"}, "arc"),
        ({"RAWGEMQA": "BAD"}, "RAWGEMQA = 'BAD'"),
        ({"OBSCLASS": "acq"}, "OBSCLASS = 'acq'"),
        ({"OBSCLASS": "acqCal"}, "acquisition"),
        ({"GEMPRGID": "GS-ENG20131121"}, "engineering"),
    ],
)
def test_what_takes_no_part(science: Cards, changes: Cards, reason: str) -> None:
    assert reason in str(read(science, **changes).unfit())


def test_engineering_darks_are_welcome(science: Cards) -> None:
    assert dark(science, GEMPRGID="GS-ENG20131121").unfit() is None


def test_tags_of_a_standard_and_an_acquisition(science: Cards) -> None:
    assert {"STANDARD", "CAL", "IMAGE"} <= read(science, OBSCLASS="partnerCal").tags
    assert "ACQUISITION" in read(science, OBSCLASS="acq").tags


@pytest.mark.parametrize(
    ("mark", "kind"),
    [("PROCDARK", "dark"), ("PROCFLAT", "flat"), ("BPMASK", "bpm"), ("PROCBPM", "bpm"), ("PROCSCI", "image")],
)
def test_products_by_their_mark(science: Cards, mark: str, kind: str) -> None:
    facts = read(science, **{mark: "2026-11-23T06:02:15"})
    assert (facts.processed, facts.product_kind) == (True, kind)
    assert "PROCESSED" in facts.tags
    assert "RAW" not in facts.tags


def test_a_mask_is_recognised_whatever_its_obstype(science: Cards) -> None:
    facts = flat(science, BPMASK="2026-11-23T06:02:31")
    assert (facts.kind, facts.lamp) == ("bpm", None)
    assert "BPM" in facts.tags


def test_a_published_mask_has_little_in_its_header() -> None:
    facts = read({"INSTRUME": "F2", "OBSTYPE": "BPM", "DATE-OBS": "2013-01-01"}, name="bpm.fits")
    assert (facts.kind, facts.started) == ("bpm", datetime(2013, 1, 1, tzinfo=UTC))


def test_section_comes_from_the_extension(science: Cards) -> None:
    facts = facts_from_headers(science, {"DETSEC": "[1:1024,1:2048]"}, name="a.fits")
    assert facts.section == "[1:1024,1:2048]"


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("INSTRUME", None), ("OBSTYPE", None), ("OBSTYPE", "FOCUS"), ("EXPTIME", None), ("EXPTIME", "long"),
        ("EXPTIME", 0.0), ("EXPTIME", -5.0), ("EXPTIME", float("nan")), ("EXPTIME", True), ("COADDS", None),
        ("COADDS", 0), ("COADDS", 1.5), ("LNRS", None), ("LNRS", "many"), ("NREADS", "many"),
        ("POFFSET", "far"), ("PA", float("inf")), ("EXPTIME", 0.0004),
        ("EXPTIME", 86_400.0), ("EXPTIME", 1e300), ("EXPTIME", 10**400), ("COADDS", 10_001),
        ("COADDS", 10**12), ("COADDS", 1e300), ("LNRS", 10**30), ("NREADS", 1e300), ("INPORT", 0),
        ("INPORT", 6), ("INPORT", 1.5), ("INPORT", True), ("POFFSET", 36_001.0), ("QOFFSET", -36_001.0),
        ("QOFFSET", 10**400),
    ],
)  # fmt: skip
def test_missing_and_nonsense_keywords_are_named(science: Cards, keyword: str, value: object) -> None:
    with pytest.raises(FrameError) as caught:
        read(science, **{keyword: value})
    error = caught.value
    assert error.name == "S20131121S0075.fits"
    assert error.keyword == keyword
    assert keyword in str(error)
    assert "S20131121S0075.fits" in str(error)
    assert error.remedy


@pytest.mark.parametrize("day", ["0001-01-01", "1999-12-31", "2100-01-02", "9999-12-31"])
def test_a_day_before_or_long_after_the_instrument(science: Cards, day: str) -> None:
    with pytest.raises(
        FrameError, match=f"DATE-OBS = '{day}', expected a date from 2000-01-01 to 2100-01-01"
    ):
        read(science, "a.fits", DATE_OBS=day)  # a name without a date


def test_a_date_that_is_missing_is_named(science: Cards) -> None:
    with pytest.raises(FrameError, match="keyword is missing") as caught:
        read(science, "a.fits", DATE_OBS=None)
    assert caught.value.keyword == "DATE-OBS"


@pytest.mark.parametrize("day", ["2000-01-01", "2100-01-01"])
def test_the_first_and_the_last_day(science: Cards, day: str) -> None:
    assert read(science, DATE_OBS=day).started.date().isoformat() == day


def test_bounds_themselves_are_accepted(science: Cards) -> None:
    facts = read(science, COADDS=10_000, EXPTIME=86_399.0, INPORT=5, POFFSET=-36_000.0, QOFFSET=36_000)
    assert (facts.coadds, facts.exposure_time, facts.inport) == (10_000, 86_399.0, 5)
    assert (facts.poffset, facts.qoffset) == (-36_000.0, 36_000.0)


@pytest.mark.parametrize(
    ("seconds", "rounded"), [(2.0004, 2.0), (1.9996, 2.0), (2.0006, 2.001), (0.0006, 0.001)]
)
def test_exposure_times_differ_by_milliseconds(science: Cards, seconds: float, rounded: float) -> None:
    assert read(science, EXPTIME=seconds).exposure_time == rounded


@pytest.mark.parametrize("value", [True, "04:13", float("nan"), 10**400])
@pytest.mark.parametrize(("keyword", "field"), [("RA", "ra"), ("DEC", "dec"), ("AIRMASS", "airmass")])
def test_what_only_informs_is_a_number_or_nothing(
    science: Cards, keyword: str, field: str, value: object
) -> None:
    assert getattr(read(science, **{keyword: value}), field) is None


def test_positions_may_be_sexagesimal(science: Cards) -> None:
    facts = read(science, RA="04:13:58.0", DEC="-04:13:58.0", AIRMASS="04:13:58.0")
    assert facts.ra == pytest.approx(15 * (4 + 13 / 60 + 58 / 3600))
    assert facts.dec == pytest.approx(-(4 + 13 / 60 + 58 / 3600))
    assert facts.airmass is None


@pytest.mark.parametrize("lnrs", [2, 3, 16])
def test_unknown_read_pairs(science: Cards, lnrs: int) -> None:
    with pytest.raises(FrameError, match=f"LNRS = {lnrs}, expected one of 1, 4, 6, 8"):
        read(science, LNRS=lnrs, NREADS=lnrs)


@pytest.mark.parametrize("clock", [None, "", "25:00:00", "soon"])
def test_no_time(science: Cards, clock: str | None) -> None:
    with pytest.raises(FrameError, match=r"DATE-OBS \+ UTSTART"):
        read(science, UTSTART=clock)


def test_another_instrument(science: Cards) -> None:
    with pytest.raises(FrameError, match="INSTRUME = 'GMOS-S'") as caught:
        read(science, INSTRUME="GMOS-S")
    assert caught.value.found == "GMOS-S"


def test_a_card_without_a_value(science: Cards) -> None:
    header = fits.Header(list(science.items()))
    header["EXPTIME"] = fits.card.Undefined()
    with pytest.raises(FrameError, match="EXPTIME"):
        facts_from_headers(header, None, name="a.fits")


def test_what_only_informs_may_be_missing(science: Cards) -> None:
    gone = ("RA", "DEC", "AIRMASS", "POFFSET", "QOFFSET", "PA", "INPORT", "OBJECT", "OBSCLASS", "GEMPRGID")
    facts = read(science, **dict.fromkeys((*gone, "OBSID", "DATALAB", "DETID", "RAWGEMQA", "RAWIQ")))
    assert (facts.ra, facts.dec, facts.airmass) == (None, None, None)
    assert (facts.poffset, facts.inport, facts.detector) == (0.0, 3, "unknown")


def test_facts_travel(facts: FrameFacts) -> None:
    assert FrameFacts.model_validate_json(facts.model_dump_json()) == facts
    assert pickle.loads(pickle.dumps(facts)) == facts


@given(st.text(st.characters(codec="ascii", categories=("Lu", "Ll")), min_size=1), st.integers(0, 9999))
def test_strip_component_drops_the_id_only(name: str, number: int) -> None:
    assert catalogue.named("F2").without_component(f"{name}_G{number:04d}") == name
    assert catalogue.named("F2").without_component(name) == name


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".fz"])
def test_plain_name(suffix: str) -> None:
    assert plain_name(f"/some/where/S20131121S0075.fits{suffix}") == "S20131121S0075.fits"
