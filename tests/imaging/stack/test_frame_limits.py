"""Frames unlike their group are left out with figure, limit and remedy, and never all of them."""

from dataclasses import replace

import pytest

from imaging.stack.frame_limits import FrameQuality, LimitParameters, beyond_limits

USUAL = FrameQuality("", seeing=4.0, transparency=10.0, sky=90.0, noise=70.0, ellipticity=0.05)
GROUP = [replace(USUAL, name=f"f{i}") for i in range(5)]


@pytest.mark.parametrize(
    ("what", "value", "limit"),
    [
        ("seeing", 13.0, "max_seeing"), ("transparency", 1.5, "min_transparency"), ("sky", 400.0, "max_sky"),
        ("noise", 250.0, "max_noise"), ("ellipticity", 0.5, "max_ellipticity"),
    ],
)  # fmt: skip
def test_a_frame_beyond_a_limit_is_left_out_with_its_figure_and_a_remedy(what, value, limit):
    frames = [*GROUP[:4], replace(GROUP[4], **{what: value})]
    left_out, notes = beyond_limits(frames, LimitParameters(), keep="f0")
    assert [one.name for one in left_out] == ["f4"]
    assert not notes
    assert "limit" in left_out[0].reason
    assert f"stack.{limit}" in left_out[0].remedy


def test_changing_seeing_clouds_and_unknown_figures_are_within_the_limits():
    frames = [
        replace(f, seeing=3 + i, transparency=10 - i, sky=90 + 10 * i, noise=float("nan"))
        for i, f in enumerate(GROUP)
    ]
    assert beyond_limits(frames, LimitParameters(), keep="f0") == ([], [])


def test_a_group_that_is_like_that_is_stacked_with_a_note():
    trailed = [replace(f, ellipticity=0.5) for f in GROUP]
    left_out, notes = beyond_limits(trailed, LimitParameters(), keep="f0")
    assert not left_out
    assert "5 of 5 frames" in notes[0]
    assert "stack.max_ellipticity" in notes[0]


def test_the_reference_and_pairs_are_never_left_out():
    frames = [replace(GROUP[0], noise=400.0), *GROUP[1:]]
    left_out, notes = beyond_limits(frames, LimitParameters(), keep="f0")
    assert not left_out
    assert "the reference f0" in notes[0]
    assert beyond_limits([GROUP[0], replace(GROUP[1], seeing=40.0)], LimitParameters(), keep="f0") == ([], [])


def test_thick_clouds_are_noted_with_the_worst_frame():
    frames = [replace(f, transparency=value) for f, value in zip(GROUP, (10, 4.5, 9, 3.9, 8), strict=True)]
    left_out, notes = beyond_limits(frames, LimitParameters(), keep="f0")
    assert not left_out
    (note,) = notes
    assert "clouds: of 5 frames, 2 have a transparency below 50%" in note
    assert "f3 the lowest, 39%" in note
    # Those that are left out have a reason of their own.
    frames = [*GROUP[:4], replace(GROUP[4], transparency=1.5)]
    assert beyond_limits(frames, LimitParameters(), keep="f0")[1] == []
