from __future__ import annotations

from typing import Literal

import pytest
from pydantic import Field, model_validator

from imaging.parameters import StepParameters, parameter
from nirflow.step_settings import SettingError, describe, resolve, shown


class Clip(StepParameters):
    operation: Literal["mean", "median"] = parameter("mean", "how frames are combined")
    low: float = parameter(3.0, "lower threshold", unit="sigma", gt=0, le=10)


class Dark(StepParameters):
    combine: Clip = Field(default=Clip(low=4.0), description="the stack")
    frames: int = parameter(3, "fewest frames", ge=2)
    level: float | None = parameter(None, "level taken off; none measures it", unit="e-")
    limits: tuple[float, float] = parameter((-150.0, 3050.0), "good range", unit="e-")
    strict: bool = parameter(True, "refuse odd frames")
    without: tuple[Literal["bpm", "flat"], ...] = parameter((), "what may be missing")

    @model_validator(mode="after")
    def _ordered(self) -> Dark:
        if self.limits[0] >= self.limits[1]:
            raise ValueError("the lower limit is not below the upper one")
        return self


class Sky(StepParameters):
    radius: float = parameter(3.0, "nearest sky frame", unit="arcsec", ge=0)


STEPS: dict[str, type[StepParameters]] = {"dark": Dark, "sky": Sky}


def test_values_are_read_according_to_the_model() -> None:
    settings = [
        "dark.frames=5",
        "dark.level=12.5",
        "dark.limits=-100,3e3",
        "dark.strict=false",
        "sky.radius=0",
    ]
    changed = resolve(settings, STEPS)
    assert changed["dark"] == Dark(frames=5, level=12.5, limits=(-100.0, 3000.0), strict=False)
    assert changed["sky"] == Sky(radius=0.0)


def test_only_the_named_steps_are_returned() -> None:
    assert resolve([], STEPS) == {}
    assert list(resolve(["sky.radius=4"], STEPS)) == ["sky"]


def test_a_parameter_inside_another_keeps_the_outer_defaults_of_its_neighbours() -> None:
    changed = resolve(["dark.combine.operation=median"], STEPS)["dark"]
    assert changed == Dark(combine=Clip(operation="median", low=4.0))


def test_none_and_lists_have_a_text_form() -> None:
    assert resolve(["dark.level=none", "dark.limits=[1, 2]"], STEPS)["dark"] == Dark(limits=(1.0, 2.0))
    assert resolve(["dark.without=bpm"], STEPS)["dark"] == Dark(without=("bpm",))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("drak.frames=5", ["Unknown step 'drak'", "Did you mean dark?", "sky"]),
        ("dark.frame=5", ["no parameter 'frame'", "Did you mean frames", "combine.low", "limits"]),
        ("dark.combine=5", ["no parameter 'combine'", "combine.operation"]),
        ("dark.frames", ["not of the form step.parameter=value", "--set dark."]),
        ("frames=5", ["not of the form"]),
        ("dark.frames=1", ["dark.frames cannot be '1'", ">= 2", "default 3"]),
        ("dark.frames=five", ["valid integer", "a whole number"]),
        ("dark.combine.low=99", ["dark.combine.low cannot be '99'", "> 0, <= 10", "in sigma", "default 4"]),
        ("dark.combine.operation=mode", ["mean | median", "default mean"]),
        ("dark.level=much", ["a number or none", "in e-"]),
        ("dark.limits=5", ["a list separated by commas", "default -150,3050"]),
        ("dark.limits=9,5", ["the lower limit is not below the upper one"]),
        ("dark.limits=[9", ["is not a list"]),
        ("dark.strict=maybe", ["true or false"]),
        ("dark.without=bpm,arc", ["a list separated by commas", "bpm | flat", "default []"]),
        ("sky.radius=-1", ["in arcsec"]),
    ],
)
def test_an_invalid_setting_is_reported_with_the_valid_ones(text: str, expected: list[str]) -> None:
    with pytest.raises(SettingError) as caught:
        resolve([text], STEPS)
    for term in expected:
        assert term in str(caught.value)


def test_the_same_parameter_twice_is_refused() -> None:
    with pytest.raises(SettingError, match="twice"):
        resolve(["sky.radius=3", "sky.radius=4"], STEPS)


def test_every_parameter_is_described_with_the_default_that_holds_there() -> None:
    reported = {info.name: info for info in describe("dark", Dark)}
    assert list(reported) == [
        "combine.operation",
        "combine.low",
        "frames",
        "level",
        "limits",
        "strict",
        "without",
    ]
    low = reported["combine.low"]
    assert (low.default, low.unit, low.limits, low.meaning) == (4.0, "sigma", "> 0, <= 10", "lower threshold")
    assert reported["combine.operation"].limits == "mean | median"
    assert reported["without"].limits == "bpm | flat"


def test_what_is_shown_can_be_set_again() -> None:
    settings = [
        f"{i.step}.{i.name}={shown(i.default)}" for name, m in STEPS.items() for i in describe(name, m)
    ]
    assert resolve(settings, STEPS) == {"dark": Dark(), "sky": Sky()}
