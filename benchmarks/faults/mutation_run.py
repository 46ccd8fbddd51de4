"""Mutated files examined, and reduced in batches: each is refused, noted, harmless, or seen by its effect.

If a batch gives a wrong product, its files are tried one by one.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from astropy.io import fits

from benchmarks.faults.laboratory import Laboratory, announce, laboratory
from benchmarks.faults.mutate import CLASSES, SEED, Mutation, mutation
from benchmarks.faults.outcome import Outcome
from imaging.errors import NirflowError
from imaging.frames.find_files import CheckParameters
from imaging.io.examine import examine
from imaging.io.raw_file import open_raw
from imaging.simulator.parameters import NightParameters
from imaging.simulator.simulate import simulate_night
from imaging.simulator.truth import NightTruth
from nirflow.console.output import print_lines
from nirflow.console.tables import Column, print_json, print_table

#: The night whose frames are mutated: enough of each kind for a batch to change a few.
NIGHT: Final[dict[str, Any]] = {
    "size": 256, "n_science": 16, "n_darks": 16, "n_short_darks": 9, "n_lamp_on": 9, "n_lamp_off": 9,
}  # fmt: skip
#: Mutated frames of one role in a batch; the others are the majority.
_OF_A_ROLE: Final = 3
#: Facts of no consequence for a reduction.
_INFORMATIVE: Final = {"header_written", "data_label", "image_quality", "airmass", "name"}

Fate = Literal["refused", "noted", "harmless", "passed", "crashed"]


@dataclass(frozen=True)
class Examined:
    """A mutated file and what its examination found.

    Attributes
    ----------
    mutation
        The file.
    fate
        ``refused``; ``noted``: used, with a note; ``harmless``: facts and pixels as before; ``passed``: they
        differ, and the reduction has to find out; ``crashed``: an exception.
    message
        Reason, note, difference or exception.
    """

    mutation: Mutation
    fate: Fate
    message: str

    @property
    def silent(self) -> bool:
        """Whether the examination should have found something and did not."""
        return self.fate == "crashed" or (self.fate == "passed" and self.mutation.kind.seen_at_once)


def examine_mutation(one: Mutation, folder: Path) -> Examined:
    """Write a mutated file and examine it as `reduce` does."""
    path = one.write(folder)
    check = CheckParameters(shape=None)
    try:
        seen, before = examine(path, check), examine(one.base, check)
        if not seen.usable:
            fate: Fate = "refused" if seen.reason else "crashed"
            return Examined(one, fate, seen.reason or "refused without a reason")
        more = [note for note in seen.notes if note not in before.notes]
        if more:
            return Examined(one, "noted", "; ".join(more))
        difference = _differences(one.base, path)
        return Examined(one, "passed" if difference else "harmless", difference)
    except NirflowError as error:
        return Examined(one, "refused", str(error))
    except Exception as error:  # noqa: BLE001 - the measure is that there is no other exception
        return Examined(one, "crashed", f"{type(error).__name__}: {error}")
    finally:
        path.unlink(missing_ok=True)


def _differences(base: Path, path: Path) -> str:
    """Return in what a frame differs from the one it was made from; an empty text if in nothing."""
    with open_raw(base, shape=None) as one, open_raw(path, shape=None) as other:
        old, new = one.facts.values, other.facts.values
        facts = [name for name in old if name not in _INFORMATIVE and old[name] != new.get(name)]
        if one.shape != other.shape:
            return f"shape {other.shape}"
        changed = int(np.count_nonzero(one.rows().astype(np.float64) != other.rows().astype(np.float64)))
    texts = [f"{name} = {new.get(name)!r}" for name in facts] + ([f"{changed} pixels"] if changed else [])
    return ", ".join(texts)


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
        return self._reduced(())

    def planned(self, pending: Sequence[Examined]) -> Iterator[list[Examined]]:
        """Yield batches in which few frames of a role are mutated, each frame at most once."""
        left = list(pending)
        while left:
            batch: list[Examined] = []
            roles: Counter[str] = Counter()
            for one in left:
                name = one.mutation.base.name
                if roles[self.roles[name]] < _OF_A_ROLE and all(name != b.mutation.base.name for b in batch):
                    batch.append(one)
                    roles[self.roles[name]] += 1
            yield batch
            taken = {one.mutation.number for one in batch}
            left = [one for one in left if one.mutation.number not in taken]

    def problems(self, batch: Sequence[Examined]) -> dict[int, str]:
        """Reduce a batch; return what is wrong, by the number of the responsible mutation.

        If a product is wrong, its frames are tried one by one, and the batch again without those responsible.
        """
        found: dict[int, str] = {}
        rest = list(batch)
        while rest:
            outcome = self._reduced(rest)
            product, wrong = self._wrong(outcome)
            if not wrong:
                found |= self._lost(outcome, rest)
            self._clear(outcome)
            if not wrong:
                break
            of_product = [one for one in rest if self._role(one) in _ROLES.get(product, ())]
            suspects = of_product or rest
            guilty = {one.mutation.number: why for one in suspects if (why := self._alone(one, product))}
            if not guilty:
                guilty = {one.mutation.number: f"only together: {wrong}" for one in suspects}
            found |= guilty
            rest = [one for one in rest if one.mutation.number not in found]
        return found

    def _alone(self, one: Examined, product: str) -> str:
        """Return what a single mutated file does to a product; an empty text if nothing."""
        only = ("--only", product) if product in ("dark", "flat") else ()
        outcome = self._reduced([one], *only)
        wrong = self._wrong(outcome, *({product} if only else ()))[1]
        self._clear(outcome)
        return wrong

    def _role(self, one: Examined) -> str:
        return self.roles[one.mutation.base.name]

    def _reduced(self, batch: Sequence[Examined], *options: str) -> Outcome:
        self.runs += 1
        night = self.lab.new_folder(f"batch{self.runs}") / "night"
        night.mkdir()
        for path in self.truth.raw_paths():
            os.link(path, night / path.name)
        for one in batch:
            one.mutation.write(night)
        return self.lab.reduce(night, night.parent.name, *options)

    def _clear(self, outcome: Outcome) -> None:
        shutil.rmtree(outcome.night.parent, ignore_errors=True)

    def _wrong(self, outcome: Outcome, *products: str) -> tuple[str, str]:
        """Return a product that is wrong and how, for some or all products; empty texts if none is."""
        text = outcome.err + outcome.log + outcome.printed
        if "Traceback (most recent call last)" in text or outcome.code not in (0, 4):
            return "", f"exit code {outcome.code}: {outcome.failure}"
        halves = [p.name for p in outcome.out.rglob("*") if p.name.endswith((".tmp", ".part"))]
        if halves:
            return "", f"left behind: {', '.join(halves)}"
        for (product, figure), tolerance in _TOLERANCE.items():
            want = self.untouched.figures[product, figure]
            got = outcome.figures.get((product, figure))
            if (not products or product in products) and (got is None or not abs(got - want) <= tolerance):
                value = "missing" if got is None else f"{got:.4g}"
                return product, f"{product} {figure} {value}, untouched {want:.4g}"
        for path in outcome.out.glob("*.fits"):
            with fits.open(path) as hdus:
                hdus.verify("exception")
        return "", ""

    def _lost(self, outcome: Outcome, batch: Sequence[Examined]) -> dict[int, str]:
        """Return the mutated frames that are in no product and in no message."""
        used = {name for one in outcome.report.get("products", ()) for name in one["inputs"]}
        found = {}
        for one in batch:
            name = one.mutation.base.name
            if name not in used and outcome.message(name) is None:
                found[one.mutation.number] = "neither used nor named"
        return found


#: How far a figure may be from that of the untouched night, with a few frames less.
_TOLERANCE: Final = {
    ("dark", "VAR pull"): 0.08,
    ("dark", "mean offset"): 1.0,
    ("flat", "VAR pull"): 0.15,
    ("flat", "scale"): 0.004,
    ("stack", "registration"): 0.06,
    ("stack", "flux scale"): 0.008,
    ("stack", "VAR pull"): 0.12,
}
#: The frames that a product is made of.
_ROLES: Final = {
    "dark": ("dark",),
    "flat": ("lamp_on", "lamp_off", "short_dark"),
    "stack": ("science",),
}


@contextmanager
def mutated_night(
    folder: Path | None = None, size: int = NIGHT["size"]
) -> Iterator[tuple[NightTruth, list[Path]]]:
    """Yield the night whose frames are mutated, and their paths in order."""
    with tempfile.TemporaryDirectory(prefix="mutations-", dir=folder) as name:
        truth = simulate_night(Path(name) / "night", NightParameters(**NIGHT | {"size": size}))
        yield truth, sorted(truth.raw_paths())


def main(options: argparse.Namespace) -> int:
    """Examine and reduce mutated files; return 1 if one of them did harm silently."""
    logging.getLogger("astropy").setLevel(logging.ERROR)  # it logs every odd card
    numbers = range(options.mutations) if options.mutation is None else [options.mutation]
    announce(f"seed {SEED}, {len(CLASSES)} classes, {len(numbers)} mutated files")
    with mutated_night(options.folder) as (truth, bases):
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            examined = []
            for number in numbers:
                one = mutation(number, bases)
                examined.append(examine_mutation(one, Path(name)))
                if options.mutation is not None:
                    kept = one.write(Path.cwd())
                    announce(
                        f"{kept}: {one.kind.name}, {one.done}; {examined[-1].fate}: {examined[-1].message}"
                    )
        found = {one.mutation.number: one.message for one in examined if one.silent}
        pending = [one for one in examined if one.fate in ("noted", "harmless", "passed") and not one.silent]
        runs = 0
        if not options.no_reduction and pending:
            with laboratory(options.folder, int(NIGHT["size"]), keep=options.keep) as lab:
                batches = Batches(lab, truth)
                lab.__dict__["truth"] = truth  # products are compared with this night
                plan = list(batches.planned(pending))
                for count, batch in enumerate(plan):
                    announce(f"batch {count + 1} of {len(plan)}: {len(batch)} files")
                    found |= batches.problems(batch)
                runs = batches.runs
    _report(examined, found, runs, as_json=options.json)
    return int(bool(found))


def _report(examined: Sequence[Examined], found: dict[int, str], runs: int, *, as_json: bool) -> None:
    fates: dict[str, Counter[str]] = defaultdict(Counter)
    for one in examined:
        fates[one.mutation.kind.name][one.fate] += 1
        fates[one.mutation.kind.name]["silent"] += one.mutation.number in found
    silent = [
        {"number": one.mutation.number, "class": one.mutation.kind.name, "file": one.mutation.name,
         "done": one.mutation.done, "fate": one.fate, "problem": found[one.mutation.number]}
        for one in examined if one.mutation.number in found
    ]  # fmt: skip
    if as_json:
        print_json(
            {"seed": SEED, "files": len(examined), "reductions": runs, "classes": fates, "silent": silent}
        )
        return
    headings = ("refused", "noted", "harmless", "passed", "crashed", "silent")
    columns = [Column("class", style="bold"), *(Column(name, "right") for name in headings)]
    print_table(columns, [[name, *(counts[h] for h in headings)] for name, counts in fates.items()])
    if silent:
        columns = [
            Column("number", "right"),
            Column("class"),
            Column("file"),
            Column("done", fold=True),
            Column("problem", fold=True),
        ]
        print_lines()
        print_table(columns, [[s["number"], s["class"], s["file"], s["done"], s["problem"]] for s in silent])
    print_lines("", f"{len(examined)} files, seed {SEED}, {runs} reductions: {len(silent)} did harm silently. "
                    "Make one again: python -m benchmarks.faults --mutation NUMBER")  # fmt: skip
