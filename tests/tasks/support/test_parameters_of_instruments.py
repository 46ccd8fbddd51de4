"""Defaults of the steps that an instrument's table replaces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from own_cameras import EXAMPLES

from imaging.errors import NirflowError
from imaging.instruments import catalogue
from imaging.instruments.instrument import Instrument
from imaging.parameters import StepParameters
from imaging.sky.subtract import SkyParameters
from nirflow.step_settings import resolve
from tasks.support.parameters import STEPS, ReductionParameters, as_in_a_form, completed, for_instrument


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


def test_a_user_sets_a_value_back_to_the_general_default() -> None:
    table = camera(sky={"least_distance": 1.0, "scaling": "add"})
    usual = SkyParameters()
    given = resolve([f"sky.least_distance={usual.least_distance}", f"sky.scaling={usual.scaling}"], STEPS)
    sky = for_instrument(ReductionParameters.model_validate(given), table).sky
    assert (sky.least_distance, sky.scaling) == (usual.least_distance, usual.scaling)
    recorded = ReductionParameters.model_validate(
        {"sky": usual.model_dump()}
    )  # as with a product that is made again
    assert for_instrument(recorded, table).sky == usual


def test_a_form_sends_every_value_and_only_changed_ones_count() -> None:
    table = camera(sky={"least_distance": 1.0, "scaling": "add"})
    sent = ReductionParameters().model_dump(mode="json")
    sent["sky"]["least_distance"] = 2.0
    found = for_instrument(as_in_a_form(ReductionParameters.model_validate(sent)), table)
    assert (found.sky.least_distance, found.sky.scaling) == (2.0, "add")


def test_parameters_within_a_parameter_are_replaced_one_by_one() -> None:
    class Inner(StepParameters):
        low: float = 1.0
        high: float = 2.0

    class Outer(StepParameters):
        inner: Inner = Inner()

    given = Outer.model_validate({"inner": {"high": 2.0}})
    assert completed(given, {"inner": {"low": 5.0, "high": 6.0}}) == {"inner": {"low": 5.0, "high": 2.0}}


def test_an_instrument_without_such_values_changes_nothing() -> None:
    given = ReductionParameters()
    assert for_instrument(given, catalogue.named("F2")) is given


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ({"dark": {"low": 2.0}}, r"defaults\.dark: is not a step of science frames \(prepare, detrend"),
        ({"skies": {}}, r"defaults\.skies: is not a step"),
        ({"sky": {"least": 1.0}}, r"The table of NIRC2 \(in memory\) is wrong: defaults\.sky\.least: Extra inputs"),
        ({"align": {"prior_tolerance": -1.0}}, r"defaults\.align\.prior_tolerance: Input should be greater than 0"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_with_their_key(steps: dict[str, Any], message: str) -> None:
    with pytest.raises(NirflowError, match=message):
        for_instrument(ReductionParameters(), camera(**steps))


def test_the_line_of_a_wrong_value_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.toml"
    text = (EXAMPLES / "nirc2.toml").read_text().replace('scaling = "add"', 'scaling = "ad"')
    path.write_text(text)
    line = 1 + text.splitlines().index(next(one for one in text.splitlines() if 'scaling = "ad"' in one))
    monkeypatch.setattr(catalogue.OWN_TABLES, "paths", lambda: [path])
    catalogue.forget()
    try:
        with pytest.raises(
            NirflowError,
            match=rf"mine\.toml\) is wrong: line {line}: defaults\.sky\.scaling: Input should be",
        ):
            for_instrument(ReductionParameters(), catalogue.named("NIRC2"))
    finally:
        monkeypatch.undo()
        catalogue.forget()


def test_the_example_is_valid() -> None:
    found = for_instrument(ReductionParameters(), catalogue.read_table(EXAMPLES / "nirc2.toml"))
    assert found.align.prior_tolerance == 0.2
