"""Frames whose stars are unlike those of the other frames in brightness."""

from __future__ import annotations

import dataclasses

import pytest

from imaging.registration.align import AlignParameters, align
from imaging.registration.entries import AlignInput

from .test_align import DITHER, Sky


def frames(clear: dict[int, float], sky_levels: dict[int, float] | None = None) -> list[AlignInput]:
    """Return six frames; some have stars, or a sky, of another brightness."""
    field, levels = Sky(n=80, seed=41), sky_levels or {}
    return [
        dataclasses.replace(
            field.frame(f"S{n}.fits", *DITHER[n], clear=clear.get(n, 1.0)), sky=2800.0 * levels.get(n, 1.0)
        )
        for n in range(6)
    ]


@pytest.mark.parametrize("at", [0, 3])
@pytest.mark.parametrize("factor", [4.0, 8.0])
def test_a_frame_with_too_much_light_is_left_out_and_never_the_reference(factor: float, at: int) -> None:
    found = align(frames({at: factor}))
    assert [entry.name for entry in found.left_out] == [f"S{at}.fits"]
    assert f"{factor:.2g} times the flux" in found.left_out[0].reason
    assert "align.flux_range" in found.left_out[0].reason
    assert found.reference != f"S{at}.fits"
    assert found.entry(found.reference).used


@pytest.mark.parametrize("factor", [0.6, 1.6])
def test_stars_and_sky_with_the_same_factor_are_another_exposure(factor: float) -> None:
    found = align(frames({2: factor}, {2: factor}))
    assert [entry.name for entry in found.left_out] == ["S2.fits"]
    assert "not exposed for the 120 s of its header" in found.left_out[0].reason


@pytest.mark.parametrize(
    ("clear", "sky"),
    [({2: 0.5}, {}), ({2: 0.5}, {2: 1.2}), ({}, {2: 1.8}), ({2: 0.85, 3: 0.9}, {2: 0.85, 3: 0.9})],
)
def test_clouds_and_a_brighter_sky_are_used(clear: dict[int, float], sky: dict[int, float]) -> None:
    assert align(frames(clear, sky)).left_out == ()


def test_the_limit_is_a_parameter() -> None:
    assert align(frames({2: 4.0}), AlignParameters(flux_range=5.0)).left_out == ()


def test_a_reference_that_the_user_names_stays() -> None:
    found = align(frames({2: 4.0}), AlignParameters(reference="S2.fits"))
    assert found.reference == "S2.fits"
    assert found.entry("S2.fits").used


def test_no_majority_leaves_nothing_out() -> None:
    assert align(frames({0: 8.0, 1: 8.0, 2: 8.0})).left_out == ()
