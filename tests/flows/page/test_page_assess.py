"""Stacks are judged by what was requested, and by the last thirty nights."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from calib_store.model.records import FrameRecord, Product
from calib_store.store import Store
from flows.page.assess import Measured, assess, of_one_second, past_of
from flows.page.collect import collect_night
from flows.page.labels import distinct_labels
from flows.page.model import NightFrame, NightProduct
from flows.page.night_charts import night_charts
from flows.page.view import quality_sentence
from imaging.frames.facts import FrameFacts

START = datetime(2013, 11, 21, 3, tzinfo=UTC)
NIGHT = date(2013, 11, 21)
METRICS: dict[str, Any] = {
    "seeing": 3.8, "mean_airmass": 1.0, "sky_brightness": 17.0, "zero_point": 31.9, "zero_point_error": 0.012,
    "zero_point_source": "2MASS", "zero_point_stars": 40, "limiting_magnitude": 22.5, "total_exposure": 1080.0,
    "astrometry_rms": 60.0, "astrometry_error": 9.0, "astrometry_stars": 44, "transparency": 0.93,
}  # fmt: skip


def product(
    number: int = 1, *, label: str = "FIELD Y 2013-11-21", minutes: float = 0, **metrics: Any
) -> NightProduct:
    begins = START + timedelta(minutes=minutes)
    facts = {"instrument": "F2", "filter": "Y", "exposure_time": 120.0, "coadds": 1, "detector": "109"}
    return NightProduct(
        id=uuid.UUID(int=number), kind="image", name=f"S{number}_image.fits", label=label, recipe_key="", sha256="",
        inputs=("S1", "S2"), sources=("a",), span=(begins, begins + timedelta(minutes=20)), metrics=METRICS | metrics,
        facts=facts,
    )  # fmt: skip


@pytest.fixture
def asked(facts: Callable[..., FrameFacts]) -> Callable[..., NightFrame]:
    """Return a frame with requested conditions."""
    return lambda **changes: NightFrame(facts(**changes), "a")


def past(number: int = 10, **values: float) -> dict[tuple[str, str], list[Measured]]:
    usual_values = {"seeing": 0.7, "sky": 17.0, "zero_point": 26.7, "depth": 18.7, "residual": 60.0} | values
    return {
        ("F2", "Y"): [Measured(usual_values, 1080.0, NIGHT - timedelta(days=n + 1)) for n in range(number)]
    }


@pytest.mark.parametrize(
    ("seeing", "changes", "tone", "note"),
    [
        (3.8, {"requested_quality": "70-percentile"}, "good", "limit 0.70 (70-percentile, requested)"),
        (4.2, {"requested_quality": "70-percentile"}, "bad", "limit 0.70 (70-percentile, requested)"),
        (4.2, {"requested_quality": "85-percentile", "image_quality": "20-percentile"}, "good", "limit 0.95"),
        (4.2, {"image_quality": "70-percentile"}, "odd", "limit 0.70 (70-percentile, noted by the observer)"),
        (9.9, {"requested_quality": "Any"}, "unknown", "1.77 at the zenith"),
    ],
)  # fmt: skip
def test_seeing_is_judged_by_what_was_requested(
    asked: Callable[..., NightFrame], seeing: float, changes: dict[str, str], tone: str, note: str
) -> None:
    (one,) = assess([product(seeing=seeing)], [asked(**changes)], {})
    assert one.seeing.tone == tone
    assert note in one.seeing.note
    assert one.seeing.text == f"{seeing * 0.179:.2g} arcsec"


def test_seeing_at_a_large_airmass_is_judged_at_the_zenith(asked: Callable[..., NightFrame]) -> None:
    frame = asked(requested_quality="70-percentile")
    (low,) = assess([product(seeing=5.0, mean_airmass=2.0)], [frame], {})
    assert low.seeing.tone == "good"
    assert low.seeing.note.startswith("0.59 at the zenith")
    assert assess([product(seeing=5.0)], [frame], {})[0].seeing.tone == "bad"


@pytest.mark.parametrize(
    ("zero_point", "clouds", "text", "tone"),
    [(31.90, "50-percentile", "97 %", "good"), (31.6, "50-percentile", "74 %", "bad"),
     (31.6, "80-percentile", "74 %", "good"), (31.6, "Any", "74 %", "unknown")],
)  # fmt: skip
def test_clouds_are_judged_by_what_was_requested(
    asked: Callable[..., NightFrame], zero_point: float, clouds: str, text: str, tone: str
) -> None:
    """The table has 26.73 mag for 1 s: 31.93 for 120 s."""
    (one,) = assess([product(zero_point=zero_point)], [asked(requested_clouds=clouds)], {})
    assert (one.transparency.text, one.transparency.tone) == (text, tone)


def test_a_nominal_zero_point_measures_no_transparency(asked: Callable[..., NightFrame]) -> None:
    nominal = product(zero_point_source="nominal")
    (one,) = assess([nominal], [asked(requested_clouds="50-percentile")], past())
    assert (one.transparency.text, one.transparency.tone) == ("not measured", "unknown")
    assert one.zero_point.note == "nominal, not measured"


@pytest.mark.parametrize(
    ("figure", "value", "name"),
    [
        ("sky_brightness", 16.0, "sky"), ("zero_point", 31.2, "zero_point"), ("limiting_magnitude", 22.0, "depth"),
        ("astrometry_rms", 250.0, "residual"), ("seeing", 9.0, "seeing"),
    ],
)  # fmt: skip
def test_a_figure_unlike_those_of_the_last_nights_is_marked(
    asked: Callable[..., NightFrame], figure: str, value: float, name: str
) -> None:
    (good,) = assess([product()], [asked(image_quality="")], past())
    assert {judged.tone for label, judged in good.judged if label != "transparency"} == {"good"}
    (odd,) = assess([product(**{figure: value})], [asked(image_quality="")], past())
    assert getattr(odd, name).tone == "odd"
    assert odd.tone == "odd"
    (alone,) = assess([product(**{figure: value})], [asked(image_quality="")], past(4))
    assert alone.tone == "unknown", "four stacks are too few to compare with"


def test_depth_is_compared_for_its_exposure(asked: Callable[..., NightFrame]) -> None:
    """A quarter of the exposure reaches 0.75 mag less."""
    (one,) = assess([product(limiting_magnitude=21.75, total_exposure=270.0)], [asked()], past())
    assert one.depth.tone == "good"
    assert one.depth.note == "in 270 s; usual in that time 21.74"


def test_what_is_missing_is_not_judged(asked: Callable[..., NightFrame]) -> None:
    bare = product(**dict.fromkeys(METRICS))
    (one,) = assess(
        [bare], [asked(requested_quality="70-percentile", requested_clouds="50-percentile")], past()
    )
    assert one.tone == "unknown"
    assert [judged.text for _, judged in one.judged] == [
        "not measured", "no zero point", "not measured", "unknown", "unknown", "none",
    ]  # fmt: skip
    (alone,) = assess([product()], [], {})
    assert alone.seeing.tone == "unknown"


def test_the_sentence_names_the_stacks_and_what_is_wrong(asked: Callable[..., NightFrame]) -> None:
    frame = asked(requested_quality="70-percentile")
    stacks = [product(), product(2, label="OTHER Y 2013-11-21", minutes=30, seeing=6.0, sky_brightness=15.0)]
    assert quality_sentence(assess(stacks, [frame], past())) == (
        "OTHER Y: seeing not as requested; OTHER Y: sky unusual.", "bad",
    )  # fmt: skip
    assert quality_sentence(assess(stacks[:1], [frame], past())) == (
        "The stack is as requested, and as in the last nights.", "good",
    )  # fmt: skip
    assert quality_sentence(())[0] == ""
    assert "too few" in quality_sentence(assess(stacks[:1], [], {}))[0]


def test_two_stacks_of_one_target_have_different_names() -> None:
    stacks = [
        product(1),
        product(2, minutes=30),
        product(3, label="OTHER Y 2013-11-21"),
        product(4, minutes=30),
    ]
    assert list(distinct_labels(stacks).values()) == [
        "FIELD Y, 03:00 to 03:20 UT", "FIELD Y, 03:30 to 03:50 UT, 2 x 120 s, S2_image", "OTHER Y",
        "FIELD Y, 03:30 to 03:50 UT, 2 x 120 s, S4_image",
    ]  # fmt: skip


def test_zero_points_of_one_second_at_airmass_one() -> None:
    assert of_one_second(31.9, 120.0, 0.05, 2.0) == pytest.approx(31.9 - 5.198 + 0.05, abs=1e-3)
    assert of_one_second(31.9, 1.0, 0.05, None) == 31.9


def test_the_last_thirty_nights_are_those_of_the_band_and_the_instrument(
    store: Store, stack: Callable[..., Product], raws: Sequence[FrameRecord]
) -> None:
    for serial, days in enumerate((0, 1, 30, 31, -1), 1):
        stack(serial, days=days, seeing=4.0 + serial)
    products = collect_night(store, NIGHT).products
    found = past_of(store, NIGHT, products)
    assert list(found) == [("F2", "Y")]
    assert [one.night for one in found["F2", "Y"]] == [NIGHT - timedelta(days=30), NIGHT - timedelta(days=1)]
    assert found["F2", "Y"][1].values["seeing"] == pytest.approx(6.0 * 0.179, rel=0.01)
    assert past_of(store, NIGHT, ()) == {}


@pytest.mark.parametrize(
    ("labels", "tags"),
    [
        (("WISE J041358.14-475039.3 Y, 02:52 to 03:03 UT", "WISE J041358.14-475039.3 Y, 05:52 to 06:03 UT",
          "WISE J041358.14-475039.3 H"), ["Y, 02:52 to 03:03 UT", "Y, 05:52 to 06:03 UT", "H"]),
        (("M 31 Y", "WISE J041358.14-475039.3 Y, 05:52 to 06:03 UT"),
         ["M 31 Y", "WISE J041...Y, 05:52 to 06:03 UT"]),
        (("M 31 Y",), ["M 31 Y"]),
    ],
)  # fmt: skip
def test_names_in_charts_distinguish_the_stacks(
    asked: Callable[..., NightFrame], labels: Sequence[str], tags: list[str]
) -> None:
    """The exposures and depths keep the names apart from each other."""
    made = [
        product(n, label=label, total_exposure=10.0 ** (n + 2), limiting_magnitude=20.0 + 2 * n)
        for n, label in enumerate(labels)
    ]
    depth = night_charts(assess(made, [asked()], {}), {}, {}, ())[-1]
    assert depth.title == "Depth reached"
    assert sorted(one.text for one in depth.tags) == sorted(tags)
