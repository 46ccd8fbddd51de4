"""What requested conditions mean, by the tables of the instruments."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from imaging.instruments import catalogue
from imaging.instruments.requested_conditions import Conditions, at_zenith


@pytest.mark.parametrize("name", ["F2", "NIRI"])
def test_requests_have_limits_in_each_near_infrared_band(name: str) -> None:
    conditions = catalogue.named(name).conditions
    assert (conditions.widest("70-percentile", "Y"), conditions.widest(" 85-percentile ", "H")) == (
        0.70,
        0.85,
    )
    assert conditions.most_clouds("50-percentile") == 0.08
    for request in ("Any", "UNKNOWN", "", "80-percentile"):
        assert conditions.widest(request, "H") is None
    assert conditions.most_clouds("Any") is None
    for band in catalogue.named(name).bands:
        limits = [conditions.widest(f"{n}-percentile", band) for n in (20, 70, 85)]
        assert limits == sorted(limits)


def test_seeing_grows_with_the_airmass() -> None:
    assert at_zenith(0.7, 1.0) == 0.7
    assert at_zenith(0.7 * 2**0.6, 2.0) == pytest.approx(0.7)
    assert at_zenith(0.7, None) == at_zenith(0.7, 0.0) == 0.7


def test_conditions_do_not_change_the_identity_of_a_table() -> None:
    table = catalogue.named("F2")
    other = table.model_copy(update={"conditions": Conditions()})
    included = {"detector", "facts", "offsets", "quirks"}
    assert other.model_dump_json(include=included) == table.model_dump_json(include=included)


@pytest.mark.parametrize("wrong", [{"seeing": {"70": {"Y": 0}}}, {"clouds": {"50": -1}}, {"wind": {}}])
def test_impossible_limits_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Conditions.model_validate(wrong)
