"""``python -m benchmarks [PART ...]``: measure and print one table of values and their limits."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks import big_store, nights, observatory
from benchmarks.combine import measure_combine
from benchmarks.figures import Figure, machine, show_figures
from benchmarks.judge import measure_judge
from benchmarks.resampling import measure_resampling
from benchmarks.sequences import measure_sequences, sequence
from deployments.printable_output import ArgumentParser

PARTS: Final[dict[str, Callable[[nights.Bench], list[Figure]]]] = {
    "night": nights.measure_night,
    "nothing": nights.measure_from_nothing,
    "memory": nights.measure_memory,
    "sequences": measure_sequences,
    "combine": lambda bench: measure_combine(runs=bench.runs, size=bench.size),
    "resampling": lambda bench: measure_resampling(runs=bench.runs, size=bench.size),
    "store": lambda bench: big_store.measure_store(bench.folder, bench.store_size, nights.announce),
    "observatory": lambda bench: observatory.measure_observatory(bench.folder, bench.size, nights.announce),
    "judge": lambda bench: measure_judge(bench, bench.arriving, bench.cadence),
}
#: The store takes a quarter of an hour to fill the first time, the observatory and the judge mostly wait: run only
#: when named.
_ON_REQUEST: Final = ("store", "observatory", "judge")
#: Run once without measurement, so that no timed run compiles kernels.
_WARM: Final = ("night", "nothing", "memory", "sequences")


def main() -> int:
    """Run the requested parts; return 1 if a figure is beyond its limit."""
    parser = ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help=f"{', '.join(PARTS)}; default: all except store, observatory and judge",
    )
    parser.add_argument("--runs", type=int, default=2, help="runs of each timed part; the fastest counts")
    parser.add_argument("--size", type=int, default=2048, help="rows and columns; the limits are for 2048")
    parser.add_argument(
        "--products", type=int, default=1_000_000, help="products of the store; five times as many frames"
    )
    parser.add_argument(
        "--sequence",
        type=sequence,
        action="append",
        metavar="SIZExFRAMES",
        help="measure only this long sequence, such as 1024x36; can be repeated",
    )
    parser.add_argument("--frames", type=int, default=100, help="frames that arrive for the judge")
    parser.add_argument("--cadence", type=float, default=20.0, help="time from one of them to the next, s")
    parser.add_argument(
        "--folder",
        type=Path,
        default=nights.default_folder(),
        help="folder of simulated nights, which are kept, and of stores",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown or options.runs < 1:
        parser.error(f"unknown part {unknown[0]}" if unknown else "at least one run is needed")
    parts = options.parts or [part for part in PARTS if part not in _ON_REQUEST]
    store_size = big_store.Size(options.products, 5 * options.products)
    sequences = tuple(options.sequence or ())
    bench = nights.Bench(
        options.folder.resolve(),
        options.runs,
        options.size,
        store_size,
        sequences,
        options.frames,
        options.cadence,
    )
    before = machine()
    try:
        if any(part in _WARM for part in parts):
            nights.warm_up(bench)
        figures = [figure for part in parts for figure in PARTS[part](bench)]
    except nights.BenchmarkError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return show_figures(figures, before, json=options.json)


if __name__ == "__main__":
    sys.exit(main())
