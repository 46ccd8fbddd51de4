"""``python -m benchmarks.faults``: make each fault, and print whether the pipeline handles it.

A row holds if the result is right and the user learns of the fault; it is half right if the result is right
and the message, the count or the remedy is missing; otherwise it is broken. The exit code is 1 if a row is
broken.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.faults.laboratory import announce, laboratory
from benchmarks.faults.run import run
from benchmarks.faults.situation import Row, Situation
from benchmarks.faults.table import SITUATIONS
from deployments.printable_output import ArgumentParser
from nirflow.console.output import print_lines
from nirflow.console.tables import Column, print_json, print_table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the situations, or the mutated files; return 1 if one is broken."""
    parser = ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="a situation, a part or a group; repeatable",
    )
    parser.add_argument("--list", action="store_true", help="list the situations")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--size", type=int, default=512, help="rows and columns of the night")
    parser.add_argument("--folder", type=Path, help="work below this folder; default: the temporary folder")
    parser.add_argument("--keep", action="store_true", help="keep the nights and products")
    parser.add_argument(
        "--mutations", type=int, metavar="N", help="examine and reduce N mutated files instead"
    )
    parser.add_argument(
        "--mutation",
        type=int,
        action="append",
        metavar="NUMBER",
        help="make a mutated file again; repeatable",
    )
    parser.add_argument("--no-reduction", action="store_true", help="only examine the mutated files")
    options = parser.parse_args(arguments)
    if options.mutations is not None or options.mutation is not None:
        from benchmarks.faults.mutation_run import main as mutate

        return mutate(options)
    chosen = _chosen(options.only)
    if not chosen:
        parser.error(f"no situation is named {', '.join(options.only)}; see --list")
    if options.list:
        _print_list(chosen, as_json=options.json)
        return 0
    with laboratory(options.folder, options.size, keep=options.keep) as lab:
        if options.keep:
            announce(f"everything is in {lab.folder}")
        rows = []
        for row in run(chosen, lab, keep=options.keep):
            announce(f"  {row.situation.name} {row.verdict.standing}: {row.verdict.evidence}")
            rows.append(row)
    _print_rows(rows, as_json=options.json)
    return int(any(row.verdict.standing == "broken" for row in rows))


def _chosen(names: Sequence[str]) -> list[Situation]:
    return [one for one in SITUATIONS if not names or {one.name, one.part, one.group} & set(names)]


def _print_list(situations: Sequence[Situation], *, as_json: bool) -> None:
    if as_json:
        print_json(
            [
                {"name": s.name, "part": s.part, "given": s.given, "right": s.right, "root": s.root}
                for s in situations
            ]
        )
        return
    columns = [
        Column("part", style="bold"),
        Column("name"),
        Column("given", fold=True),
        Column("right", fold=True),
        Column(""),
    ]
    print_table(columns, [[s.part, s.name, s.given, s.right, "root" if s.root else ""] for s in situations])


def _print_rows(rows: Sequence[Row], *, as_json: bool) -> None:
    if as_json:
        print_json(
            [
                {"name": row.situation.name, "part": row.situation.part, "verdict": row.verdict.standing,
                 "evidence": row.verdict.evidence, "seconds": round(row.seconds, 1)}
                for row in rows
            ]
        )  # fmt: skip
        return
    columns = [
        Column("part", style="bold"),
        Column("situation"),
        Column("verdict"),
        Column("evidence", fold=True),
        Column("s", "right"),
    ]
    colours = {"holds": "", "half": "yellow", "broken": "red"}
    print_table(
        columns,
        [
            [r.situation.part, r.situation.name, r.verdict.standing, r.verdict.evidence, f"{r.seconds:.0f}"]
            for r in rows
        ],
        styles=[colours[row.verdict.standing] for row in rows],
    )
    counts: Counter[str] = Counter(row.verdict.standing for row in rows)
    print_lines("", ", ".join(f"{counts[standing]} {text}" for standing, text in (
        ("holds", "hold"), ("half", "half right"), ("broken", "broken")
    )) + f" of {len(rows)}.")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
