"""Random histories of a store: nothing that counts, and no choice, is ever replaced by something worse.

Facts only, no pixels: the plans, the recipes, the choice and the successions are real (`fake_reductions`). Every
history has years of its own, so that many share one store.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from decisions import WHO, Decisions
from fake_reductions import FakeReductions, raw_record
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from nothing_worse import Act, Watch

from calib_store.curation.certify import identity
from calib_store.model.records import Frame, Product
from calib_store.rules.order import noise_of
from calib_store.store import Store
from calib_store.tables import products
from deployments.arrivals.selection import frames_of_nights
from imaging.frames.facts import FrameFacts
from imaging.instruments import catalogue
from tasks.support.parameters import ReductionParameters

#: Days of the nights of a history; darks and flats of the first two are one group.
NIGHTS = (0, 1, 9)
#: Longer than the window of any rule.
APART = timedelta(days=250)
FIRST = datetime(1990, 1, 1, 2, tzinfo=UTC)
EXPERIMENT = ReductionParameters.model_validate({"dark": {"high": 1.5}, "flat": {"high": 1.5}})

BASE: dict[str, Any] = {
    "instrument": "F2", "observation_class": "science", "target": "W", "coadds": 1, "read_pairs": 8,
    "lyot": "f/16_G5830", "focal_mask": "Open", "disperser": "Open", "detector": "109", "program": "P",
    "filter": "Y", "filter_id": "Y_G0811",
}  # fmt: skip
#: Number of frames of each type in a night.
SORTS: dict[str, tuple[int, dict[str, Any]]] = {
    "dark": (4, {"kind": "dark", "exposure_time": 120.0}),
    "short": (3, {"kind": "dark", "exposure_time": 2.0, "read_pairs": 1}),
    "on": (3, {"kind": "flat", "lamp": "on", "exposure_time": 8.0, "read_pairs": 1}),
    "off": (3, {"kind": "flat", "lamp": "off", "exposure_time": 8.0, "read_pairs": 1}),
    "field": (3, {"kind": "object", "exposure_time": 120.0, "ra": 63.49, "dec": -47.84, "observation_id": "P-1"}),
}  # fmt: skip
_SERIES = itertools.count()


class History(Decisions):
    """Nights that arrive in parts, a store, and the actions on it."""

    def __init__(self, store: Store, file: Path, noisy: Sequence[int], leaky: Sequence[int]) -> None:
        self.store, number = store, next(_SERIES)
        self.series, self.begins = f"series{number}", FIRST + APART * number
        records = [raw_record(facts, self.series) for facts in self._facts()]
        self.records = {record.sha256: record for record in records}
        noise = {records[n % len(records)].sha256: 4.0 for n in noisy}
        self.fakes = FakeReductions(store, file, noise, {records[n % len(records)].sha256 for n in leaky})
        self.arrived: list[str] = []
        end = self.begins + timedelta(days=NIGHTS[-1])
        probes = [r.facts for r in records if r.facts and r.facts.kind == "object"][1::3]
        self.watch = Watch(store, probes, (self.begins - timedelta(days=1), end + timedelta(days=2)))
        self.watch.last = self.watch.look()

    def _facts(self) -> list[FrameFacts]:
        found = []
        for night, day in enumerate(NIGHTS):
            moment = self.begins + timedelta(days=day)
            for sort, (count, facts) in SORTS.items():
                for n in range(count):
                    moment += timedelta(minutes=3)
                    name = f"{sort}{night}{n}.fits"
                    found.append(FrameFacts(**(BASE | facts | {"name": name, "started": moment})))
        return found

    # What is known

    def frames(self, nights: Sequence[int] = tuple(range(len(NIGHTS)))) -> list[Frame]:
        """Return the frames of some nights that have arrived."""
        site = catalogue.site_of(BASE["instrument"])
        days = {site.night_of(self.begins + timedelta(days=NIGHTS[n])) for n in nights}
        known = self.store.frames.with_sha256s(self.arrived).values()
        found = [f for f in known if f.facts is not None and f.facts.night in days]
        return sorted(found, key=lambda f: f.name)

    # Actions; each returns its description, or None if there was nothing to do

    def arrive(self, night: int, sorts: Sequence[str], part: int) -> Act:
        """Let some frames of a night arrive."""
        prefixes = tuple(f"{sort}{night}" for sort in sorts)
        mine = [r for r in self.records.values() if r.facts and r.facts.name.startswith(prefixes)]
        new = [r for r in mine if r.facts and int(r.facts.name[-6]) % (part + 1) == 0]
        new = [r for r in new if r.sha256 not in self.arrived]
        self.store.frames.ingest(new)
        self.arrived += [r.sha256 for r in new]
        return Act(f"{len(new)} frames of {sorts} of night {night} come")

    def nightly(self, nights: Sequence[int], days: int) -> Act:
        """Reduce a range of nights, with the calibrations around them."""
        site = catalogue.site_of(BASE["instrument"])
        first, last = (
            site.night_of(self.begins + timedelta(days=NIGHTS[n])) for n in (min(nights), max(nights))
        )
        self.fakes.run(frames_of_nights(self.store, first, last, days))
        return Act(f"nightly {min(nights)} to {max(nights)}")

    def part(self, numbers: Sequence[int]) -> Act | None:
        """Reduce only some files."""
        known = self.frames()
        taken = {known[n % len(known)].sha256: known[n % len(known)] for n in numbers} if known else {}
        self.fakes.run(taken.values())
        return Act(f"reduce {sorted(f.name for f in taken.values())}") if taken else None

    def experiment(self, nights: Sequence[int]) -> Act:
        """Reduce with other parameters."""
        self.fakes.run(self.frames(nights), EXPERIMENT)
        return Act(f"an experiment with {nights}")

    def without_mask(self, nights: Sequence[int]) -> Act:
        """Reduce without the mask."""
        self.fakes.run(self.frames(nights), missing=frozenset({"bpm"}), only=("flat",))
        return Act(f"without a mask {nights}")

    def as_of(self, nights: Sequence[int]) -> Act:
        """Reduce as of a moment ago."""
        self.fakes.run(self.frames(nights), as_of=datetime.now(UTC))
        return Act(f"as of this moment {nights}")

    def damage(self, number: int) -> Act | None:
        """Lose the file of a product."""
        found = [p for p in self.products("candidate", "certified") if not p.damaged]
        if not found:
            return None
        one = found[number % len(found)]
        self.store.database.run(lambda connection: products.mark_damaged(connection, one))
        return Act(f"damage {one.name_and_id}")

    def redo(self, number: int) -> Act | None:
        """Make products with bad inputs again."""
        bad = self.bad()
        if not bad:
            return None
        cause = bad[number % len(bad)]
        redone = self.fakes.redo(identity(cause))
        return None if redone is None else Act(f"made again without {cause.name}", redone=identity(cause))

    # The end

    def all_back(self, seed: int) -> None:
        """Reinstate everything, let all frames arrive, and run everything again, in any order."""
        self.all_reinstated()
        for night in range(len(NIGHTS)):
            self.arrive(night, tuple(SORTS), 0)
        runs = [lambda n=n: self.nightly([n], 10) for n in range(len(NIGHTS))]
        runs.append(lambda: self.nightly([0, len(NIGHTS) - 1], 10))
        random.Random(seed).shuffle(runs)
        for run in runs:
            run()
        self.watch.last = self.watch.look()

    def made(self, one: Product | UUID) -> tuple[Any, ...]:
        """Return the description of a product without its id: kind, frames, parameters, and the same of its inputs."""
        product = self.store.get(one) if isinstance(one, UUID) else one
        names = {known.facts.name for sha256 in (s for _, s in self.watch.frames_of(product))
                 if (known := self.records[sha256]).facts}  # fmt: skip
        with_ = [r.source for r in self.store.inputs_of(product) if isinstance(r.source, UUID)]
        return product.kind, tuple(sorted(names)), str(product.parameters), tuple(self.made(p) for p in with_)

    def counting(self) -> set[tuple[Any, ...]]:
        """Return the products that count."""
        return {self.made(p) for p in self.watch.last.products.values() if p.counts}


def converge(history: History, seed: int, fresh: History) -> None:
    """Verify that a history ends in the same state as a store that saw the final state at once."""
    history.all_back(seed)
    fresh.all_back(seed)
    lacking = fresh.counting() - history.counting()
    assert not lacking, f"not in the one with a history: {[(one[0], one[1]) for one in lacking]}"
    for (name, kind), one in fresh.watch.last.choices.items():
        was = history.watch.last.choices[name, kind]
        expected = fresh.watch.last.products[one] if one else None
        found = history.watch.last.products[was] if was else None
        if expected is None or found is None or history.made(found) == fresh.made(expected):
            assert (expected is None) <= (found is None) or expected is None, (
                f"{kind} of {name}: none, for {expected}"
            )
            continue
        what = f"{kind} of {name}: {history.made(found)[1]} ({found.metrics}, {found.state}) "
        what += f"for {fresh.made(expected)[1]} ({expected.metrics})"
        if any(change.author == WHO["author"] for change in history.store.history(found)):
            continue  # decisions of users are kept
        probe = next(p for p in history.watch.probes if p.name == name)
        middle = expected.middle + (history.begins - fresh.begins)
        nearer = abs(found.middle - probe.middle) < abs(middle - probe.middle)
        quieter = (noise_of(found.metrics) or 0.0) < (noise_of(expected.metrics) or 0.0)
        assert nearer or quieter, what
        frames = history.watch.frames_of(found)
        for other in history.products("candidate", "certified"):
            if other.variant == found.variant and frames < history.watch.frames_of(other):
                assert (noise_of(other.metrics) or 0.0) > (noise_of(found.metrics) or 0.0), what


NUMBER = st.integers(0, 40)
NIGHT = st.integers(0, 2)
SOME = st.lists(NIGHT, min_size=1, max_size=3, unique=True).map(sorted)
SORT = st.sampled_from([("dark",), ("dark", "short", "on", "off"), ("field",), tuple(SORTS)])
RUNS = [
    st.tuples(st.just("nightly"), SOME, st.sampled_from([0, 3, 10])),
    st.tuples(st.just("part"), st.lists(NUMBER, min_size=3, max_size=30, unique=True)),
]
DECISIONS = ["reject_frame", "reinstate_frame", "reject_product", "reinstate_product", "redo"]
RARE = ["certify_product", "supersede_product", "damage"]
ODD = ["experiment", "without_mask", "as_of"]
ACTION = st.one_of(
    st.tuples(st.just("arrive"), NIGHT, SORT, st.integers(0, 1)),
    *RUNS, *RUNS,
    st.tuples(st.sampled_from(DECISIONS), NUMBER), st.tuples(st.sampled_from(DECISIONS), NUMBER),
    st.tuples(st.sampled_from(RARE), NUMBER), st.tuples(st.sampled_from(ODD), SOME),
)  # fmt: skip
FEW = st.lists(NUMBER, max_size=3)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of every product."""
    path = tmp_path / "product.fits"
    path.write_bytes(b"pixels" * 100)
    return path


