"""``python -m benchmarks.photometry``: realisations of stacks with known stars, and every limit with its figure."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from benchmarks.photometry.measured import RADII, Realisation, realise
from deployments.printable_output import ArgumentParser
from imaging.usual import MAD_TO_SIGMA
from nirflow.console.tables import Column, print_json, print_table

BANDS: Final = ("Y", "H", "K-red")
#: Bins of magnitude between the signal to noise of 10 and the linear limit, and the fewest stars of a bin.
_BINS: Final = 5
_SNR: Final = 10.0
_FEWEST: Final = 200


@dataclass(frozen=True)
class Limit:
    """A figure and the range that it has to be in."""

    band: str
    name: str
    value: float
    low: float
    high: float
    note: str = ""

    @property
    def good(self) -> bool:
        """Whether it is within its range."""
        return self.low <= self.value <= self.high


def main() -> int:
    """Print the limits of each band; return 1 if a figure is beyond its limit."""
    parser = ArgumentParser(prog="python -m benchmarks.photometry", description=__doc__)
    parser.add_argument("--bands", nargs="+", default=BANDS, choices=BANDS)
    parser.add_argument("--realisations", type=int, default=30, help="stacks of each band")
    parser.add_argument("--catalogues", type=int, default=10, help="catalogues of the stars of each stack")
    parser.add_argument("--size", type=int, default=1024, help="rows and columns of a stack")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first stack")
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")
    options = parser.parse_args()
    limits: list[Limit] = []
    for band in options.bands:
        seeds = range(options.seed, options.seed + options.realisations)
        found = [realise(band, seed, options.size, options.catalogues) for seed in seeds]
        limits += [
            *zero_points(band, found),
            *stars(band, found),
            *apertures(band, found),
            depth(band, found),
        ]
    if options.json:
        print_json([{**vars(one), "good": one.good} for one in limits])
    else:
        columns = [Column("band", style="bold"), Column("figure"), Column("value", "right"), Column("limits", "right"),
                   Column(""), Column("note", fold=True)]  # fmt: skip
        rows = [
            [one.band, one.name, f"{one.value:.4g}", f"{one.low:g} to {one.high:g}", "good" if one.good else "BEYOND",
             one.note]
            for one in limits
        ]  # fmt: skip
        print_table(columns, rows, styles=["" if one.good else "red" for one in limits])
    return 0 if all(one.good for one in limits) else 1


def zero_points(band: str, found: Sequence[Realisation]) -> list[Limit]:
    """Return the figures of the zero points: of one catalogue of each stack, the width of all of them.

    The width of 30 deviations has a standard error of 13 %: too much for limits of 20 %. The note of the largest pull
    has what the errors of its catalogue alone give. Of the 90 of three bands, one is beyond the limit by chance in 4 %
    of all runs; then that is near it too, and otherwise the photometry is at fault.
    """
    one = [realisation.zero_points[0] for realisation in found]
    every = [zero_point for realisation in found for zero_point in realisation.zero_points]
    stars = f"{len(one)} realisations, {np.mean([z.number for z in one]):.0f} stars each"
    ratio = np.mean([z.error / (z.scatter / np.sqrt(z.number)) for z in one])
    width = float(np.std([z.pull for z in every], ddof=1))
    first = float(np.std([z.pull for z in one], ddof=1))
    note = f"{len(every)} catalogues; {len(one)} realisations alone {first:.2f}"
    farthest = max(one, key=lambda z: abs(z.pull))
    chance = f"{stars}; it is {farthest.pull:+.2f}, {farthest.catalogue / farthest.error:+.2f} with the true fluxes"
    return [
        Limit(band, "zero point, mean error, mag", abs(float(np.mean([z.off for z in one]))), 0, 0.003, stars),
        Limit(band, "zero point, pull width", width, 0.8, 1.2, note),
        Limit(band, "zero point, largest pull", abs(farthest.pull), 0, 3.5, chance),
        Limit(band, "zero point, error over scatter / sqrt(N)", float(ratio), 0.8, 1.2),
    ]  # fmt: skip


def stars(band: str, found: Sequence[Realisation]) -> list[Limit]:
    """Return the pulls of stars by magnitude."""
    flux, pull, relative = (
        np.concatenate([getattr(one, name) for one in found]) for name in ("flux", "pull", "relative")
    )
    faintest = float(np.median(flux[np.abs(relative - 1 / _SNR) < 0.02]))
    edges = np.geomspace(faintest, flux.max() * 1.001, _BINS + 1)
    limits = []
    for low, high in pairwise(edges):
        inside = pull[(flux >= low) & (flux < high)]
        snr = 1 / np.median(relative[(flux >= low) & (flux < high)])
        note = f"{len(inside)} stars, mean {inside.mean():+.2f}" + (
            "" if len(inside) >= _FEWEST else ", too few"
        )
        limits.append(
            Limit(band, f"pull of stars at S/N {snr:.0f}", float(inside.std(ddof=1)), 0.9, 1.1, note)
        )
    return limits


def apertures(band: str, found: Sequence[Realisation]) -> list[Limit]:
    """Return the scatter of empty apertures over their stated errors."""
    limits = []
    for radius in RADII:
        values = np.concatenate([one.empty[radius] for one in found])
        robust = MAD_TO_SIGMA * np.median(np.abs(values - np.median(values)))
        note = f"{len(values)} apertures, robust {robust:.3f}"
        limits.append(
            Limit(band, f"empty apertures of {radius:g} px", float(values.std(ddof=1)), 0.97, 1.05, note)
        )
    return limits


def depth(band: str, found: Sequence[Realisation]) -> Limit:
    """Return the difference of the limiting magnitude from that at which injected stars scatter by 20 %."""
    values = np.concatenate([one.forced for one in found])
    kept = values[np.abs(values - np.median(values)) < 4 * values.std()]
    off = 2.5 * np.log10(kept.std(ddof=1))
    return Limit(band, "MAGLIM - magnitude of 20 % scatter", float(off), -0.05, 0.05, f"{len(kept)} stars")


if __name__ == "__main__":
    sys.exit(main())
