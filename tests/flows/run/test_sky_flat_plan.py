"""Which science groups get a flat from their own sky: those without lamp flats, if the user wants it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.recipes.night_plan import NightPlan
from flows.run.plan import plan_night
from flows.run.remake_plan import NotPossibleError, work_of
from imaging.frames.facts import FrameFacts
from tasks.support.parameters import ReductionParameters
from tasks.support.references import RawFrame

NIGHT = datetime(2013, 11, 21, 2, 0, tzinfo=UTC)
BASE: dict[str, Any] = {
    "instrument": "F2", "observation_class": "science", "target": "W", "exposure_time": 120.0, "coadds": 1,
    "read_pairs": 8, "filter_id": "Y_G0811", "filter": "Y", "lyot": "f/16_G5830", "focal_mask": "Open",
    "disperser": "Open", "detector": "109", "program": "GS-2013B-Q-15", "observation_id": "GS-2013B-Q-15-39",
    "ra": 63.49, "dec": -47.84,
}  # fmt: skip


def several(prefix: str, count: int, kind: str, minutes: float = 0.0, **changes: Any) -> list[RawFrame]:
    frames = []
    for i in range(count):
        name = f"{prefix}{i}.fits"
        started = NIGHT + timedelta(minutes=minutes + 3 * i)
        facts = FrameFacts(**(BASE | {"name": name, "kind": kind, "started": started} | changes))
        path = Path(f"/raw/{name}")
        frames.append(
            RawFrame(path=path, source=path, sha256=name.encode().hex().ljust(64, "0"), facts=facts)
        )
    return frames


def science(count: int = 6, band: str = "Y") -> list[RawFrame]:
    return several(f"sci{band}", count, "object", filter=band, filter_id=f"{band}_G08")


def lamps(band: str = "Y") -> list[RawFrame]:
    of = {"filter": band, "filter_id": f"{band}_G08", "exposure_time": 20.0, "read_pairs": 1}
    return [
        *several(f"on{band}", 4, "flat", 600, lamp="on", **of),
        *several(f"off{band}", 4, "flat", 700, lamp="off", **of),
    ]


def plan(frames: list[RawFrame], make: str = "if_missing", **more: Any) -> NightPlan:
    return plan_night(
        frames, ReductionParameters.model_validate({"sky_flat": {"make": make, **more.pop("with_", {})}}), **more
    )  # fmt: skip


def test_none_is_planned_unless_wanted() -> None:
    assert plan(science(), "never").of("flat") == ()


def test_science_without_lamp_flats_gets_one_of_its_own_frames() -> None:
    (flat,) = plan(science()).of("flat")
    assert flat.sky is not None
    assert [frame.name for frame in flat.frames] == [f"sciY{i}.fits" for i in range(6)]
    assert flat.label == "flat Y 2013-11-21 from the sky"
    assert (flat.filter, flat.thermal, flat.lamps) == ("Y", False, ())


def test_a_band_with_lamp_flats_gets_none() -> None:
    frames = [*science(), *science(band="J"), *lamps("J")]
    flats = plan(frames).of("flat")
    assert {flat.filter: flat.sky is not None for flat in flats} == {"Y": True, "J": False}


def test_only_selected_bands() -> None:
    frames = [*science(), *science(band="J")]
    assert [flat.filter for flat in plan(frames, bands=("J",)).of("flat")] == ["J"]


def test_too_few_frames_are_reported() -> None:
    found = plan(science(4))
    assert found.of("flat") == ()
    (text,) = [one.reason for one in found.left_out if "sky" in one.reason]
    assert (
        text == "4 science frames are too few for a flat from their sky; 5 are needed (sky_flat.min_frames)"
    )
    assert len(plan(science(4), with_={"min_frames": 4}).of("flat")) == 1


def test_no_mask_is_made_of_science_frames() -> None:
    short = several("short", 4, "dark", 900, exposure_time=2.0, read_pairs=1)
    found = plan([*science(), *short])
    assert found.of("bpm") == ()
    assert "no lamp flats" in [one.reason for one in found.left_out if one.name == "bad pixel mask"]


def test_darks_are_planned_that_only_the_sky_flat_needs() -> None:
    darks = several("dark", 4, "dark", 900)
    assert [len(one.frames) for one in plan([*science(), *darks]).of("dark")] == [4]


def test_it_is_made_again_from_its_usable_frames() -> None:
    frames = science()
    recorded = [("sky", frame.facts) for frame in frames]
    again = work_of("flat", [("sky", frame) for frame in frames[1:]], recorded)
    assert again == plan(frames[1:]).of("flat")[0]
    with pytest.raises(NotPossibleError, match="none of its frames is usable as sky"):
        work_of("flat", [], recorded)
