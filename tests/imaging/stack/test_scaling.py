"""Factors and weights of frames, and what is done where the requested ones are unknown."""

import numpy as np
import pytest

from imaging.errors import GroupError
from imaging.stack.inputs import StackInput
from imaging.stack.scaling import ScalingParameters, choose_scaling, choose_weights
from tests.imaging.stack.test_stack import Affine, facts


def frame(i, exposure=60.0, **more):
    values = {"flux_error": 0.003, "noise": 10.0, "seeing": 4.0} | more
    return StackInput(f"f{i}", None, Affine(), facts(i, exposure), **values)


def test_auto_scales_by_the_stars_where_they_agree_and_gives_the_reference_s_transparency():
    frames = [frame(0, flux_error=0.0), frame(1, flux_scale=1.25), frame(2, 120.0, flux_scale=1.0)]
    scaling = choose_scaling(frames, ScalingParameters(), "f0")
    assert (scaling.by, scaling.note) == ("stars", "")
    assert scaling.factors == pytest.approx([1.0, 0.8, 1.0])
    assert scaling.transparency == pytest.approx(0.8)


@pytest.mark.parametrize("error", [None, 0.05, float("nan")])
def test_auto_scales_by_exposure_and_names_the_frame_whose_stars_do_not_agree(error):
    frames = [frame(0, flux_error=0.0), frame(1, 120.0, flux_scale=2.2, flux_error=error)]
    scaling = choose_scaling(frames, ScalingParameters(), "f0")
    assert scaling.by == "exposure"
    assert scaling.factors == pytest.approx([1.0, 0.5])
    assert "f1" in scaling.note
    assert "2%" in scaling.note
    assert scaling.transparency is None


def test_a_reference_that_is_missing_and_a_flux_that_was_requested_are_errors():
    with pytest.raises(GroupError, match="nobody is not among"):
        choose_scaling([frame(0)], ScalingParameters(), "nobody")
    with pytest.raises(GroupError, match="No flux scale for f0"):
        choose_scaling([frame(0, flux_scale=float("nan"))], ScalingParameters(scale="stars"), None)


def test_weights_are_those_of_a_point_source_in_the_scaled_frames():
    frames = [frame(0), frame(1, noise=20.0, seeing=2.0)]
    weighting = choose_weights(frames, ScalingParameters(), np.array([1.0, 2.0]))
    assert weighting.by == "point_source"
    # Noise x seeing of the scaled frames: 40 and 80.
    assert weighting.shares == pytest.approx([0.8, 0.2])


def test_without_the_seeing_or_the_noise_the_weights_need_less_and_a_note_names_the_frame():
    blind = choose_weights([frame(0), frame(1, seeing=None)], ScalingParameters(), np.ones(2))
    assert (blind.by, list(blind.shares)) == ("noise", [0.5, 0.5])
    assert "f1" in blind.note
    mute = choose_weights([frame(0), frame(1, noise=None)], ScalingParameters(), np.ones(2))
    assert (mute.by, mute.shares) == ("none", None)
    assert choose_weights([frame(0)], ScalingParameters(weights="none"), np.ones(1)).note == ""
