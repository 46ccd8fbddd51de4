"""Stacks that cannot be combined are left out by name, with the reason and a remedy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulated_stacks import ZERO_POINT, field, stack_of

from imaging.errors import GroupError
from imaging.header import Header
from imaging.mosaic.arrange import arrange
from imaging.mosaic.parameters import MosaicParameters
from imaging.registration.resampling.resample import array_source

SMALL = {"size": 220, "frames": 3, "dither": 8.0}


@pytest.fixture(scope="module")
def stars():
    return field(np.random.default_rng(4), 60, n=60, bright=45)


@pytest.fixture(scope="module")
def pair(stars):
    """Two stacks of one field."""
    return [stack_of(stars, f"s{k}", seed=k, zero_point=ZERO_POINT, **SMALL) for k in (1, 2)]


def reasons(arranged):
    return {one.name: f"{one.reason} {one.remedy}" for one in arranged.excluded}


def names(arranged):
    return [one.name for one in arranged.stacks]


def test_a_stack_without_world_coordinates_is_left_out(pair) -> None:
    blind = replace(pair[0], name="blind", header=Header([]))
    arranged = arrange([*pair, blind])
    assert names(arranged) == ["s1", "s2"]
    assert "no valid celestial world coordinates" in reasons(arranged)["blind"]
    assert "--catalogue" in reasons(arranged)["blind"]


def test_one_stack_is_no_mosaic(pair) -> None:
    with pytest.raises(
        GroupError, match=r"1 stack can be used, and a mosaic needs two or more .blind: it has no valid"
    ):
        arrange([pair[0], replace(pair[1], name="blind", header=Header([]))])


def test_a_stack_without_usable_pixels_is_left_out(pair) -> None:
    shape = pair[0].shape
    flagged = array_source(
        np.zeros(shape, np.float32), np.ones(shape, np.float32), np.full(shape, 16, np.uint16)
    )
    arranged = arrange([*pair, replace(pair[0], name="void", rows=flagged)])
    assert "no usable pixel of empty sky" in reasons(arranged)["void"]


def test_world_coordinates_that_are_off_are_corrected_by_stars(pair, stars) -> None:
    off = stack_of(
        stars, "off", seed=3, position_error=None, coordinates_off=(2.5, -1.5), zero_point=ZERO_POINT, **SMALL
    )  # fmt: skip
    arranged = arrange([*pair, off])
    k = names(arranged).index("off")
    assert arranged.moves[k].xi == pytest.approx(-2.5, abs=0.02)
    assert arranged.moves[k].eta == pytest.approx(1.5, abs=0.02)
    assert arranged.rms[k] < 0.02


def test_world_coordinates_that_are_far_off_exclude_a_stack(pair, stars) -> None:
    off = stack_of(
        stars, "off", seed=3, position_error=None, coordinates_off=(12.0, 0.0), zero_point=ZERO_POINT, **SMALL
    )  # fmt: skip
    arranged = arrange([*pair, off])
    assert names(arranged) == ["s1", "s2"]
    assert "disagree" in reasons(arranged)["off"]
    assert "mosaic.search = 5 arcsec" in reasons(arranged)["off"]


def test_a_catalogue_that_is_contradicted_by_stars_excludes_a_stack(pair, stars) -> None:
    off = stack_of(stars, "off", seed=3, coordinates_off=(0.8, 0.0), zero_point=ZERO_POINT, **SMALL)
    arranged = arrange([*pair, off])
    assert names(arranged) == ["s1", "s2"]
    assert "from where its world coordinates, from a catalogue, put them" in reasons(arranged)["off"]


def test_a_stack_of_another_scale_is_left_out(pair) -> None:
    """Its header states pixels that are 1 % larger."""
    cards = {card.keyword: card[1] for card in pair[0].header.cards}
    wrong = Header([(k, v * 1.01 if k.startswith("CD") else v) for k, v in cards.items()])
    arranged = arrange([*pair, replace(pair[0], name="wrong", header=wrong, position_error=None)])
    assert names(arranged) == ["s1", "s2"]
    assert "mosaic.max_rms is 0.3" in reasons(arranged)["wrong"]


def test_pointings_that_are_disjoint_need_a_catalogue(pair, stars) -> None:
    lonely = stack_of(stars, "lonely", at=(120.0, 0.0), seed=3, position_error=None, **SMALL)
    arranged = arrange([*pair, lonely])
    assert names(arranged) == ["s1", "s2"]
    assert "no stars in common confirm them" in reasons(arranged)["lonely"]
    assert "mosaic.trust_coordinates=true" in reasons(arranged)["lonely"]
    trusting = arrange([*pair, lonely], MosaicParameters(trust_coordinates=True))
    assert "no zero point from a catalogue" in reasons(trusting)["lonely"]


def test_pointings_that_are_disjoint_are_combined_with_a_catalogue(pair, stars) -> None:
    other = stack_of(stars, "other", at=(80.0, 0.0), seed=3, zero_point=ZERO_POINT - 0.2, **SMALL)
    arranged = arrange([*pair, other])
    assert names(arranged) == ["s1", "s2", "other"]
    assert arranged.factors[2] / arranged.factors[0] == pytest.approx(10**0.08, rel=0.01)
    assert arranged.stars[2] == 0


def test_stacks_without_any_zero_point_are_scaled_by_stars(stars) -> None:
    several = [
        stack_of(stars, f"t{k}", transparency=t, seed=30 + k, position_error=None, **SMALL)
        for k, t in enumerate((1.0, 0.6))
    ]
    arranged = arrange(several)
    assert arranged.factors[1] == pytest.approx(1 / 0.6, rel=0.02)
    assert np.isnan(arranged.zero_points).all()
    assert np.isnan(arranged.zero_point_error)


def test_a_zero_point_that_stars_contradict_is_reported(pair, stars) -> None:
    wrong = stack_of(stars, "wrong", seed=3, zero_point=ZERO_POINT + 0.3, **SMALL)
    arranged = arrange([*pair, wrong])
    assert any(note.startswith("the zero point of wrong") for note in arranged.notes)
    assert not any("s1" in note for note in arranged.notes)


def test_the_reference_can_be_named(pair) -> None:
    assert arrange(pair, MosaicParameters(reference="s2")).reference == 1
    with pytest.raises(
        GroupError, match=r"mosaic.reference = 's9' is not among the stacks that can be used: s1, s2"
    ):
        arrange(pair, MosaicParameters(reference="s9"))
