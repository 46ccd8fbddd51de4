"""Random histories of small real nights: no valid product and no choice is replaced by a worse one.

After each action the store's own records are verified; at the end all decisions are reverted and everything
is run again, night by night, and compared with a store that received the final state at once.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from decisions import Decisions
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from night_lab import Lab, Run, link
from nothing_worse import Act, Watch
from observatory import NIGHT, Observatory, observing

from calib_store.curation.certify import identity
from calib_store.curation.verify import verify
from calib_store.model.records import Frame, Product
from deployments.deployed.arrival import arrival
from deployments.deployed.nightly import nightly
from deployments.deployed.reprocess import reprocess
from deployments.deployed.requests import NightlyRequest, ReprocessRequest, SequenceRequest
from imaging.errors import NirflowError
from imaging.frames.nights import span_anywhere
from imaging.frames.sequences import Sequence as Exposures
from imaging.simulator.parameters import NightParameters
from imaging.simulator.simulate import simulate_night
from imaging.simulator.truth import NightTruth

pytestmark = pytest.mark.long

SIZE, SEED = 256, 7
NIGHTS = (NIGHT, NIGHT + timedelta(days=1))
ROLES = ("dark", "short_dark", "lamp_on", "lamp_off", "science")
CALIBRATIONS = ROLES[:-1]


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> list[NightTruth]:
    """Two nights of one field and one detector; the second has darks only."""
    common: dict[str, Any] = {
        "size": SIZE,
        "detector_seed": SEED,
        "field_seed": SEED,
        "n_science": 3,
        "n_darks": 3,
    }
    some = {"n_short_darks": 3, "n_lamp_on": 3, "n_lamp_off": 3}
    none = dict.fromkeys(some, 0)
    return [
        simulate_night(
            tmp_path_factory.mktemp(f"night{day}"),
            NightParameters.model_validate(common | {"seed": SEED + day, "days": day} | others),
        )
        for day, others in enumerate((some, none))
    ]


class History(Decisions):
    """An observatory where files of some nights arrive in parts, and the actions on it."""

    def __init__(self, observatory: Observatory, nights: list[NightTruth]) -> None:
        self.observatory, self.nights = observatory, nights
        self.store = observatory.store
        observatory.raw.mkdir(exist_ok=True)
        self.come(0, CALIBRATIONS, 0)
        self.come(0, ("science",), 0)
        probes = [f.facts for f in self.store.frames.of_nights(NIGHT, NIGHT, kinds=("object",)) if f.facts][
            1:2
        ]
        between = span_anywhere(NIGHT - timedelta(days=30), NIGHT + timedelta(days=30))
        self.watch = Watch(self.store, probes, between)
        self.watch.last = self.watch.look()

    def frames(self) -> list[Frame]:
        """Return the frames that have arrived."""
        known = self.store.frames.of_nights(NIGHT - timedelta(days=9), NIGHTS[-1] + timedelta(days=9))
        return sorted(known, key=lambda frame: frame.name)

    # Actions

    def come(self, night: int, roles: tuple[str, ...], part: int) -> Act:
        """Let files of a night arrive: every one, or every other one."""
        truth = self.nights[night]
        files = [truth.folder.parent / frame.file for frame in truth.frames if frame.role in roles][
            :: part + 1
        ]
        new = [file for file in files if not (self.observatory.raw / file.name).exists()]
        link(new, self.observatory.raw)
        self.observatory.note()
        return Act(f"{len(new)} files of {roles} of night {night} come")

    def nightly(self, first: int, last: int) -> Act:
        """Reduce a night, or a range of them."""
        first, last = min(first, last), max(first, last)
        self._run(nightly, NightlyRequest(first=NIGHTS[first], last=NIGHTS[last]))
        return Act(f"nightly of {first} to {last}")

    def arrival(self, night: int) -> Act | None:
        """Reduce the sequence of a night's science."""
        frames = self.store.frames.of_nights(NIGHTS[night], NIGHTS[night], kinds=("object",))
        sequences = {
            one.name for f in frames if f.facts is not None and (one := Exposures.of(f.facts)) is not None
        }
        for name in sorted(sequences):
            self._run(arrival, SequenceRequest(sequence=name))
        return Act(f"arrival of {sorted(sequences)}") if sequences else None

    def part(self, start: int) -> Act:
        """Reduce some of the files."""
        files = sorted(self.observatory.raw.iterdir())[start::2]
        self._reduce(files)
        return Act(f"reduce {[file.name for file in files]}")

    def experiment(self, high: float) -> Act:
        """Make the darks with other parameters."""
        self._reduce([self.observatory.raw], only=("dark",), steps={"dark": {"high": high}})
        return Act(f"an experiment with dark.high={high}")

    def redo(self, number: int) -> Act | None:
        """Make again the products of a bad input."""
        bad = self.bad()
        if not bad:
            return None
        cause = identity(bad[number % len(bad)])
        self._run(reprocess, ReprocessRequest(affected_by=cause))
        return Act(f"reprocess {bad[number % len(bad)].name}", redone=cause)

    def do(self, action: tuple[Any, ...]) -> None:
        """Perform one action, then verify everything."""
        super().do(action)
        self.watch.explained()
        assert verify(self.store).findings == ()

    def _run(self, flow: Any, request: Any) -> None:
        with contextlib.suppress(
            NirflowError
        ):  # nothing to do, or incomplete: its products are valid nevertheless
            self.observatory.run(flow, request)

    def _reduce(self, paths: list[Path], **options: Any) -> Run:
        return self.observatory.lab.reduce(*paths, out="by hand", **options)

    # The end

    def all_back(self, seed: int) -> None:
        """Revert the users' decisions, let all files arrive, and run every night, in any order, and all
        together.
        """
        self.all_reinstated()
        for night in range(len(self.nights)):
            self.come(night, ROLES, 0)
        runs = [(0, 0), (1, 1), (0, 1)]
        random.Random(seed).shuffle(runs)
        for run in runs:
            self.nightly(*run)
        self.watch.last = self.watch.look()

    def counting(self) -> dict[Any, Product]:
        """Return the valid products, identified by their inputs and how they were made."""
        return {one.id: one for one in self.watch.last.products.values() if one.counts}


