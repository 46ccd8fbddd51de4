from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from hostile import harmful

from calib_store.model.values import STANDARD
from calib_store.rules.rules import Rule, RuleSet, differences
from calib_store.rules.rules_toml import read_rules, rules_in, rules_text, shipped_rules, shipped_text
from imaging.errors import StoreError
from imaging.instruments import catalogue
from imaging.kinds import CALIBRATION_KINDS

#: Facts that must match by the archive's rules, repeated here so that the table is not changed by accident.
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
#: Labels of these facts in messages.
LABELS = {
    "exposure_time": "exposure 120 s", "read_pairs": "read pairs 8", "coadds": "coadds 1",
    "section": "detector section [", "detector": "detector 109", "filter_id": "filter Y_G0811",
    "lyot": "Lyot stop f/16", "focal_mask": "focal-plane mask Open", "disperser": "disperser Open",
    "binning": "binning 1x1",
}  # fmt: skip
RULES = shipped_rules()
DAY = timedelta(days=1)


def rule(name: str) -> Rule:
    found = RULES.named(name)
    assert found is not None
    return found


ODD_NAME = 'a "dark" \\ \N{LATIN SMALL LETTER E WITH ACUTE} \N{GRINNING FACE}\x1b[2J\x7f\x9b\u202e\n'


def test_a_table_is_written_as_it_is_read() -> None:
    assert rules_text(RULES) == shipped_text()
    mine = RULES.model_copy(update={"version": "mine-1"})
    odd = RuleSet(
        version="odd",
        rules=(
            Rule(name=ODD_NAME, kind="dark", match=("exposure_time", "coadds"),
                 tolerance={"exposure_time": 1e-9, "coadds": 0.0}, window_days=1e-3, frames="earlier"),
            Rule(name="bpm", kind="bpm", match=("detector",), published=True),
        ),
    )  # fmt: skip
    for rules in (mine, odd):
        text = rules_text(rules)
        assert read_rules(text, "x") == rules
        assert harmful(text) == set()
        assert text.count("# ") > 10


def test_the_version_changes_with_the_content() -> None:
    """A change of the table requires a new version, and a new digest here."""
    assert (RULES.version, RULES.digest[:16]) == ("f2-imaging-8+niri-imaging-3", "f454a9ab0d4def5f")
    first = tuple(rule for rule in RULES.rules if not rule.instrument)
    alone = RULES.model_copy(update={"version": "f2-imaging-8", "rules": first})
    assert alone.digest[:16] == "b5d888a056758f3e"


@pytest.mark.parametrize(
    ("kind", "fact"), [(kind, fact) for kind, all_ in MUST_MATCH.items() for fact in all_]
)
def test_each_fact_that_must_match_changes_the_configuration(facts, kind: str, fact: str) -> None:
    frame = facts(**{fact: MUST_MATCH[kind][fact]})
    assert RULES.configuration(kind, facts()).digest != RULES.configuration(kind, frame).digest
    message = rule(kind).first_difference(rule(kind).keys_of(facts()), frame)
    assert message is not None
    assert message.startswith(LABELS[fact])
    assert (
        f"{MUST_MATCH[kind][fact]:g}" in message
        if fact == "exposure_time"
        else str(MUST_MATCH[kind][fact]) in message
    )


@pytest.mark.parametrize("kind", FREE)
def test_other_facts_do_not(facts, kind: str) -> None:
    frame = facts(**FREE[kind])
    assert RULES.configuration(kind, facts()) == RULES.configuration(kind, frame)
    assert rule(kind).first_difference(rule(kind).keys_of(facts()), frame) is None


def test_a_difference_is_described_with_both_values_and_units(facts) -> None:
    message = rule("dark").first_difference(rule("dark").keys_of(facts()), facts(exposure_time=60.0))
    assert message == "exposure 120 s, frame 60 s"


def test_every_difference_is_described(facts) -> None:
    names = ("exposure_time", "read_pairs", "coadds", "lyot")
    product = facts(exposure_time=8.0, read_pairs=4, lyot="")
    assert differences(names, product, facts()) == (
        "exposure 8 s, frame 120 s", "read pairs 4, frame 8", "Lyot stop unknown, frame f/16_G5830",
    )  # fmt: skip
    assert differences(names, facts(exposure_time=119.99999), facts(detector="110")) == ()


@pytest.mark.parametrize("kind", CALIBRATION_KINDS)
def test_the_rules_choose_nothing_that_detrending_refuses(facts, kind: str) -> None:
    for one in RULES.for_kind(kind, facts()):
        assert set(facts().table.same[kind]) <= set(one.match)


