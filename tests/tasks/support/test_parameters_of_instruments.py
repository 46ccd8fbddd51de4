"""Defaults of the steps that an instrument's table replaces."""

from __future__ import annotations

from typing import Any

import pytest
from own_cameras import EXAMPLES

from imaging.errors import NirflowError
from imaging.instruments import catalogue
from imaging.instruments.instrument import Instrument
from tasks.support.parameters import ReductionParameters, for_instrument


def camera(**steps: dict[str, Any]) -> Instrument:
    return catalogue.read_table(EXAMPLES / "nirc2.toml").model_copy(update={"defaults": steps})


def test_a_table_replaces_general_defaults() -> None:
    found = for_instrument(ReductionParameters(), camera(sky={"least_distance": 1.0, "scaling": "add"}))
    assert (found.sky.least_distance, found.sky.scaling, found.sky.window) == (1.0, "add", 600.0)
    assert found.detrend == ReductionParameters().detrend


def test_what_the_user_sets_stays() -> None:
    given = ReductionParameters.model_validate({"sky": {"least_distance": 2.0}})
    table = camera(sky={"least_distance": 1.0, "scaling": "add"})
    found = for_instrument(given, table)
    assert (found.sky.least_distance, found.sky.scaling) == (2.0, "add")
    assert for_instrument(found, table) == found


def test_an_instrument_without_such_values_changes_nothing() -> None:
    given = ReductionParameters()
    assert for_instrument(given, catalogue.named("F2")) is given


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ({"dark": {"low": 2.0}}, r"defaults\.dark is not a step of science frames \(prepare, detrend"),
        ({"skies": {}}, r"defaults\.skies is not a step"),
        ({"sky": {"least": 1.0}}, r"NIRC2 is wrong: defaults\.sky\.least: Extra inputs"),
        ({"align": {"prior_tolerance": -1.0}}, r"defaults\.align\.prior_tolerance: Input should be greater than 0"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_with_their_key(steps: dict[str, Any], message: str) -> None:
    with pytest.raises(NirflowError, match=message):
        for_instrument(ReductionParameters(), camera(**steps))


def test_the_example_is_valid() -> None:
    found = for_instrument(ReductionParameters(), catalogue.read_table(EXAMPLES / "nirc2.toml"))
    assert found.align.prior_tolerance == 0.2