NUMBER = st.integers(0, 30)
COMING = st.tuples(
    st.just("come"), st.integers(0, 1), st.sampled_from([("dark",), CALIBRATIONS, ("science",), ROLES]),
    st.integers(0, 1),
)  # fmt: skip
RUN = st.one_of(
    st.tuples(st.just("nightly"), st.integers(0, 1), st.integers(0, 1)),
    st.tuples(st.just("arrival"), st.integers(0, 1)),
    st.tuples(st.just("part"), st.integers(0, 1)),
    st.tuples(st.just("experiment"), st.just(1.5)),
)
DECISION = st.tuples(
    st.sampled_from(["reject_frame", "reinstate_frame", "reject_product", "reinstate_product", "certify_product"]),
    NUMBER,
)  # fmt: skip
REDO = st.tuples(st.just("redo"), NUMBER)
#: In each cycle something arrives, is run, is decided, and is made again or run.
ROUND = st.tuples(COMING, RUN, DECISION, st.one_of(REDO, RUN))
_LABS = itertools.count()


@settings(
    derandomize=True, database=None, deadline=None, max_examples=2, phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(st.lists(ROUND, min_size=2, max_size=3), NUMBER)
def test_nothing_gets_worse(
    new_lab: Callable[..., Lab], nights: list[NightTruth], rounds: list[Any], seed: int
) -> None:
    with observing(new_lab(SIZE), nights[0]) as one:
        history = History(one, nights)
        for action in itertools.chain(*rounds):
            history.do(action)
        history.all_back(seed)
        history.watch.explained()
        history.watch.settled()
        assert verify(one.store).findings == ()
    with observing(new_lab(SIZE), nights[0]) as other:
        fresh = History(other, nights)
        fresh.all_back(seed)
    assert not set(fresh.counting()) - set(history.counting())
    for key, expected in fresh.watch.last.choices.items():
        found = history.watch.last.choices[key]
        decided = found is not None and len(history.store.history(history.watch.last.products[found])) > 1
        assert found == expected or decided, f"{key}: {found} for {expected}"
