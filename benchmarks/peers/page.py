"""The tables and the picture of ``docs/peers.md``: what was measured, written between marks in the text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.peers.faults import Fault
from benchmarks.peers.measure import SIZES, Alarms, Chance

DOCS: Final = Path(__file__).parents[2] / "docs"
PAGE: Final = DOCS / "peers.md"
PICTURE: Final = DOCS / "images" / "peers.png"
#: Faults in the picture.
_DRAWN: Final = (
    ("darks", "light leak"), ("darks", "gradient of light"), ("darks", "quadrant offset"), ("darks", "noise"),
    ("lamp-ons", "slope"), ("lamp-ons", "another filter"),
)  # fmt: skip
_BLOCK: Final = "<!-- {name} -->\n\n{content}\n\n<!-- end of {name} -->"

Results = Mapping[tuple[str, str], tuple[Fault, Sequence[Chance]]]


def size_text(fault: Fault, size: float) -> str:
    """Return a size of a fault with its unit."""
    if fault.unit == "%":
        return f"{100 * size:g} %"
    return f"{size:g} times" if fault.unit == "x" else f"{size:g} {fault.unit}"


def chance_text(one: Chance) -> str:
    """Return how often a fault was found: left out, and in parentheses reported without being left out."""
    warned = f" ({one.warned:.0%})" if one.warned else ""
    return f"{one.found:.0%}{warned}".replace("%", " %")


def detection_table(results: Results) -> str:
    """Return the table of all faults, as Markdown."""
    lines = [
        "| one frame of the | has | size | " + " | ".join(f"of {n}" for n in SIZES) + " |",
        "|---" * (3 + len(SIZES)) + "|",
    ]
    for fault, chances in results.values():
        for size in fault.sizes:
            at = {one.frames: one for one in chances if one.size == size}
            cells = [fault.of, fault.name, size_text(fault, size), *(chance_text(at[n]) for n in SIZES)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def alarm_table(measured: Mapping[str, Alarms]) -> str:
    """Return the table of false alarms, as Markdown."""
    lines = ["| nights | sets | frames | left out | warnings |", "|---|---|---|---|---|"]
    lines += [
        f"| {what} | {one.sets} | {one.frames} | {one.left_out} | {one.warnings} |"
        for what, one in measured.items()
    ]
    return "\n".join(lines)


def update(blocks: Mapping[str, str], page: Path = PAGE) -> None:
    """Replace the blocks of the page by those given.

    Raises
    ------
    ValueError
        If the page lacks the marks of a block.
    """
    text = page.read_text()
    for name, content in blocks.items():
        pattern = re.compile(f"<!-- {re.escape(name)} -->.*?<!-- end of {re.escape(name)} -->", re.DOTALL)
        text, count = pattern.subn(lambda _, n=name, c=content: _BLOCK.format(name=n, content=c), text)
        if count != 1:
            raise ValueError(f"{page.name} has {count} blocks {name!r}, expected 1.")
    page.write_text(text)


def draw(results: Results, path: Path = PICTURE) -> None:
    """Draw the chance of finding a fault against its size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.2), layout="constrained")
    for axes, key in zip(figure.subplots(2, 3).flat, _DRAWN, strict=True):
        fault, chances = results[key]
        percent = fault.unit == "%"
        for n, colour, mark in zip(SIZES, ("#d55e00", "#e69f00", "#0072b2", "#000000"), "v^os", strict=True):
            of = [one for one in chances if one.frames == n]
            x = [one.size * (100 if percent else 1) for one in of]
            y = [100 * one.found for one in of]
            axes.plot(x, y, color=colour, marker=mark, markersize=5, label=f"set of {n}")
            axes.plot(
                x, [100 * (one.found + one.warned) for one in of], color=colour, linestyle=":", linewidth=1
            )
        axes.set_xscale("log")
        ticks = [size * (100 if percent else 1) for size in fault.sizes]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_ylim(-4, 104)
        axes.grid(color="#dddddd")
        axes.set_title(f"one of the {fault.of}: {fault.name}", fontsize=10)
        axes.set_xlabel({"x": "times that of the others", "%": "per cent"}.get(fault.unit, fault.unit))
    for axes in figure.axes[::3]:
        axes.set_ylabel("found, per cent")
    figure.axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=90)
