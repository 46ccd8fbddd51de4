from __future__ import annotations

from datetime import timedelta

import pytest

from calib_store.rules import (
    FACT_WORDS,
    PRODUCT_KINDS,
    RULES,
    configuration,
    configurations_of_frame,
    differences,
    first_difference,
    keys_of,
    rule_named,
    time_difference,
)
from imaging.detrend import MUST_AGREE
from imaging.errors import StoreError
from imaging.facts import FrameFacts

#: What must match by the archive's rules, written out again: a change of the table has to be meant.
MUST_MATCH = {
    "dark": {"exposure_time": 60.0, "read_pairs": 4, "coadds": 2, "section": "[1:1024,1:1024]", "detector": "110"},
    "flat": {
        "filter_id": "Y_G0812", "lyot": "GEMS_G5835", "focal_mask": "2pix", "disperser": "JH_G5801",
        "detector": "110",
    },
    "bpm": {"detector": "110", "binning": "2x2"},
}  # fmt: skip
FREE = {
    "dark": {"filter_id": "J_G0802", "lyot": "GEMS_G5835", "target": "other", "observation_class": "dayCal"},
    "flat": {"exposure_time": 2.0, "read_pairs": 1, "coadds": 3},
    "bpm": {"exposure_time": 2.0, "read_pairs": 1, "filter_id": "J_G0802"},
}


@pytest.mark.parametrize(
    ("kind", "fact"), [(kind, fact) for kind, all_ in MUST_MATCH.items() for fact in all_]
)
def test_each_fact_that_must_match_changes_the_configuration(facts, kind: str, fact: str) -> None:
    frame = facts(**{fact: MUST_MATCH[kind][fact]})
    assert configuration(kind, facts()).digest not in {c.digest for c in configurations_of_frame(kind, frame)}
    rule = rule_named(kind)
    told = first_difference(rule, keys_of(rule, facts()), frame)
    assert told is not None
    assert told.startswith(FACT_WORDS[fact][0])
    assert (
        f"{MUST_MATCH[kind][fact]:g}" in told
        if fact == "exposure_time"
        else str(MUST_MATCH[kind][fact]) in told
    )


@pytest.mark.parametrize("kind", FREE)
def test_other_facts_do_not(facts, kind: str) -> None:
    frame = facts(**FREE[kind])
    assert configuration(kind, facts()).digest in {c.digest for c in configurations_of_frame(kind, frame)}
    rule = rule_named(kind)
    assert first_difference(rule, keys_of(rule, facts()), frame) is None


def test_difference_is_told_with_both_values_and_units(facts) -> None:
    rule = rule_named("dark")
    told = first_difference(rule, keys_of(rule, facts()), facts(exposure_time=60.0))
    assert told == "exposure 120 s, frame 60 s"


def test_every_difference_is_told(facts) -> None:
    names = ("exposure_time", "read_pairs", "coadds", "lyot")
    product = facts(exposure_time=8.0, read_pairs=4, lyot="")
    assert differences(names, product, facts()) == (
        "exposure 8 s, frame 120 s", "read pairs 4, frame 8", "Lyot stop unknown, frame f/16_G5830",
    )  # fmt: skip
    assert differences(names, facts(exposure_time=119.99999), facts(detector="110")) == ()


@pytest.mark.parametrize("kind", sorted(MUST_AGREE))
def test_the_rules_choose_nothing_that_detrending_refuses(kind: str) -> None:
    for rule in (rule for rule in RULES if rule.kind == kind):
        assert set(MUST_AGREE[kind]) <= set(rule.match)


def test_exposure_times_of_single_and_double_precision_agree(facts) -> None:
    assert configuration("dark", facts(exposure_time=5.1)) == configuration(
        "dark", facts(exposure_time=5.0999999)
    )


def test_window_and_direction(facts, epoch) -> None:
    day = timedelta(days=1)
    dark, static = rule_named("dark"), rule_named("static bpm")
    for sign in (-1, 1):
        assert time_difference(dark, epoch + sign * 90 * day, epoch, epoch) is None
        assert time_difference(dark, epoch + sign * 90.1 * day, epoch, epoch) is not None
    assert time_difference(dark, epoch + 100 * day, epoch, epoch) == "100.0 days after the frame, at most 90"
    assert time_difference(static, epoch - 9000 * day, epoch - 9000 * day, epoch) is None
    assert "serves frames from" in time_difference(static, epoch + day, epoch + day, epoch)


def test_a_static_and_a_made_mask_are_different_configurations(facts) -> None:
    made, static = configuration("bpm", facts()), configuration("bpm", facts(), static=True)
    assert made.digest != static.digest
    assert {made.digest, static.digest} == {c.digest for c in configurations_of_frame("bpm", facts())}


def test_kinds(facts) -> None:
    assert configuration("image", facts()) is None
    assert {rule.kind for rule in RULES} == set(PRODUCT_KINDS) - {"image"}
    with pytest.raises(StoreError, match="no product kind 'bias'"):
        configuration("bias", facts())
    with pytest.raises(StoreError, match="Only a bad pixel mask"):
        configuration("dark", facts(), static=True)


def test_every_fact_that_a_rule_names_exists_and_has_words() -> None:
    for rule in RULES:
        assert set(rule.match) <= set(FrameFacts.model_fields)
        assert set(rule.match) <= set(FACT_WORDS)
