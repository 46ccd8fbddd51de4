"""The recipe of a stack changes with every step that its pixels come from."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import pytest

from imaging.astrometry.world_coordinates import AstrometryParameters
from tasks import stack
from tasks.reference_catalogue.field_catalogue import FieldCatalogue, UsedCatalogue
from tasks.science.science_set import ScienceSet, for_group
from tasks.stack import science_recipe
from tasks.support.parameters import ReductionParameters
from tasks.support.references import Calibrations, FrameSet, LeftOut, RawFrame


@pytest.fixture
def group(raw_frame: Callable[..., RawFrame]) -> ScienceSet:
    frames = tuple(raw_frame(f"S20131121S{n:04d}.fits", kind="object") for n in (75, 76, 77))
    names = tuple(frame.name for frame in frames)
    return ScienceSet(
        label="FIELD-A Y",
        frames=FrameSet(label="FIELD-A Y", frames=frames),
        objects=names,
        skies=names,
        mode="dithered",
    )


def test_the_versions_of_all_earlier_steps_are_part_of_the_recipe(
    group: ScienceSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = dict.fromkeys(("detrend", "sky", "detect", "align", "starlight"), 1)
    assert set(stack._EARLIER_VERSIONS) == set(versions)
    monkeypatch.setattr(stack, "_EARLIER_VERSIONS", MappingProxyType(versions))
    recipe = science_recipe(group, Calibrations(), ReductionParameters())
    assert recipe.algorithm_version == str(stack.VERSION)
    keys = {recipe.key}
    for step in versions:
        monkeypatch.setattr(stack, "_EARLIER_VERSIONS", MappingProxyType(versions | {step: 2}))
        raised = science_recipe(group, Calibrations(), ReductionParameters())
        assert raised.algorithm_version == f"{stack.VERSION} {step}2"
        keys.add(raised.key)
    assert len(keys) == 6


def test_planes_from_before_pixels_without_data_were_flagged_are_not_used(group: ScienceSet) -> None:
    assert stack._EARLIER_VERSIONS["detrend"] > 1
    assert "detrend" in science_recipe(group, Calibrations(), ReductionParameters()).algorithm_version


def test_at_first_versions_the_key_is_that_of_the_stack_alone(
    group: ScienceSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        stack, "_EARLIER_VERSIONS", MappingProxyType(dict.fromkeys(stack._EARLIER_VERSIONS, 1))
    )
    recipe = science_recipe(group, Calibrations(), ReductionParameters())
    assert (
        recipe.key
        == recipe.__class__(
            recipe.kind,
            recipe.label,
            recipe.version,
            recipe.ingredients,
            recipe.parameters,
            recipe.calibrations,
        ).key
    )


def test_what_the_size_of_a_group_decides_is_part_of_the_recipe(group: ScienceSet) -> None:
    parameters = for_group(ReductionParameters(), group)
    assert parameters.detrend.cosmic_rays == "always"
    assert science_recipe(group, Calibrations(), parameters).values["detrend"]["cosmic_rays"] == "always"
    many = group.model_copy(update={"objects": tuple(map(str, range(5))), "skies": tuple(map(str, range(5)))})
    assert for_group(ReductionParameters(), many).detrend.cosmic_rays == "never"


def test_a_group_is_reduced_without_the_frames_that_have_no_calibrations(group: ScienceSet) -> None:
    lost = LeftOut(name=group.objects[1], reason="no dark serves it")
    left = group.served_by(Calibrations(unserved=(lost,)))
    assert left.objects == left.skies == (group.objects[0], group.objects[2])
    assert len(left.frames.frames) == 2


def test_the_content_of_a_catalogue_is_part_of_the_recipe_and_its_parameters_only_with_one(
    group: ScienceSet,
) -> None:
    other = AstrometryParameters(pointing_error=30.0)
    plain, changed = ReductionParameters(), ReductionParameters(astrometry=other)

    def key(parameters: ReductionParameters, identity: str = "") -> str:
        used = UsedCatalogue(name="2MASS", identity=identity, meaning={}) if identity else None
        return science_recipe(group, Calibrations(), parameters, stars=FieldCatalogue(used=used)).key

    assert key(plain) == key(changed)
    assert len({key(plain), key(plain, "1"), key(plain, "2"), key(changed, "1")}) == 4
