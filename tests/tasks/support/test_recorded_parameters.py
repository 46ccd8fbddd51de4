"""A product made with the parameters of a run does not differ from the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from calib_store.tables.variants import differences
from tasks.earlier_exposures import NONE_BEFORE
from tasks.reference_catalogue.field_catalogue import NO_CATALOGUE
from tasks.science.build_distortion import distortion_recipe
from tasks.science.science_set import ScienceSet, for_group
from tasks.support.parameters import ReductionParameters, as_recorded
from tasks.support.references import Calibrations, FrameSet, RawFrame


@pytest.fixture
def group(raw_frame: Callable[..., RawFrame]) -> ScienceSet:
    frames = tuple(raw_frame(f"S20131121S{n:04d}.fits", kind="object") for n in range(75, 84))
    names = tuple(frame.name for frame in frames)
    return ScienceSet(
        label="field", frames=FrameSet(label="field", frames=frames), objects=names, skies=names, mode="dithered"
    )  # fmt: skip


def made(group: ScienceSet, parameters: ReductionParameters, **calibrations: Any) -> dict[str, Any]:
    recipe = distortion_recipe(
        group, Calibrations(**calibrations), for_group(parameters, group), NONE_BEFORE, NO_CATALOGUE
    )
    return {step: json.loads(values.model_dump_json()) for step, values in recipe.parameters.items()}


def test_a_distortion_of_the_same_parameters_does_not_differ(group: ScienceSet) -> None:
    run = as_recorded(ReductionParameters(), group.frames.middle.facts)
    assert differences(made(group, ReductionParameters()), run) == ()
    assert differences(made(group, ReductionParameters(), missing=("dark",)), run) == ()


def test_one_of_other_parameters_does(group: ScienceSet) -> None:
    other = ReductionParameters.model_validate(
        {
            "prepare": {"linear_fraction": 0.5},
            "detrend": {"cosmic_rays": "always"},
            "detect": {"threshold": 9.0},
        }
    )
    facts = group.frames.middle.facts
    found = differences(made(group, other), as_recorded(ReductionParameters(), facts))
    assert [text.partition(" is ")[0] for text in found] == ["prepare.linear_fraction", "detect.threshold"]
    # A run that decides about cosmic rays itself is compared with what was done.
    found = differences(made(group, ReductionParameters()), as_recorded(other, facts))
    assert any(text.startswith("detrend.cosmic_rays is never, always") for text in found)
