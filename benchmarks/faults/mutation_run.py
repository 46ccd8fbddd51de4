"""Mutated files examined, and reduced in batches: each is refused, noted, harmless, or seen by its effect."""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.faults.batches import Batches
from benchmarks.faults.examined import Examined, examine_mutation
from benchmarks.faults.laboratory import announce, laboratory
from benchmarks.faults.mutate import CLASSES, SEED, mutation
from imaging.simulator.parameters import NightParameters
from imaging.simulator.simulate import simulate_night
from imaging.simulator.truth import NightTruth
from nirflow.console.output import print_lines
from nirflow.console.tables import Column, print_json, print_table

#: The night whose frames are mutated: enough of each kind for a batch to change a few, and large enough for the
#: figures of its products to differ little from one set of frames to another.
NIGHT: Final[dict[str, Any]] = {
    "size": 512, "n_science": 16, "n_darks": 16, "n_short_darks": 9, "n_lamp_on": 9, "n_lamp_off": 9,
}  # fmt: skip


@contextmanager
def mutated_night(
    folder: Path | None = None, size: int = NIGHT["size"]
) -> Iterator[tuple[NightTruth, list[Path]]]:
    """Yield the night whose frames are mutated, and their paths in order."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mutations-", dir=folder) as name:
        truth = simulate_night(Path(name) / "night", NightParameters(**NIGHT | {"size": size}))
        yield truth, sorted(truth.raw_paths())


def main(options: argparse.Namespace) -> int:
    """Examine and reduce mutated files; return 1 if one of them did harm silently."""
    logging.getLogger("astropy").setLevel(logging.ERROR)  # it logs every odd card
    numbers = options.mutation or range(options.mutations)
    announce(f"seed {SEED}, {len(CLASSES)} classes, {len(numbers)} mutated files")
    with mutated_night(options.folder) as (truth, bases):
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            examined = []
            for number in numbers:
                one = mutation(number, bases)
                examined.append(examine_mutation(one, Path(name)))
                if options.mutation:
                    kept = one.write(Path.cwd())
                    announce(
                        f"{kept}: {one.kind.name}, {one.done}; {examined[-1].fate}: {examined[-1].message}"
                    )
        found = {one.mutation.number: one.message for one in examined if one.silent}
        stated: dict[int, str] = {}
        pending = [one for one in examined if one.fate in ("noted", "harmless", "passed") and not one.silent]
        runs = 0
        if not options.no_reduction and pending:
            with laboratory(options.folder, int(NIGHT["size"]), keep=options.keep) as lab:
                batches = Batches(lab, truth)
                lab.__dict__["truth"] = truth  # products are compared with this night
                plan = list(batches.planned(pending))
                for (product, figure), tolerance in batches.tolerance.items():
                    announce(f"tolerance of {product} {figure}: {tolerance:.3g}")
                for count, batch in enumerate(plan):
                    wrong, more = batches.judged(batch)
                    found, stated = found | wrong, stated | more
                    announce(f"batch {count + 1} of {len(plan)}: {len(batch)} files, {len(wrong)} did harm")
                    for number, why in wrong.items():
                        announce(f"  {number}: {why}")
                runs = batches.runs
                examined = [_after_reduction(one, found, stated) for one in examined]
    _report(examined, found, runs, as_json=options.json)
    return int(bool(found))


def _after_reduction(one: Examined, found: Mapping[int, str], stated: Mapping[int, str]) -> Examined:
    """Return a file that passed its examination with what the reduction found."""
    number = one.mutation.number
    if one.fate != "passed" or number in found:
        return one
    if number in stated:
        return replace(one, fate="named", message=stated[number])
    return replace(one, fate="within noise")


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
    headings = ("refused", "noted", "harmless", "named", "within noise", "passed", "crashed", "silent")
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
