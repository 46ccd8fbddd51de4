"""Quality figures: what a model declares, the names that the store has, and how values are shown."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from imaging.figures import (
    Description,
    Display,
    Figure,
    Metrics,
    as_text,
    describe,
    figure,
    flat_values,
    headlines,
    share,
    shown,
    with_error,
)
from imaging.kinds import KINDS
from imaging.product_figures import figures_of, metric_models


class _Level(BaseModel):
    value: float = figure("electrons without shot noise", unit="electron", default=65.0)
    uncertainty: float = figure("its standard error", "error", unit="electron", default=0.2)
    reason: str = ""


class _Metrics(Metrics):
    n_frames: int = figure("frames", "frames", default=4)
    pedestal: _Level = figure("the pedestal", "pedestal", unit="electron", history=True, default=_Level())
    drift: float | None = share("drift of the lamp", "drift", headline=True, default=None)
    seeing: float = figure(
        "FWHM", "seeing", unit="px", also=Display("sharpness", "arcsec", 0.5), headline=True, default=4.0
    )
    names: tuple[str, ...] = ("a", "b")
    scales: dict[str, float] = figure("factor of each frame", default={"S1": 1.0})
    hidden: float = figure("a detail", default=1.0)
    started: datetime = figure("first exposure", default=datetime(2013, 11, 21, tzinfo=UTC))


DECLARED = describe(_Metrics)


def test_figures_are_flat_and_plain() -> None:
    assert flat_values(_Metrics()) == {
        "n_frames": 4,
        "pedestal": 65.0,
        "pedestal_uncertainty": 0.2,
        "drift": None,
        "seeing": 4.0,
        "scales_S1": 1.0,
        "hidden": 1.0,
        "started": "2013-11-21T00:00:00Z",
    }


def test_descriptions_have_the_names_of_the_values_in_the_order_of_the_model() -> None:
    assert list(DECLARED) == [
        "n_frames", "pedestal", "pedestal_uncertainty", "pedestal_reason", "drift", "seeing", "scales_*", "hidden",
        "started",
    ]  # fmt: skip
    assert DECLARED["pedestal"] == Description(
        "pedestal", float, "the pedestal", "electron", (Display("pedestal", "e-"),), history=True
    )
    assert DECLARED["drift"] == Description(
        "drift", float, "drift of the lamp", "", (Display("drift", "%", 100.0),), headline=True
    )
    assert [name for name, one in DECLARED.items() if one.per_frame] == ["scales_*"]


def test_what_is_declared_comes_first_and_what_is_not_under_its_own_name() -> None:
    metrics: dict[str, Any] = {
        "zebra": 3.14159, "seeing": 4.0, "drift": 0.01234, "pedestal": 65.04321, "a_b": "S1.fits", "hidden": 1.5,
        "scales_S1": 1.0, "warnings": ["few"], "given_as": {"x": "y"}, "n_frames": None, "flag": True,
    }  # fmt: skip
    assert shown(DECLARED, metrics) == (
        Figure("pedestal", "65.04", "e-"),
        Figure("drift", "1.234", "%"),
        Figure("seeing", "4", "px"),
        Figure("sharpness", "2", "arcsec"),
        Figure("a_b", "S1.fits"),
        Figure("flag", "yes"),
        Figure("zebra", "3.142"),
    )
    added = set(shown(DECLARED, metrics, details=True)) - set(shown(DECLARED, metrics))
    assert added == {Figure("hidden", "1.5"), Figure("scales_S1", "1")}
    assert headlines(DECLARED, metrics) == (Figure("drift", "1.234", "%"), Figure("seeing", "4", "px"))
    assert shown({}, {"level": 2, "warnings": []}) == (Figure("level", "2"),)
    assert shown(DECLARED, {}) == headlines(DECLARED, {}) == ()


@pytest.mark.parametrize("value", ["unknown", True, [1], {"a": 1}, math.nan])
def test_a_value_of_another_type_than_declared_fails_nothing(value: Any) -> None:
    figures = {one.label: one.quantity for one in shown(DECLARED, {"drift": value})}
    expected = {"unknown": "unknown %", "True": "yes %", "nan": "nan %"}
    assert figures.get("drift") == expected.get(str(value))
    assert headlines(DECLARED, {"drift": value}) == shown(DECLARED, {"drift": value})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123456, "0.01235"), (22621.84, "22622"), (1e7, "1e+07"), (123456, "123456"), (True, "yes"),
        (False, "no"), ("S1.fits", "S1.fits"), (math.nan, "nan"),
    ],
)  # fmt: skip
def test_values_as_text(value: object, text: str) -> None:
    assert as_text(value) == text


def test_a_declared_file_name_is_shown_without_its_suffix() -> None:
    assert shown(figures_of("image"), {"reference": "S1.fits"}) == (Figure("reference frame", "S1"),)


@pytest.mark.parametrize("option", ["headline", "history"])
def test_a_figure_without_a_label_is_in_no_report_and_no_history(option: str) -> None:
    options: Any = {option: True}
    with pytest.raises(ValueError, match="'a detail' needs a label"):
        figure("a detail", **options)


# The figures of our products


def test_every_figure_of_a_product_has_a_meaning() -> None:
    assert set(metric_models()) == set(KINDS)
    nameless = [
        (kind, name) for kind in metric_models() for name, one in figures_of(kind).items() if not one.meaning
    ]
    assert nameless == []
    assert figures_of("unheard of") == {}


@pytest.mark.parametrize("kind", ["dark", "bpm", "flat", "image"])
def test_no_two_figures_of_a_product_have_one_label(kind: str) -> None:
    labels = [display.label for one in figures_of(kind).values() for display in one.displays]
    assert len(labels) == len(set(labels)) > 5


def test_figures_of_one_name_have_one_type_of_value() -> None:
    types: dict[str, set[Any]] = {}
    for kind in metric_models():
        for name, one in figures_of(kind).items():
            types.setdefault(name, set()).add(float if one.type is int else one.type)
    assert {name: found for name, found in types.items() if len(found) > 1} == {}


@pytest.mark.parametrize(
    ("kind", "report", "history"),
    [
        ("dark", ["level", "noise", "pedestal"], ["level", "noise", "read_noise", "pedestal", "n_hot"]),
        ("bpm", ["n_bad", "n_hot", "n_low", "n_high"], ["n_bad", "n_hot", "n_cold", "n_low", "n_high"]),
        ("flat", ["level", "rms", "noise"], ["level", "rms", "noise"]),
        (
            "image",
            ["ncombine", "seeing", "background_rms", "registration"],
            ["ncombine", "seeing", "background_rms", "sky", "transparency", "registration"],
        ),
    ],
)
def test_figures_in_the_report_and_in_histories(kind: str, report: list[str], history: list[str]) -> None:
    """Others may be added; these stay, in this order."""
    declared = figures_of(kind)
    assert [name for name, one in declared.items() if one.headline and name in report] == report
    assert [name for name, one in declared.items() if one.history and name in history] == history


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (26.7312, 0.0123, "26.731 ± 0.012"), (26.7, 0.5, "26.70 ± 0.50"), (123.4, 15.2, "123 ± 15"),
        (1.00312, 0.0999, "1.00 ± 0.10"), (1234.4, 152.0, "1234 ± 152"), (-3.21, 0.00099, "-3.21000 ± 0.00099"),
        (4.25, 0.0, "4.25"), (4.25, math.nan, "4.25"), (math.nan, 0.1, "nan"),
    ],
)  # fmt: skip
def test_a_value_has_the_digits_that_its_error_allows(value: float, error: float, text: str) -> None:
    assert with_error(value, error) == text


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_a_shown_value_is_right_to_a_twentieth_of_its_error(value: float, error: float) -> None:
    shown_value, shown_error = map(float, with_error(value, error).split(" ± "))
    assert abs(shown_value - value) <= max(0.051 * error, 0.5000001)
    assert shown_error == pytest.approx(error, rel=0.051, abs=0.5 if error >= 10 else 0)


class Measured(Metrics):
    """Figures with errors and limited digits."""

    level: float = figure(
        "level", "level", unit="electron", shown_in="ke-", factor=0.001, headline=True, error="sigma"
    )
    sigma: float | None = figure("its error", "error of the level", unit="electron", digits=2, default=None)
    width: float = figure("width", "width", unit="px", digits=2, default=4.2171)


def test_figures_are_shown_with_their_errors_and_digits() -> None:
    descriptions = describe(Measured)
    values = flat_values(Measured(level=12345.6, sigma=23.456))
    assert [one.value for one in shown(descriptions, values)] == ["12.346 ± 0.023", "4.2"]
    assert [one.value for one in headlines(descriptions, values)] == ["12.346 ± 0.023"]
    unknown = flat_values(Measured(level=12345.6))
    assert [one.value for one in shown(descriptions, unknown)] == ["12.35", "4.2"]


def test_an_error_is_a_figure_of_the_same_unit() -> None:
    for model in metric_models().values():
        described = describe(model)
        for one in described.values():
            assert not one.error or described[one.error].unit == one.unit, one.name
