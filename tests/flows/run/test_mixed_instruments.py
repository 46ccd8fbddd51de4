"""A folder with frames of several instruments: each is planned by its own rules, as if it were alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from calib_store.rules.rules_toml import shipped_rules
from flows.recipes.night_plan import NightPlan
from flows.run.plan import plan_night
from imaging.frames.facts import facts_from_headers
from imaging.frames.sequences import Sequence
from imaging.kinds import CALIBRATION_KINDS
from tasks.support.parameters import ReductionParameters
from tasks.support.references import RawFrame

START = datetime(2013, 11, 21, 2, 0, tzinfo=UTC)
#: The same array, program, filter and times: nothing but the instrument distinguishes the frames.
COMMON: dict[str, Any] = {
    "OBSCLASS": "science", "OBJECT": "FIELD", "COADDS": 1, "LNRS": 1, "RA": 63.49, "DEC": -47.84, "PA": 0.0,
    "GEMPRGID": "G-1", "OBSID": "G-1-1", "FILTER2": "J_G0802",
}  # fmt: skip
INSTRUMENTS: dict[str, dict[str, Any]] = {
    "F2": {"FILTER1": "Open", "DETID": "1", "NREADS": 1, "MOSPOS": "Open", "GRISM": "Open", "LYOT": "f/16_G5830"},
    "NIRI": {
        "FILTER1": "open", "FILTER3": "pupil38_G5207", "ARRAYID": "1", "CAMERA": "f6", "FPMASK": "f6-cam_G5208",
        "NDAVGS": 1, "A_VDDUC": -3.49, "A_VDET": -2.91,
    },
}  # fmt: skip


def frames_of(
    instrument: str, prefix: str, count: int, kind: str, days: float = 0.0, **cards: Any
) -> list[RawFrame]:
    found = []
    for n in range(count):
        moment = START + timedelta(days=days, minutes=3 * n)
        name = f"{prefix}{kind}{cards.get('EXPTIME', '')}{cards.get('GCALSHUT', '')}{n}.fits"
        clock = {
            "DATE-OBS": f"{moment:%Y-%m-%d}",
            "UTSTART": f"{moment:%H:%M:%S}",
            "UT": f"{moment:%H:%M:%S}",
        }
        header = COMMON | INSTRUMENTS[instrument] | {"INSTRUME": instrument, "OBSTYPE": kind} | clock | cards
        facts = facts_from_headers(header, {}, name=name)
        sha256 = f"{instrument}{name}".encode().hex()[-64:].rjust(64, "0")
        found.append(
            RawFrame(path=Path(f"/raw/{name}"), source=Path(f"/raw/{name}"), sha256=sha256, facts=facts)
        )
    return found


def night(instrument: str, prefix: str, *, short_darks: int = 3) -> list[RawFrame]:
    lamp = {"EXPTIME": 20.0, "GCALLAMP": "IRhigh"}
    return [
        *frames_of(instrument, prefix, 5, "OBJECT", EXPTIME=60.0),
        *frames_of(instrument, prefix, 4, "DARK", 0.1, EXPTIME=60.0),
        *frames_of(instrument, prefix, short_darks, "DARK", 0.2, EXPTIME=2.0),
        *frames_of(instrument, prefix, 4, "FLAT", 0.3, GCALSHUT="OPEN", **lamp),
        *frames_of(instrument, prefix, 4, "FLAT", 0.4, GCALSHUT="CLOSED", **lamp),
    ]


def plan(frames: list[RawFrame], **options: Any) -> NightPlan:
    return plan_night(frames, ReductionParameters(), **options)


def members(made: NightPlan) -> set[tuple[str, frozenset[str]]]:
    """Return the frames of each set, with its kind."""

    def names(value: Any) -> set[str]:
        if isinstance(value, RawFrame):
            return {value.name}
        if isinstance(value, tuple):
            return set().union(*map(names, value))
        return set().union(*map(names, dict(value).values())) if isinstance(value, BaseModel) else set()

    return {(kind, frozenset(names(one))) for kind, sets in made.sets.items() for one in sets}


F2, NIRI = night("F2", "S"), night("NIRI", "N")


@given(st.randoms(use_true_random=False))
def test_each_instrument_is_planned_as_if_it_were_alone(random: Random) -> None:
    both = plan(random.sample(F2 + NIRI, len(F2 + NIRI)))
    assert members(both) == members(plan(F2)) | members(plan(NIRI))
    assert {kind: len(sets) for kind, sets in both.sets.items()} == {
        "dark": 2,
        "bpm": 2,
        "flat": 2,
        "image": 2,
    }
    for kind in both.sets:
        labels = [one.label for one in both.of(kind)]
        assert {label.rpartition(" ")[2] for label in labels} == {"F2", "NIRI"}


def test_a_folder_of_one_instrument_has_the_usual_labels() -> None:
    assert [one.label for one in plan(NIRI).of("dark")] == ["dark 60 s 2013-11-21"]
    assert plan([]).sets == {}


def test_what_one_instrument_lacks_is_reported_for_it() -> None:
    both = plan(F2 + night("NIRI", "N", short_darks=0))
    assert len(both.of("bpm")) == 1
    (missing,) = both.left_out
    assert missing.name == "bad pixel mask of NIRI"
    assert "no short darks" in missing.reason


def test_a_few_short_darks_of_one_instrument_are_not_judged_by_those_of_another() -> None:
    alone = plan(night("NIRI", "N", short_darks=1)).of("bpm")
    with_others = plan(F2 + night("NIRI", "N", short_darks=1)).of("bpm")
    assert len(alone) == 1
    assert len(with_others) == 2


@pytest.mark.parametrize("kind", CALIBRATION_KINDS)
def test_rules_keep_the_instruments_apart(kind: Any) -> None:
    rules, frames = shipped_rules(), {"F2": F2[0].facts, "NIRI": NIRI[0].facts}
    for mine, other in (("F2", "NIRI"), ("NIRI", "F2")):
        for rule in rules.for_kind(kind, frames[mine]):
            assert "instrument" in rule.match
            keys = rule.keys_of(frames[mine])
            assert rule.first_difference(keys, frames[mine]) is None
            assert rule.first_difference(keys, frames[other]) is not None
    configurations = [rules.configuration(kind, facts) for facts in frames.values()]
    assert configurations[0] is not None
    assert configurations[1] is not None
    assert configurations[0].digest != configurations[1].digest


def test_sequences_of_instruments_have_different_names() -> None:
    def names(frames: list[RawFrame]) -> set[str]:
        return {one.name for frame in frames if (one := Sequence.of(frame.facts)) is not None}

    assert not names(F2) & names(NIRI)
    assert len(names(F2)) == len(names(NIRI)) == 4
