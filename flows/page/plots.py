"""Plots of quality figures as SVG for a page: small, reproducible, in the page's own colours.

Drawn with matplotlib's objects, without pyplot. Colours are placeholders that become the page's CSS
variables, so that a plot follows the reader's light or dark mode; texts remain text, and the page provides
the font.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import AutoDateLocator, DateFormatter, date2num
from matplotlib.figure import Figure

#: matplotlib's settings are global to the process, so plots are drawn one at a time.
_LOCK: Final = threading.Lock()
_STYLE: Final[Any] = {
    "svg.fonttype": "none", "font.size": 10.0, "axes.linewidth": 0.8, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.linewidth": 0.6, "legend.frameon": False,
    "legend.fontsize": 9.0, "lines.markersize": 5.0, "lines.linewidth": 1.2, "axes.formatter.useoffset": False,
    "axes.unicode_minus": False, "figure.dpi": 72.0,
}  # fmt: skip
#: CSS variable of the page for each placeholder.
_COLOURS: Final = {
    "#010101": "var(--ink)", "#020202": "var(--line)", "#030303": "var(--one)", "#040404": "var(--two)",
    "#050505": "var(--card)",
}  # fmt: skip
_INK, _LINE, _ONE, _TWO, _CARD = _COLOURS
_WIDTH, _HEIGHT = 5.4, 2.5  # inches
_LONGEST_LABEL: Final = 28
#: Parts of matplotlib's SVG that record when it was drawn, or that would affect the surrounding page.
_METADATA = re.compile(r"\s*<(metadata|style)\b.*?</\1>", re.DOTALL)
_FONT = re.compile(r" font-family: [^;\"]*;")
_GROUP_ID = re.compile(r' id="(?:figure|axes|patch|line2d|text|matplotlib\.axis|xtick|ytick|legend|PathCollection'
                       r'|LineCollection|FillBetweenPolyCollection)_\d+"')  # fmt: skip


@dataclass(frozen=True)
class Plot:
    """A plot: its heading, a description of what it shows, and an ``<svg>`` element."""

    title: str
    description: str
    svg: str


@dataclass(frozen=True)
class Series:
    """Points in time: equally many moments and values, with a label."""

    label: str
    moments: Sequence[datetime]
    values: Sequence[float]
    hollow: bool = False


@dataclass(frozen=True)
class Bar:
    """A value for a span of time, with any text as its label."""

    label: str
    span: tuple[datetime, datetime]
    value: float


def in_time(title: str, unit: str, series: Sequence[Series], *, salt: str, zero: bool = False) -> Plot | None:
    """Plot values against UT; return None if there are no points.

    Parameters
    ----------
    title, unit
        Heading, and label of the axis of values.
    series
        Up to two series of points.
    salt
        Distinguishes this plot from all others on its page: names inside the SVG are derived from it.
    zero
        Whether the axis begins at 0.
    """
    shown = [one for one in series if one.moments]
    if not shown:
        return None
    moments = [moment for one in shown for moment in one.moments]
    with _LOCK, matplotlib.rc_context():
        figure, axes = _blank(unit)
        for number, one in enumerate(shown):
            colour = (_ONE, _TWO)[number % 2]
            face = _CARD if one.hollow else colour
            line = "" if one.hollow else "-"
            axes.plot(date2num(list(one.moments)), list(one.values), line, color=colour, marker="os"[number % 2],
                      markerfacecolor=face, markeredgecolor=colour, label=one.label)  # fmt: skip
        _time_axis(axes, min(moments), max(moments))
        if zero:
            axes.set_ylim(0, 1.1 * max(max(one.values) for one in shown) or 1.0)
        if len(shown) > 1:
            axes.legend(labelcolor=_INK, ncols=2, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderpad=0)
        svg = _drawn(figure, salt)
    description = "; ".join(
        f"{one.label}: {min(one.values):.4g} to {max(one.values):.4g} {unit}" for one in shown
    )
    return Plot(title, description, svg)


def spans(title: str, unit: str, bars: Sequence[Bar], *, salt: str) -> Plot | None:
    """Plot values for spans of time, one for each stack; return None without any."""
    if not bars:
        return None
    with _LOCK, matplotlib.rc_context():
        figure, axes = _blank(unit)
        for bar in bars:
            axes.plot(date2num(list(bar.span)), [bar.value] * 2, color=_ONE, marker="|", linewidth=2.4)
            # A label comes from a header: it is not parsed as mathematics, and the font has all its
            # characters.
            at = float(date2num(bar.span[0])), bar.value
            axes.annotate(plain_label(bar.label), at, (0, 5), textcoords="offset points", color=_INK, fontsize=8.5,
                          parse_math=False)  # fmt: skip
        _time_axis(axes, min(bar.span[0] for bar in bars), max(bar.span[1] for bar in bars))
        axes.margins(y=0.25)
        svg = _drawn(figure, salt)
    return Plot(title, f"{min(b.value for b in bars):.4g} to {max(b.value for b in bars):.4g} {unit}", svg)


def plain_label(text: str) -> str:
    """Return a text in a form that a plot can show: printable ASCII, not too long."""
    shown = "".join(c if c.isascii() and c.isprintable() else "?" for c in text)
    return shown if len(shown) <= _LONGEST_LABEL else f"{shown[: _LONGEST_LABEL - 3]}..."


def _blank(unit: str) -> tuple[Figure, Axes]:
    matplotlib.rcdefaults()  # ignore the user's own matplotlibrc
    matplotlib.rcParams.update(_STYLE)
    figure = Figure((_WIDTH, _HEIGHT), layout="constrained", facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    axes.tick_params(colors=_INK, length=3)
    axes.grid(color=_LINE)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_color(_LINE)
    axes.set_ylabel(unit, color=_INK)
    return figure, axes


def _time_axis(axes: Axes, first: datetime, last: datetime) -> None:
    margin = max((last - first) * 0.04, timedelta(minutes=1))
    axes.set_xlim(date2num(first - margin), date2num(last + margin))
    axes.xaxis.set_major_locator(AutoDateLocator(tz=UTC, minticks=3, maxticks=6))
    axes.xaxis.set_major_formatter(
        DateFormatter("%H:%M" if last - first < timedelta(days=1) else "%d, %H h", tz=UTC)
    )
    axes.set_xlabel("UT", color=_INK)


def _drawn(figure: Figure, salt: str) -> str:
    matplotlib.rcParams["svg.hashsalt"] = salt
    out = io.StringIO()
    FigureCanvasSVG(figure).print_svg(
        out, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    text = out.getvalue()
    svg = _FONT.sub("", _GROUP_ID.sub("", _METADATA.sub("", text[text.index("<svg") :])))
    for placeholder, variable in _COLOURS.items():
        svg = svg.replace(placeholder, variable)
    return svg.strip()
