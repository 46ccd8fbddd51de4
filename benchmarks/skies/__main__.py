"""``python -m benchmarks.skies``: nights with a real sky, judged by what each night's own truth allows.

A night holds if every figure is within its limit for all seeds; the table shows the worst of the seeds. The exit
code is 1 if a night does not hold.
"""

from __future__ import annotations

import math
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.faults.laboratory import laboratory
from benchmarks.skies.judge import Judged, judge
from benchmarks.skies.nights import NIGHTS, SkyNight
from benchmarks.skies.observe import Observatory
from deployments.printable_output import ArgumentParser
from nirflow.console.tables import Column, print_json, print_table

_FULL: Final = 2048
#: Columns of the table: heading, figure, format, and whether the largest, the smallest or the farthest from 0 is worst.
COLUMNS: Final = (
    ("stars", "stars", ".0f", "least"),
    ("scatter %", "flux scatter", ".2f", "most"),
    ("/floor", "scatter / floor", ".2f", "most"),
    ("bias %", "flux bias", ".2f", "farthest"),
    ("pull", "pull", ".2f", "most"),
    ("faint/VAR", "faint / VAR", ".2f", "most"),
    ("blank/VAR", "blank / VAR", ".2f", "most"),
    ("blocks e-", "blocks", ".2f", "most"),
    ("/floor", "blocks / floor", ".2f", "most"),
    ("background e-", "background", ".2f", "farthest"),
    ("ppm", "outliers beyond 8 sigma", ".0f", "most"),
)
LIMITS: Final = (
    "Limits: scatter / floor <= 1.15, blocks / floor <= 1.3, pull and faint / VAR 0.95 to 1.08, bias <= 0.3 % or two "
    "standard errors, outliers <= 20 ppm, background of fields with few or very many stars <= 0.5 e-; several "
    "disturbances at once: 1.5 times as far from the floor. The statistical error of each figure's number of stars or "
    "blocks is added to its limit: two standard errors, for pull and faint / VAR three."
)


def main() -> int:
    """Run the chosen nights and print the table; return 1 if one does not hold."""
    parser = ArgumentParser(prog="python -m benchmarks.skies", description=__doc__)
    parser.add_argument("--only", default="", help="only nights whose name contains this")
    parser.add_argument(
        "--size", type=int, default=_FULL, help="rows and columns; default: the full detector"
    )
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds; the worst counts")
    parser.add_argument(
        "--folder", type=Path, default=None, help="folder to work in; default: the temporary folder"
    )
    parser.add_argument("--keep", action="store_true", help="keep raw frames and products")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    chosen = [night for night in NIGHTS if options.only in night.name]
    if not chosen or options.seeds < 1:
        parser.error("no night has such a name" if not chosen else "at least one seed is needed")
    with laboratory(options.folder, options.size, keep=options.keep) as lab:
        observatory = Observatory(lab)
        every = [
            [_one(observatory, night, seed, options.keep) for seed in range(1, options.seeds + 1)]
            for night in chosen
        ]
    if options.json:
        print_json([{**one.__dict__, "ok": one.ok} for seeds in every for one in seeds])
    else:
        middle = (Column(head, "right") for head, *_ in COLUMNS)
        print_table(
            [Column("night"), Column("frames", "right"), *middle, Column("verdict")],
            [_line(seeds) for seeds in every],
            title=f"{options.size} px, {options.seeds} seeds, the worst of them",
        )  # fmt: skip
        for seeds in every:
            for one in seeds:
                for text in one.wrong:
                    print(f"{one.night}, seed {one.seed}: {text}")
        print(LIMITS)
    return int(any(not one.ok for seeds in every for one in seeds))


def _one(observatory: Observatory, night: SkyNight, seed: int, keep: bool) -> Judged:
    print(f"skies: {night.name}, seed {seed}", file=sys.stderr, flush=True)
    try:
        truth, outcome = observatory.reduced(night, seed)
        judged = judge(night, seed, truth, outcome)
    except Exception as error:  # noqa: BLE001 - one night never stops the others
        traceback.print_exc()
        return Judged(night.name, seed, (), 0, (f"{type(error).__name__}: {error}",))
    if not keep:
        observatory.clear(outcome)
    for text in ("  ".join(_line([judged])), *judged.wrong):
        print(f"skies:   {text}", file=sys.stderr, flush=True)
    return judged


def _line(seeds: Sequence[Judged]) -> list[str]:
    cells = [seeds[0].night, str(min(one.frames for one in seeds))]
    for _, figure, form, how in COLUMNS:
        values = [v for one in seeds if not math.isnan(v := one.value(figure))]
        worst = {"most": max, "least": min, "farthest": lambda v: max(v, key=abs)}[how]
        cells.append(format(worst(values), form) if values else "")
    failed = sum(not one.ok for one in seeds)
    return [*cells, "holds" if not failed else f"{failed} of {len(seeds)} FAIL"]


if __name__ == "__main__":
    sys.exit(main())
