"""Batches of mutated frames: which frames share a reduction, what counts as harm, and who is responsible."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from benchmarks.faults.batches import OF_A_ROLE, Batches, changes
from benchmarks.faults.examined import Examined
from benchmarks.faults.mutate import CLASSES, Mutation
from benchmarks.faults.outcome import Figures, Outcome

NIGHT = {f"S20131121S{n:04d}.fits": "dark" if n < 8 else "science" for n in range(16)}
RIGHT: Figures = {("dark", "VAR pull"): 1.0, ("stack", "VAR pull"): 1.0}


def passed(number: int, name: str) -> Examined:
    return Examined(Mutation(number, CLASSES[0], Path(name), b"", "nothing"), "passed", "")


class Reductions(Batches):
    """Reductions without pixels: some mutations make the dark or the stack wrong, some stop the run."""

    def __init__(
        self, folder: Path, harm: dict[int, str], named: Sequence[str] = (), lost: Sequence[str] = ()
    ):
        frames = [SimpleNamespace(file=name, role=role) for name, role in NIGHT.items()]
        lab: Any = SimpleNamespace(services=folder)
        super().__init__(lab, SimpleNamespace(frames=frames))  # type: ignore[arg-type]
        self.folder, self.harm, self.names, self.lost = folder, harm, named, lost
        self.__dict__["tolerance"] = dict.fromkeys(RIGHT, 0.1)
        self.__dict__["untouched"] = self._reduced()

    def _reduced(
        self, batch: Sequence[Examined] = (), *, without: Iterable[str] = (), options: Sequence[str] = ()
    ) -> Outcome:
        self.runs += 1
        figures, log = dict(RIGHT), ""
        for one in batch:
            what = self.harm.get(one.mutation.number)
            if what == "crash":
                log = "Traceback (most recent call last):"
            elif what is not None:
                figures[what, "VAR pull"] += 0.5
        used = [name for name in NIGHT if name not in (*self.names, *self.lost)]
        report = {
            "products": [{"kind": "dark", "name": "a", "inputs": used, "output": None, "metrics": {}}],
            "left_out": [{"name": name, "reason": "unlike the others"} for name in self.names],
        }
        out = self.folder / "night" / "out"
        out.mkdir(parents=True, exist_ok=True)
        return Outcome("x", out.parent / "night", out, 0, report, "", "", log, figures, self.lab, {})


def test_each_frame_is_in_one_batch_and_few_of_a_role(tmp_path: Path) -> None:
    batches = Reductions(tmp_path, {})
    names = list(NIGHT)
    pending = [passed(number, names[number * 3 % 16]) for number in range(50)]
    plan = list(batches.planned(pending))
    assert sorted(one.mutation.number for batch in plan for one in batch) == list(range(50))
    for batch in plan:
        used = [one.mutation.base.name for one in batch]
        assert len(set(used)) == len(used)
        assert all(count <= OF_A_ROLE[role] for role, count in Counter(NIGHT[n] for n in used).items())
    assert len(plan) < 12


@pytest.mark.parametrize(
    ("harm", "product"), [({3: "dark"}, "dark"), ({9: "stack"}, "stack"), ({2: "crash"}, "")]
)
def test_the_responsible_frame_is_found(tmp_path: Path, harm: dict[int, str], product: str) -> None:
    names = list(NIGHT)
    wrong, _ = Reductions(tmp_path, harm).judged([passed(n, names[n]) for n in (1, 2, 3, 8, 9)])
    assert list(wrong) == list(harm)
    assert (product or "exit code") in next(iter(wrong.values()))


def test_all_responsible_frames_are_found(tmp_path: Path) -> None:
    names = list(NIGHT)
    wrong, _ = Reductions(tmp_path, {1: "dark", 2: "dark", 9: "stack"}).judged(
        [passed(n, names[n]) for n in (1, 2, 3, 8, 9)]
    )
    assert sorted(wrong) == [1, 2, 9]


def test_a_frame_in_no_product_and_no_message_is_lost(tmp_path: Path) -> None:
    names = list(NIGHT)
    wrong, stated = Reductions(tmp_path, {}, named=names[:1], lost=names[1:2]).judged(
        [passed(n, names[n]) for n in (0, 1, 2)]
    )
    assert wrong == {1: "neither used nor named"}
    assert list(stated) == [0]
    assert "unlike the others" in stated[0]


def test_a_file_left_behind_is_harm(tmp_path: Path) -> None:
    batches = Reductions(tmp_path, {})
    (tmp_path / "night" / "out").mkdir(parents=True, exist_ok=True)
    (tmp_path / "staging").mkdir()
    (tmp_path / "staging" / "half").write_bytes(b"")
    wrong, _ = batches.judged([passed(0, next(iter(NIGHT)))])
    assert "left behind: half" in wrong[0]


def test_changes_are_measured_in_the_noise_of_the_product(tmp_path: Path) -> None:
    sci, var, dq = (
        np.zeros((100, 100), np.float32),
        np.full((100, 100), 4, np.float32),
        np.zeros((100, 100), int),
    )

    def outcome(name: str, sci: Any, dq: Any) -> Any:
        path = tmp_path / name
        planes = [fits.ImageHDU(data, name=plane) for plane, data in (("SCI", sci), ("VAR", var), ("DQ", dq))]
        fits.HDUList([fits.PrimaryHDU(), *planes]).writeto(path)
        one = {"output": str(path), "inputs": ["a"], "metrics": {"reference": "a"}}
        return SimpleNamespace(products=lambda kind: [one])

    before = outcome("before.fits", sci, dq)
    assert set(changes(outcome("same.fits", sci, dq), before, "dark").values()) == {0.0}
    changed, flagged = sci.copy(), dq.copy()
    changed[3, 4], flagged[5, :10] = 20.0, 16
    found = changes(outcome("after.fits", changed, flagged), before, "dark")
    assert found["largest change"] == 10.0
    assert found["rms of the change"] == pytest.approx(10 / np.sqrt(9990))
    assert found["lost pixels"] == pytest.approx(1000.0)