PROFILE = settings(
    derandomize=True, database=None, deadline=None, phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


ACTIONS = st.lists(ACTION, min_size=10, max_size=20)


def _nothing_gets_worse(store: Store, file: Path, actions: Any, noisy: Any, leaky: Any) -> None:
    history = History(store, file, noisy, leaky)
    history.arrive(0, tuple(SORTS), 0)
    for action in actions:
        history.do(action)
    history.watch.explained()
    history.watch.settled()


@settings(PROFILE, max_examples=8)
@given(ACTIONS, FEW, FEW)
def test_nothing_gets_worse(store: Store, file: Path, actions: Any, noisy: Any, leaky: Any) -> None:
    _nothing_gets_worse(store, file, actions, noisy, leaky)


@pytest.mark.long
@settings(PROFILE, max_examples=60)
@given(ACTIONS, FEW, FEW)
def test_nothing_gets_worse_in_many_histories(
    store: Store, file: Path, actions: Any, noisy: Any, leaky: Any
) -> None:
    _nothing_gets_worse(store, file, actions, noisy, leaky)


def _ends_alike(store: Store, file: Path, actions: Any, noisy: Any, leaky: Any, seed: int) -> None:
    history, fresh = History(store, file, noisy, leaky), History(store, file, noisy, leaky)
    for action in actions:
        history.do(action)
    converge(history, seed, fresh)


@settings(PROFILE, max_examples=2)
@given(ACTIONS, FEW, FEW, NUMBER)
def test_a_history_ends_like_a_store_that_saw_the_final_state_at_once(
    store: Store, file: Path, actions: Any, noisy: Any, leaky: Any, seed: int
) -> None:
    _ends_alike(store, file, actions, noisy, leaky, seed)


@pytest.mark.long
@settings(PROFILE, max_examples=12)
@given(ACTIONS, FEW, FEW, NUMBER)
def test_many_histories_end_like_a_store_that_saw_the_final_state_at_once(
    store: Store, file: Path, actions: Any, noisy: Any, leaky: Any, seed: int
) -> None:
    _ends_alike(store, file, actions, noisy, leaky, seed)
