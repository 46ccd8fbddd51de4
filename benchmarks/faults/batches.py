"""Mutated frames reduced with the night's other frames, and the search for those that make a product wrong.

A product is right if its figures differ from those of the untouched night by no more than without a few frames, which
is measured: nights that lack as many frames as a batch has mutated ones.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from astropy.io import fits

from benchmarks.faults.examined import Examined
from benchmarks.faults.laboratory import Laboratory
from benchmarks.faults.mutate import SEED
from benchmarks.faults.outcome import Figures, Outcome
from imaging.simulator.truth import NightTruth

#: Mutated frames of one role in a batch; the others are the majority.
OF_A_ROLE: Final[Mapping[str, int]] = {
    "dark": 4, "science": 4, "lamp_on": 3, "lamp_off": 3, "short_dark": 3,
}  # fmt: skip
#: Nights without a few frames whose figures are measured, and how many times their largest difference is allowed.
_NIGHTS: Final = 3
_TIMES: Final = 1.5
#: The least that figures may differ; those of the comparison with the untouched product are 0 there.
_LEAST: Final[Mapping[tuple[str, str], float]] = {
    ("dark", "VAR pull"): 0.02,
    ("dark", "mean offset"): 0.05,
    ("dark", "rms of the change"): 0.1,
    ("dark", "largest change"): 3.0,
    ("dark", "lost pixels"): 50.0,
    ("bpm", "changed pixels"): 50.0,
    ("flat", "VAR pull"): 0.02,
    ("flat", "scale"): 0.001,
    ("flat", "rms of the change"): 0.1,
    ("flat", "largest change"): 3.0,
    ("flat", "lost pixels"): 50.0,
    ("stack", "registration"): 0.01,
    ("stack", "flux scale"): 0.002,
    ("stack", "flux scatter"): 0.1,
    ("stack", "VAR pull"): 0.05,
    ("stack", "outliers beyond 8 sigma"): 10.0,
    ("stack", "rms of the change"): 0.1,
    ("stack", "largest change"): 3.0,
    ("stack", "lost pixels"): 200.0,
}
#: Pixels with more than this many times the usual variance have few frames.
_THIN: Final = 3.0
#: The frames that a product is made of.
_ROLES: Final = {
    "dark": ("dark",),
    "bpm": ("lamp_on", "lamp_off", "short_dark"),
    "flat": ("lamp_on", "lamp_off", "short_dark"),
    "stack": ("science",),
}
#: The kind of each product.
_KINDS: Final = {"dark": "dark", "bpm": "bpm", "flat": "flat", "stack": "image"}


class Batches:
    """Reductions of the night with some frames mutated.

    Parameters
    ----------
    lab
        Its services are used; the night is that of the mutations.
    truth
        The night.
    """

    def __init__(self, lab: Laboratory, truth: NightTruth) -> None:
        self.lab, self.truth = lab, truth
        self.roles = {frame.file: frame.role for frame in truth.frames}
        self.runs = 0

    @cached_property
    def untouched(self) -> Outcome:
        """The reduction without mutations."""
        outcome = self._reduced()
        if outcome.code != 0 or not outcome.figures:
            raise RuntimeError(f"the untouched night cannot be reduced: {outcome.failure}")
        return outcome

    @cached_property
    def tolerance(self) -> Figures:
        """How far each figure may be from that of the untouched night."""
        found = dict(_LEAST)
        for number in range(_NIGHTS):
            rng = np.random.default_rng([SEED, 10**6 + number])
            missing: set[str] = set()
            for role, count in OF_A_ROLE.items():
                names = sorted(name for name, one in self.roles.items() if one == role)
                missing |= {str(name) for name in rng.choice(names, count, replace=False)}
            outcome = self._reduced(without=missing)
            figures = self._figures(outcome)
            for key in found:
                if key in figures:
                    found[key] = max(found[key], _TIMES * abs(figures[key] - self._wanted(key)))
            self._clear(outcome)
        return found

    def planned(self, pending: Sequence[Examined]) -> Iterator[list[Examined]]:
        """Yield batches in which few frames of a role are mutated, each frame at most once."""
        left = list(pending)
        while left:
            batch: list[Examined] = []
            roles: Counter[str] = Counter()
            names: set[str] = set()
            for one in left:
                name = one.mutation.base.name
                role = self.roles[name]
                if roles[role] < OF_A_ROLE[role] and name not in names:
                    batch.append(one)
                    names.add(name)
                    roles[role] += 1
            yield batch
            taken = {one.mutation.number for one in batch}
            left = [one for one in left if one.mutation.number not in taken]

    def judged(self, batch: Sequence[Examined]) -> tuple[dict[int, str], dict[int, str]]:
        """Reduce a batch; return what is wrong and what the report states, by the number of the mutation.

        If a product is wrong, its frames are tried one by one, and the batch again without those responsible.
        """
        found: dict[int, str] = {}
        rest = list(batch)
        while rest:
            outcome = self._reduced(rest)
            product, wrong = self._wrong(outcome)
            if not wrong:
                stated, lost = self._stated(outcome, rest)
                self._clear(outcome)
                return found | lost, stated
            self._clear(outcome)
            suspects = [one for one in rest if self._role(one) in _ROLES.get(product, ())] or rest
            guilty = {one.mutation.number: why for one in suspects if (why := self._alone(one, product))}
            if not guilty:
                guilty = {one.mutation.number: f"only together: {wrong}" for one in suspects}
            found |= guilty
            rest = [one for one in rest if one.mutation.number not in found]
        return found, {}

    def _alone(self, one: Examined, product: str) -> str:
        """Return what a single mutated file does to a product; an empty text if nothing."""
        only = ("--only", product) if product in ("dark", "flat") else ()
        outcome = self._reduced([one], options=only)
        wrong = self._wrong(outcome, [product] if only else tuple(_KINDS))[1]
        self._clear(outcome)
        return wrong

    def _role(self, one: Examined) -> str:
        return self.roles[one.mutation.base.name]

    def _reduced(
        self,
        batch: Sequence[Examined] = (),
        *,
        without: Iterable[str] = (),
        options: Sequence[str] = (),
    ) -> Outcome:
        self.runs += 1
        night = self.lab.new_folder(f"batch{self.runs}") / "night"
        night.mkdir()
        for path in self.truth.raw_paths():
            if path.name not in without:
                os.link(path, night / path.name)
        for one in batch:
            one.mutation.write(night)
        return self.lab.reduce(night, night.parent.name, *options)

    def _clear(self, outcome: Outcome) -> None:
        shutil.rmtree(outcome.night.parent, ignore_errors=True)

    def _wanted(self, key: tuple[str, str]) -> float:
        return self.untouched.figures.get(key, 0.0)

    def _figures(self, outcome: Outcome) -> Figures:
        """Return the figures of products against the truth and against the untouched products."""
        return dict(outcome.figures) | {
            (product, name): value
            for product, kind in _KINDS.items()
            for name, value in changes(outcome, self.untouched, kind).items()
        }

    def _wrong(self, outcome: Outcome, products: Sequence[str] = tuple(_KINDS)) -> tuple[str, str]:
        """Return a product that is wrong and how; empty texts if none is."""
        text = outcome.err + outcome.log + outcome.printed
        if "Traceback (most recent call last)" in text or outcome.code not in (0, 4):
            return "", f"exit code {outcome.code}: {outcome.failure}"
        places = (outcome.out, self.lab.services / "staging")
        halves = [p.name for place in places for p in place.rglob("*") if _half_written(p)]
        if halves:
            return "", f"left behind: {', '.join(halves)}"
        figures = self._figures(outcome)
        for key, tolerance in self.tolerance.items():
            product, name = key
            if product not in products or (key not in figures and key not in self.untouched.figures):
                continue  # a stack on another grid has no comparison pixel by pixel
            want, got = self._wanted(key), figures.get(key)
            if got is None or not abs(got - want) <= tolerance:
                value = "is missing" if got is None else f"{got:.4g}"
                return product, f"{product} {name} {value}, untouched {want:.4g}, tolerance {tolerance:.2g}"
        for path in outcome.out.glob("*.fits"):
            with fits.open(path) as hdus:
                hdus.verify("exception")
        return "", ""

    def _stated(self, outcome: Outcome, batch: Sequence[Examined]) -> tuple[dict[int, str], dict[int, str]]:
        """Return the message about each mutated frame, and those in no product and in no message."""
        used = {name for one in outcome.report.get("products", ()) for name in one["inputs"]}
        stated, lost = {}, {}
        for one in batch:
            name = one.mutation.base.name
            message = outcome.reported(name)
            if message is not None:
                stated[one.mutation.number] = message
            elif name not in used:
                lost[one.mutation.number] = "neither used nor named"
        return stated, lost


def _half_written(path: Path) -> bool:
    return path.is_file() and (path.parent.name == "staging" or path.name.endswith((".tmp", ".part")))


def changes(outcome: Outcome, untouched: Outcome, kind: str) -> dict[str, float]:
    """Return how a product differs from that of the untouched night, pixel by pixel.

    Differences are in units of the product's own noise, pixels per million. Without figures if one is missing or
    is on another grid.
    """
    pair = [
        max(one.products(kind), key=lambda p: len(p["inputs"]), default=None) for one in (outcome, untouched)
    ]
    new, old = pair
    if new is None or old is None or not new["output"] or not old["output"]:
        return {}
    if kind == "image" and new["metrics"].get("reference") != old["metrics"].get("reference"):
        return {}
    with fits.open(new["output"], memmap=False) as hdus, fits.open(old["output"], memmap=False) as before:
        sci, sci_before = np.asarray(hdus["SCI"].data), np.asarray(before["SCI"].data)
        if sci.shape != sci_before.shape:
            return {}
        if kind == "bpm":
            return {"changed pixels": 1e6 * float(np.mean(sci != sci_before))}
        good, good_before = hdus["DQ"].data == 0, before["DQ"].data == 0
        variance, variance_before = (np.asarray(one["VAR"].data) for one in (hdus, before))
        # At the edge of a stack one frame may be the only one: nothing shows there that it is wrong.
        covered = good_before & (variance_before < _THIN * np.median(variance_before[good_before]))
        both = good & covered & (variance > 0)
        z = (sci[both].astype(np.float64) - sci_before[both]) / np.sqrt(variance[both])
    return {
        "rms of the change": float(np.sqrt(np.mean(z**2))),
        "largest change": float(np.abs(z).max()),
        "lost pixels": 1e6 * float(np.mean(covered & ~good)),
    }
