"""Every way to reduce forms the same groups from the same frames, and a redo has the groups of what it
replaces.

Random seasons of nights, gaps, fields, bands and rejections; facts only, no pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from calib_store.model.records import Frame, InputRef, Product
from calib_store.store import Store
from deployments.arrivals.selection import calibrations_near, frames_of_nights, frames_of_sequence
from flows.recipes.night_plan import NightPlan
from flows.run.plan import plan_night
from flows.run.redo import Redo
from flows.run.remake_plan import Remake, plan_remakes
from imaging.frames.calibration_groups import calibration_groups
from imaging.frames.facts import FrameFacts
from imaging.frames.sequences import Sequence as Exposures
from tasks.bpm import BpmSet
from tasks.building.recipe import Ingredient
from tasks.flat import FlatSet
from tasks.science.science_set import ScienceSet
from tasks.stack import science_recipe
from tasks.support.parameters import ReductionParameters
from tasks.support.references import Calibrations, FrameSet, RawFrame

FIRST = date(2013, 11, 1)
EVENING = datetime(2013, 11, 1, 1, tzinfo=UTC)
PARAMETERS = ReductionParameters()
BASE: dict[str, Any] = {
    "instrument": "F2", "observation_class": "science", "target": "W", "coadds": 1, "read_pairs": 8,
    "lyot": "f/16_G5830", "focal_mask": "Open", "disperser": "Open", "detector": "109", "program": "P",
}  # fmt: skip
BANDS = ("Y", "J", "K-red")


@dataclass(frozen=True)
class Season:
    """A store that holds only frames."""

    known: tuple[Frame, ...]

    @property
    def frames(self) -> Season:
        return self

    def of_nights(self, first: date, last: date, *, kinds: Sequence[str] = ()) -> tuple[Frame, ...]:
        return tuple(
            f
            for f in self.known
            if first <= night(f) <= last and facts(f).kind in (kinds or (facts(f).kind,))
        )

    def refused_of_nights(self, *_: date) -> tuple[Frame, ...]:
        return ()

    @property
    def store(self) -> Store:
        return cast(Store, self)

    @property
    def nights(self) -> list[date]:
        return sorted({night(frame) for frame in self.known})


def facts(frame: Frame) -> FrameFacts:
    assert frame.facts is not None
    return frame.facts


def night(frame: Frame) -> date:
    return facts(frame).night


def surveyed(frames: Sequence[Frame]) -> list[RawFrame]:
    """Return the frames as found by a survey of their files."""
    usable = {f.sha256: f for f in frames if f.rejected is None and f.quarantine is None}
    ordered = sorted(usable.values(), key=lambda f: (facts(f).started, f.name))
    return [
        RawFrame(path=Path(f.name), source=Path(f.name), sha256=f.sha256, facts=facts(f)) for f in ordered
    ]


def _block(what: str, band: str) -> dict[str, Any]:
    """Return the facts of a block of exposures: its kind and configuration."""
    filters = {"filter": band, "filter_id": f"{band}_G08"}
    target = filters | {
        "kind": "object",
        "exposure_time": 120.0,
        "ra": 63.49,
        "dec": -47.84,
        "observation_id": "P-1",
    }
    return {
        "field": target,
        "offset": target | {"poffset": 600.0},
        "other": target | {"exposure_time": 60.0, "ra": 80.0, "observation_id": "P-2"},
        "dark": filters | {"kind": "dark", "exposure_time": 120.0},
        "short": filters | {"kind": "dark", "exposure_time": 2.0, "read_pairs": 1},
        "like off": filters | {"kind": "dark", "exposure_time": 8.0, "read_pairs": 1},
        "on": filters | {"kind": "flat", "lamp": "on", "exposure_time": 8.0, "read_pairs": 1},
        "off": filters | {"kind": "flat", "lamp": "off", "exposure_time": 8.0, "read_pairs": 1},
    }[what]  # fmt: skip


BLOCKS = st.tuples(
    st.sampled_from(["field", "offset", "other", "dark", "dark", "short", "like off", "on", "off"]),
    st.sampled_from(BANDS),
    st.integers(1, 4),
)
NIGHTS = st.tuples(st.integers(1, 12), st.lists(BLOCKS, min_size=1, max_size=5))


@st.composite
def seasons(draw: st.DrawFn) -> Season:
    """Nights some days apart, each with some blocks; part of the frames is rejected."""
    frames, day = [], 0
    for gap, blocks in draw(st.lists(NIGHTS, min_size=1, max_size=6)):
        day += gap
        at = EVENING + timedelta(days=day)
        for what, band, count in blocks:
            for _ in range(count):
                name = f"S{len(frames):04d}.fits"
                at += timedelta(minutes=5)
                one = FrameFacts(**(BASE | _block(what, band) | {"name": name, "started": at}))
                frames.append(
                    Frame(
                        sha256=name.encode().hex().ljust(64, "0"),
                        name=name,
                        facts=one,
                        quarantine=None,
                        rejected=None,
                        paths=(Path(name),),
                        added_at=at,
                    )
                )
    bad = draw(st.sets(st.integers(0, len(frames) - 1), max_size=len(frames) // 4))
    return Season(
        tuple(f.model_copy(update={"rejected": "a plane"}) if n in bad else f for n, f in enumerate(frames))
    )


def science_of(plan: NightPlan) -> set[tuple[str, ...]]:
    return {(group.label, *group.objects, "/", *group.skies) for group in plan.of("image")}


def calibrations_of(plan: NightPlan) -> set[tuple[str, ...]]:
    flats = [*plan.of("flat"), *(mask.flat for mask in plan.of("bpm"))]
    sets = [*plan.of("dark"), *(mask.short_darks for mask in plan.of("bpm"))]
    sets += [part for flat in flats for part in (flat.on, flat.off, flat.darks) if part is not None]
    return {tuple(frame.name for frame in one.frames) for one in sets}


def pairs_of(plan: NightPlan) -> set[tuple[tuple[str, ...], ...]]:
    """Return flats with the sets that are subtracted from their light."""
    return {
        tuple(tuple(f.name for f in part.frames) for part in flat.light_and_none if part is not None)
        for flat in plan.of("flat")
        if flat.light_and_none[1] is not None
    }


def long_darks_of(plan: NightPlan) -> set[tuple[str, ...]]:
    limit = PARAMETERS.groups.longest_short_dark
    darks = [dark.frames for dark in plan.of("dark") if dark.first.facts.exposure_time > limit]
    return {tuple(frame.name for frame in frames) for frames in darks}


COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@COMMON
@given(seasons(), st.integers(0, 10))
def test_night_by_night_a_range_a_sequence_and_all_files_give_the_same_groups(
    season: Season, days: int
) -> None:
    everything = plan_night(surveyed(season.known), PARAMETERS)
    groups = {group.members for group in calibration_groups(f.facts for f in surveyed(season.known))}
    first, last = season.nights[0], season.nights[-1]
    ranged = plan_night(surveyed(frames_of_nights(season.store, first, last, days)), PARAMETERS)
    assert ranged == everything
    single = [
        plan_night(surveyed(frames_of_nights(season.store, one, one, days)), PARAMETERS)
        for one in season.nights
    ]
    arrivals = []
    sequences = {
        one for frame in season.known if (one := Exposures.of(facts(frame))) and one.kind == "science"
    }
    for sequence in sequences:
        frames = frames_of_sequence(season.store, sequence.name)
        near = calibrations_near(season.store, sequence.night, sequence.night, days)
        arrivals.append(
            plan_night(surveyed([*frames, *near]), PARAMETERS, bands=(sequence.filter,), only=("science",))
        )
    for plans in (single, arrivals):
        assert set().union(*(science_of(plan) for plan in plans)) == science_of(everything)
        for plan in plans:
            assert calibrations_of(plan) <= groups
            assert pairs_of(plan) <= pairs_of(everything)
    assert set().union(*(pairs_of(plan) for plan in single)) == pairs_of(everything)
    # Whether short darks become a master depends on the mask; the others always do.
    assert set().union(*(long_darks_of(plan) for plan in single)) == long_darks_of(everything)


@COMMON
@given(seasons())
def test_no_science_group_spans_two_nights_unless_requested(season: Season) -> None:
    frames = surveyed(season.known)
    for group in plan_night(frames, PARAMETERS).of("image"):
        assert len({frame.facts.night for frame in group.frames.frames}) == 1
    together = plan_night(frames, PARAMETERS, across_nights=True)
    apart = plan_night(frames, PARAMETERS)
    assert len(together.of("image")) <= len(apart.of("image"))
    assert {f.name for g in together.of("image") for f in g.frames.frames} == {
        f.name for g in apart.of("image") for f in g.frames.frames
    }


# A redo


def _product(
    work: FrameSet | BpmSet | FlatSet | ScienceSet, parameters: ReductionParameters
) -> tuple[Product, Any]:
    """Return a product of the store as made from these sets."""
    values: dict[str, Any]
    if isinstance(work, ScienceSet):
        recipe = science_recipe(work, Calibrations(), parameters)
        kind, ingredients, values = "image", recipe.ingredients, recipe.values
    elif isinstance(work, FrameSet):
        kind, ingredients = "dark", [Ingredient("dark", f) for f in work.frames]
        values = {"dark": parameters.dark.model_dump(mode="json")}
    else:
        flat = work if isinstance(work, FlatSet) else work.flat
        light, none = flat.light_and_none
        kind = "flat" if isinstance(work, FlatSet) else "bpm"
        roles = ("lamp_off", "dark") if flat.thermal else ("lamp_on", "lamp_off")
        parts = [(roles[0], light), (roles[1], none)]
        if isinstance(work, BpmSet):
            parts.append(("short_dark", work.short_darks))
        elif flat.thermal:
            parts.pop()  # the dark of a K flat is a product
        ingredients = [Ingredient(role, f) for role, part in parts if part is not None for f in part.frames]
        values = {kind: getattr(parameters, kind).model_dump(mode="json")}
    first = ingredients[0].frame.facts
    product = Product(
        id=uuid4(), kind=kind, name=f"{first.root}_{kind}.fits", sha256="0" * 64, size=1, recipe_key="0" * 64,
        status="candidate", span=(first.started, first.ended), middle=first.middle,
        facts=first.model_dump(mode="json"), metrics={}, parameters=values, algorithm_version="1",
        software_version="1", made_at=first.ended,
    )  # fmt: skip
    return product, tuple(InputRef(i.role, i.frame.sha256) for i in ingredients)


def _members(product: Product, inputs: Sequence[InputRef], known: dict[str, Frame]) -> dict[str, list[str]]:
    """Return the usable frames of a product by role, in order."""
    of: dict[str, list[str]] = {}
    for ref in inputs:
        frame = known[str(ref.source)]
        if frame.rejected is None:
            of.setdefault(ref.role, []).append(frame.name)
    return of


def _of_remake(remake: Remake) -> dict[str, list[str]]:
    _, inputs = _product(remake.work, remake.parameters)
    of: dict[str, list[str]] = {}
    for ref in inputs:
        of.setdefault(ref.role, []).append(bytes.fromhex(str(ref.source).rstrip("0").ljust(2, "0")).decode())
    return of


@COMMON
@given(seasons(), st.data(), st.booleans())
def test_a_redo_has_the_groups_of_what_it_replaces_without_the_rejected(
    season: Season, data: st.DataObject, across_nights: bool
) -> None:
    before = Season(tuple(f.model_copy(update={"rejected": None}) for f in season.known))
    plan = plan_night(surveyed(before.known), PARAMETERS, across_nights=across_nights)
    works = [*plan.of("dark"), *plan.of("bpm"), *plan.of("flat"), *plan.of("image")]
    assume(works)
    other = ReductionParameters.model_validate({"dark": {"high": 4.5}, "stack": {"reject": "none"}})
    parameters = [data.draw(st.sampled_from([PARAMETERS, other])) for _ in works]
    made = [_product(work, one) for work, one in zip(works, parameters, strict=True)]
    known = {frame.sha256: frame for frame in season.known}
    bad = next((f for f in season.known if f.rejected), season.known[0])
    redo = Redo(bad, tuple(p for p, _ in made), {p.id: inputs for p, inputs in made}, known)
    done = plan_remakes(redo, surveyed(season.known), known, PARAMETERS)
    again = {remake.old.id: remake for remake in done.remakes}
    for (product, inputs), work, own in zip(made, works, parameters, strict=True):
        left = _members(product, inputs, known)
        roles = {ref.role for ref in inputs} - {"sky"}
        remake = again.get(product.id)
        if remake is None:
            assert not roles <= left.keys()
            continue
        assert _of_remake(remake) == left
        assert type(remake.work) is type(work)
        assert remake.work.label.split()[0] == work.label.split()[0]
        assert _product(remake.work, remake.parameters)[0].parameters == product.parameters
        if isinstance(work, ScienceSet):
            assert isinstance(remake.work, ScienceSet)
            rejected = {f.name for f in season.known if f.rejected}
            assert remake.work.skies == work.without(rejected).skies
            assert remake.parameters.stack == own.stack


@COMMON
@given(seasons(), st.data())
def test_nothing_is_made_again_from_part_of_its_usable_frames(season: Season, data: st.DataObject) -> None:
    plan = plan_night(surveyed(season.known), PARAMETERS)
    works = [*plan.of("dark"), *plan.of("bpm"), *plan.of("flat"), *plan.of("image")]
    assume(works)
    made = [_product(work, PARAMETERS) for work in works]
    known = {frame.sha256: frame for frame in season.known}
    there = surveyed(season.known)
    gone = {there[n].sha256 for n in data.draw(st.sets(st.integers(0, len(there) - 1)))}
    redo = Redo(season.known[0], tuple(p for p, _ in made), {p.id: inputs for p, inputs in made}, known)
    done = plan_remakes(redo, [f for f in there if f.sha256 not in gone], known, PARAMETERS)
    complete = {p.id for p, inputs in made if not gone & {str(ref.source) for ref in inputs}}
    assert {remake.old.id for remake in done.remakes} == complete
    assert len(done.kept) == len(made) - len(complete)
    for one in done.kept:
        assert "frames are missing" in one.reason
        assert "name their folder" in one.remedy
