"""``python -m benchmarks.peers``: how well frames that differ from the others of their set are found."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from benchmarks.peers import page
from benchmarks.peers.faults import FAULTS, Fault
from benchmarks.peers.frames import Variations
from benchmarks.peers.measure import SIZES, Alarms, Chance, Pool, alarms, chances
from deployments.printable_output import ArgumentParser
from nirflow.console.tables import Column, print_table

#: Rows and columns of the detector.
_FULL: Final = 2048
#: Variations of nights that are harder than usual: pattern noise of the readout.
_HARD: Final = Variations(bias=3.0, channels=8.0, rows=3.0)


def main() -> int:
    """Measure and print; return 1 if a good frame was left out or a warning was false."""
    parser = ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--only", default="", help="only faults whose set and name contain this")
    parser.add_argument("--size", type=int, default=256, help="rows and columns of the frames with faults")
    parser.add_argument(
        "--trials", type=int, default=3, help="sets for each detector, fault and number; 0 for none"
    )
    parser.add_argument("--seeds", type=int, default=3, help="number of detectors")
    parser.add_argument(
        "--nights",
        type=int,
        default=100,
        help="good nights at 512 px; a quarter of these again with more noise",
    )
    parser.add_argument("--full", type=int, default=10, help="good nights at full size")
    parser.add_argument("--write", action="store_true", help="update what was measured in docs/peers.md")
    options = parser.parse_args()
    chosen = (
        [fault for fault in FAULTS if options.only in f"{fault.of} {fault.name}"] if options.trials else []
    )
    if (options.trials and not chosen) or (options.write and options.only):
        parser.error("--write needs all faults" if options.write else "no fault is named like that")
    found = _faults(chosen, options.size, range(1, options.seeds + 1), options.trials)
    good = _nights(options.nights, options.full)
    _print(found.values(), good)
    if options.write and found:
        page.draw(found)
        sets = f"{options.trials * options.seeds} sets for each number, {options.size} px, {options.seeds} detectors."
        page.update({"detection": f"{sets}\n\n{page.detection_table(found)}"})
    if options.write and good:
        page.update({"false alarms": page.alarm_table(good)})
    return int(any(one.left_out or one.warnings for one in good.values()))


def _faults(
    faults: Sequence[Fault], size: int, seeds: Sequence[int], trials: int
) -> dict[tuple[str, str], tuple[Fault, list[Chance]]]:
    pools: dict[int, Pool] = {}
    found = {}
    for fault in faults:
        _announce(f"one of the {fault.of}: {fault.name}")
        found[fault.of, fault.name] = fault, chances(fault, size, seeds, trials, pools)
    return found


def _nights(small: int, full: int) -> dict[str, Alarms]:
    parts: list[tuple[str, Callable[[], Alarms]]] = []
    if small:
        parts += [
            (f"{small} at 512 px", lambda: alarms(512, small, Variations(), _announce)),
            (f"{small // 4} at 512 px, more noise", lambda: alarms(512, small // 4, _HARD, _announce)),
        ]
    if full:
        parts.append((f"{full} at full size", lambda: alarms(_FULL, full, Variations(), _announce)))
    return {name: measure() for name, measure in parts}


def _print(found: Iterable[tuple[Fault, Sequence[Chance]]], good: dict[str, Alarms]) -> None:
    rows = []
    for fault, every in found:
        for size in fault.sizes:
            at = {one.frames: one for one in every if one.size == size}
            lost = sum(one.lost for one in at.values())
            rows.append(
                [
                    fault.of,
                    fault.name,
                    page.size_text(fault, size),
                    *(page.chance_text(at[n]) for n in SIZES),
                    lost or "",
                ]
            )
    columns = [Column("set"), Column("fault of one frame"), Column("size", "right")]
    columns += [Column(f"of {n}", "right") for n in SIZES]
    print_table([*columns, Column("good lost", "right")], rows, title="left out (only warned of)")
    columns = [Column(name) for name in ("nights", "sets", "frames", "left out", "warnings")]
    print_table(
        columns,
        [[name, one.sets, one.frames, one.left_out, one.warnings] for name, one in good.items()],
        title="nights on which nothing is wrong",
    )
    for one in good.values():
        for example in one.examples:
            print(example)


def _announce(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
