"""The plan of a night: sets, partners, and what is left out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.recipes.night_plan import NightPlan
from flows.run.plan import plan_night, targets_with_needs
from imaging.frames.facts import FrameFacts
from imaging.instruments import catalogue
from tasks.support.parameters import ReductionParameters
from tasks.support.references import RawFrame

NIGHT = datetime(2013, 11, 21, 2, 0, tzinfo=UTC)
BASE: dict[str, Any] = {
    "instrument": "F2", "observation_class": "science", "target": "W", "exposure_time": 120.0, "coadds": 1,
    "read_pairs": 8, "filter_id": "Y_G0811", "filter": "Y", "lyot": "f/16_G5830", "focal_mask": "Open",
    "disperser": "Open", "detector": "109", "program": "GS-2013B-Q-15", "observation_id": "GS-2013B-Q-15-39",
    "ra": 63.49, "dec": -47.84,
}  # fmt: skip


def frame(name: str, kind: str, days: float = 0.0, **changes: Any) -> RawFrame:
    facts = FrameFacts(
        **(BASE | {"name": name, "kind": kind, "started": NIGHT + timedelta(days=days)} | changes)
    )
    path = Path(f"/raw/{name}")
    return RawFrame(path=path, source=path, sha256=name.encode().hex().ljust(64, "0"), facts=facts)


def several(prefix: str, count: int, kind: str, days: float = 0.0, **changes: Any) -> list[RawFrame]:
    return [frame(f"{prefix}{i}.fits", kind, days + i / 500, **changes) for i in range(count)]


BAND: dict[str, dict[str, Any]] = {
    band: {"filter": band, "filter_id": f"{band}_G08"} for band in ("Y", "J", "K-red")
}


def darks(
    count: int = 4, exposure: float = 120.0, pairs: int = 8, days: float = 0.1, name: str = ""
) -> list[RawFrame]:
    prefix = name or f"dark{exposure:g}_{pairs}_"
    return several(prefix, count, "dark", days, exposure_time=exposure, read_pairs=pairs)


def lamps(
    lamp: str, band: str = "Y", count: int = 4, days: float = 5.0, exposure: float = 20.0, pairs: int = 1
) -> list[RawFrame]:
    changes = BAND[band] | {"lamp": lamp, "exposure_time": exposure, "read_pairs": pairs}
    return several(f"{lamp}{band}{exposure:g}_{pairs}_", count, "flat", days, **changes)


def science(band: str = "Y", count: int = 5, exposure: float = 120.0) -> list[RawFrame]:
    changes = BAND[band] | {"exposure_time": exposure}
    return several(f"sci{band}", count, "object", **changes)


def short_darks(**changes: Any) -> list[RawFrame]:
    return darks(**({"count": 3, "exposure": 2.0, "pairs": 1, "days": 0.2} | changes))


def y_night() -> list[RawFrame]:
    return science() + darks() + short_darks() + lamps("on") + lamps("off", days=8)


def plan(frames: list[RawFrame], **options: Any) -> NightPlan:
    return plan_night(frames, ReductionParameters(), **options)


def test_distortions_are_made_on_request_only() -> None:
    assert "distortion" not in plan(y_night()).sets
    made = plan(y_night(), only=["distortion"])
    assert [one.label for one in made.of("distortion")] == ["distortion Y W 2013-11-21"]
    assert {*made.sets} == {"dark", "bpm", "flat", "distortion"}
    few = plan(science(count=2) + science("J"), only=["distortion"])
    assert [one.label for one in few.of("distortion")] == ["distortion J W 2013-11-21"]
    (left_out,) = (one for one in few.left_out if one.name == "distortion Y W 2013-11-21")
    assert left_out.reason == "it has 2 frames of the field, and 3 are needed"


def test_the_tutorials_night() -> None:
    made = plan(y_night())
    assert [d.label for d in made.of("dark")] == ["dark 120 s 2013-11-21"]
    (flat,) = made.of("flat")
    assert (len(flat.on.frames), len(flat.off.frames)) == (4, 4)  # type: ignore[union-attr]
    assert not flat.thermal
    assert made.of("bpm")[0].flat == flat
    assert len(made.of("bpm")[0].short_darks.frames) == 3
    assert len(made.of("image")[0].objects) == 5
    assert made.left_out == ()


@given(st.permutations(y_night()))
def test_the_order_of_the_files_does_not_matter(frames: list[RawFrame]) -> None:
    assert plan(frames) == plan(y_night())


@pytest.mark.parametrize(
    ("only", "kinds"),
    [
        (("dark",), {"dark"}),
        (("bpm",), {"bpm"}),
        (("flat",), {"flat", "bpm"}),
        (("science",), {"dark", "bpm", "flat", "image"}),
    ],
)
def test_only_what_is_asked_for_and_what_it_needs(only: Any, kinds: set[str]) -> None:
    made = plan(y_night(), only=only)
    assert {*made.sets} == kinds
    assert {*plan(y_night()).sets} >= {"dark", "bpm", "flat", "image"}
    assert all(made.sets.values())
    assert targets_with_needs(only) >= set(only)


def test_no_frames() -> None:
    assert plan([]) == NightPlan()
    assert plan([]).empty


def test_k_flats_take_their_own_darks_and_the_mask_short_ones() -> None:
    offs = lamps("off", "K-red", exposure=8.0)
    own = darks(exposure=8.0, pairs=1, days=5.1)
    made = plan(offs + own + short_darks() + science("K-red", exposure=8.0))
    (flat,) = made.of("flat")
    assert flat.thermal
    assert flat.darks is not None
    assert [f.name for f in flat.darks.frames] == [f.name for f in own]
    assert [f.name for f in made.of("bpm")[0].short_darks.frames] == [f.name for f in short_darks()]


def test_longer_darks_of_a_k_night_are_not_used_as_short_ones() -> None:
    near = darks(exposure=5.0, pairs=1, days=5.05)
    made = plan(lamps("off", "K-red", exposure=2.0) + near + short_darks(days=4.0))
    assert {f.facts.exposure_time for f in made.of("bpm")[0].short_darks.frames} == {2.0}


def test_a_k_flat_alone_includes_its_dark() -> None:
    own = darks(exposure=8.0, pairs=1, days=5.1)
    made = plan(lamps("off", "K-red", exposure=8.0) + own + darks() + science(), only=("flat",))
    assert [d.first.facts.exposure_time for d in made.of("dark")] == [8.0]
    assert made.of("image") == ()


def test_k_without_matching_darks_is_reported() -> None:
    made = plan(lamps("off", "K-red", exposure=8.0) + short_darks())
    assert made.of("bpm") == ()
    (reported,) = [one for one in made.left_out if one.name == "bad pixel mask"]
    assert reported.reason == "no darks of 8 s to go with the lamp-offs"


def test_the_mask_is_the_same_for_any_requested_band() -> None:
    frames = y_night() + lamps("on", "J", count=3) + lamps("off", "J", days=8)
    frames += science("J", exposure=60.0) + darks(exposure=60.0)
    both = plan(frames)
    j_only = plan(frames, bands=("J",))
    assert j_only.of("bpm") == both.of("bpm")
    assert [f.filter for f in j_only.of("flat")] == ["J"]
    assert {s.frames.first.facts.filter for s in j_only.of("image")} == {"J"}
    assert [d.first.facts.exposure_time for d in j_only.of("dark")] == [60.0]
    assert j_only.left_out == both.left_out == ()


def test_a_single_frame_of_another_read_mode_replaces_nothing() -> None:
    odd_short = darks(count=1, exposure=2.0, pairs=4, days=5.0)
    odd_lamp = lamps("on", count=1, pairs=4, days=1.0)
    made = plan(y_night() + odd_short + odd_lamp)
    assert made.of("bpm") == plan(y_night()).of("bpm")
    assert made.of("flat") == plan(y_night()).of("flat")
    reasons = {one.name: one.reason for one in made.left_out}
    assert "without lamp-offs of the same exposure, read mode" in reasons["onY20_4_0.fits"]
    assert "1 dark of 2 s with 4 read pairs" in reasons["dark2_4_0.fits"]


def test_lamp_ons_without_any_lamp_offs_still_make_a_flat() -> None:
    made = plan(science() + darks() + short_darks() + lamps("on"))
    assert made.of("flat")[0].off is None
    assert made.of("bpm") == ()


def test_short_darks_are_combined_only_if_needed() -> None:
    assert [d.first.facts.exposure_time for d in plan(y_night()).of("dark")] == [120.0]
    wanted = plan(y_night() + several("quick", 5, "object", 0.5, exposure_time=2.0, read_pairs=1))
    assert sorted(d.first.facts.exposure_time for d in wanted.of("dark")) == [2.0, 120.0]


def test_without_removes_frames_everywhere() -> None:
    group = plan(y_night()).of("image")[0]
    less = group.without({"sciY1.fits"})
    assert group.without(()) is group
    for names in (less.objects, less.skies, [f.name for f in less.frames.frames]):
        assert list(names) == ["sciY0.fits", "sciY2.fits", "sciY3.fits", "sciY4.fits"]


def test_each_half_year_gets_its_own_mask() -> None:
    """A mask serves 90 days: frames of another season must get their own if it can be made."""
    later = [
        f.model_copy(
            update={
                "facts": f.facts.model_copy(
                    update={"name": f"later-{f.name}", "started": f.facts.started + timedelta(days=200)}
                ),
                "sha256": f.sha256[::-1],
            }
        )
        for f in y_night()
    ]
    made = plan(y_night() + later)
    assert [mask.flat.first.first.facts.night.year for mask in made.of("bpm")] == [2013, 2014]
    # Science frames of two seasons also form two groups, each with the calibrations of its time.
    assert [len(group.objects) for group in made.of("image")] == [5, 5]


def test_a_band_without_frames_is_reported() -> None:
    made = plan(y_night(), bands=("J",))
    assert ("band J", "no frame of the night has this filter") in {(o.name, o.reason) for o in made.left_out}


def test_a_mask_that_cannot_be_made_is_reported_if_requested() -> None:
    made = plan(short_darks(), only=("bpm",))
    assert made.of("bpm") == ()
    assert any(o.name == "bad pixel mask" and "no lamp flats" in o.reason for o in made.left_out)


def test_a_mask_serves_flats_whose_exposure_times_are_nominally_equal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A table may ask for masks of the flat's exposure time, within its tolerance."""
    f2 = catalogue.named("F2")
    table = f2.model_copy(update={"same": dict(f2.same) | {"bpm": (*f2.same["bpm"], "exposure_time")}})
    monkeypatch.setattr(catalogue, "named", lambda _: table)

    def masks(exposure: float) -> int:
        of_j = [
            *lamps("on", "J", days=5.1, exposure=exposure),
            *lamps("off", "J", days=5.1, exposure=exposure),
        ]
        return len(plan([*lamps("on"), *lamps("off"), *of_j, *short_darks()]).of("bpm"))

    assert (masks(20.0), masks(20.004), masks(20.1)) == (1, 1, 2)