@pytest.mark.parametrize(
    ("seconds", "same"), [(5.0999999, True), (5.101, True), (5.104, True), (5.112, False), (5.088, False)]
)
def test_exposure_times_agree_to_a_hundredth_of_a_second(facts, seconds: float, same: bool) -> None:
    keys = rule("dark").keys_of(facts(exposure_time=5.1))
    assert (rule("dark").first_difference(keys, facts(exposure_time=seconds)) is None) == same


def test_window_and_direction(epoch) -> None:
    dark, static = rule("dark"), rule("static bpm")
    for sign in (-1, 1):
        assert dark.time_difference(epoch + sign * 90 * DAY, epoch) is None
        assert dark.time_difference(epoch + sign * 90.1 * DAY, epoch) is not None
    message = dark.time_difference(epoch + 100 * DAY, epoch)
    assert message == "100.0 days after the frame, at most 90"
    early = epoch - 9000 * DAY
    assert static.time_difference(early, epoch) is None
    assert "serves frames from" in static.time_difference(epoch + DAY, epoch)
    earlier = static.model_copy(update={"frames": "earlier"})
    assert earlier.time_difference(epoch + DAY, epoch) is None
    assert "serves frames until" in earlier.time_difference(early, epoch)


def test_a_published_and_a_made_mask_are_different_configurations(facts) -> None:
    made, published = RULES.configuration("bpm", facts()), RULES.configuration("bpm", facts(), published=True)
    assert (made.rule, published.rule) == ("bpm", "static bpm")
    assert made.digest != published.digest


def test_kinds(facts) -> None:
    assert RULES.configuration("image", facts()) is None
    assert RULES.configuration("dark", facts(), published=True) is None
    assert {one.kind for one in RULES.rules} == {*CALIBRATION_KINDS, STANDARD}
    with pytest.raises(StoreError, match="no product kind 'bias'"):
        RULES.configuration("bias", facts())


def test_every_fact_that_can_be_matched_exists(facts) -> None:
    for fact in {fact for one in RULES.rules for fact in one.match}:
        assert any(fact in table.comparable for table in catalogue.instruments())
    for one in RULES.rules:
        if not one.instrument:
            assert all(facts().value(fact) is not None for fact in one.match)
        assert one.keys_of(facts()) == one.keys_of(facts().model_dump(mode="json"))


# Reading a table


def test_a_table_survives_a_round_trip_through_json() -> None:
    again = RuleSet.model_validate_json(RULES.model_dump_json())
    assert again == RULES
    assert again.digest == RULES.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("window_days = 90", "window_days = -1"), "dark.window_days: Input should be greater than 0"),
        (("window_days = 90", "windowdays = 90"), "dark.windowdays: Extra inputs are not permitted"),
        (
            ('"exposure_time", ', '"exptime", '),
            "dark: match names 'exptime', which is not one of instrument,",
        ),
        (('"coadds", ', '"coadds", "coadds", '), "dark: match names a fact twice"),
        (
            ("{ exposure_time =", "{ section ="),
            "dark: tolerance names 'section', which is not a numeric fact",
        ),
        (("= 0.01", "= -1"), "dark: the tolerance of exposure_time is -1"),
        (('kind = "dark"', 'kind = "bias"'), "dark.kind: Input should be 'dark', 'bpm'"),
        (('frames = "later"', 'frames = "after"'), "static bpm.frames: Input should be 'either', 'later'"),
        (("published = true", "published = false"), "the table: two rules are for 'bpm'"),
        ((f'version = "{RULES.version}"', ""), "version: Input should be a valid string"),
        ((f'version = "{RULES.version}"', 'version = "a b"'), "version: String should match pattern"),
        (("[dark]", "[dark"), "is not valid TOML"),
        (("[dark]", 'dark = "flat"\n["other"]'), "dark.match: Field required"),
    ],
)
def test_an_invalid_table_is_reported_with_the_place(change: tuple[str, str], message: str) -> None:
    text = shipped_text()
    assert change[0] in text
    with pytest.raises(StoreError, match=r"my\.toml") as caught:
        read_rules(text.replace(*change, 1), "my.toml")
    assert message in str(caught.value)
    assert "nirflow cal rules" in caught.value.remedy


def test_a_file_that_is_too_large_or_deep_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    for text, message in (
        ("x = " + "[" * 100_000, "my.toml is not valid TOML"),
        ("x = " + "9" * 5000, "my.toml is not valid TOML"),
        ("# " + "x" * (1 << 20), "is larger than 1.0 MB"),
    ):
        file.write_text(text)
        with pytest.raises(StoreError, match=message):
            rules_in(file)
    with file.open("w") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(StoreError, match="is larger than"):
        rules_in(file)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(StoreError, match="a named pipe"):
        rules_in(file)
    with pytest.raises(StoreError, match="cannot be read: No such file"):
        rules_in(tmp_path / "none")
