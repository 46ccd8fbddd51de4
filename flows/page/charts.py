"""Charts as HTML and SVG without scripts: points that lead to pages, limits, and labels that keep their size.

The points are in an ``<svg>`` that fills the width of the page, whatever it is; the labels are texts of the page, which
the template places in percent of the axes. Every text is escaped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from markupsafe import Markup, escape

from imaging.printable import printable

#: Colours of the page, which are used in turn.
COLOURS: Final = 6
#: Size of the coordinates within the SVG; it is stretched to the size of the chart.
_SIZE: Final = 1000
#: Room on either side of the values, as part of their range.
_ROOM: Final = 0.07
#: A gap is wider than this many times the median distance of points.
_GAP: Final = 6
#: Most ticks on an axis.
_TICKS: Final = 5
_HOUR: Final = 3600.0
_DAY: Final = 24 * _HOUR
#: Steps of an axis of time, s, up to days.
_STEPS: Final = (
    300,
    600,
    1200,
    1800,
    _HOUR,
    2 * _HOUR,
    3 * _HOUR,
    6 * _HOUR,
    12 * _HOUR,
    _DAY,
    2 * _DAY,
    7 * _DAY,
)
#: Texts without any character that is special in HTML.
_PLAIN: Final = re.compile(r"[A-Za-z0-9 .,;:()\[\]/_%#+\u207b\u00b2-]*")
#: Steps of an axis of years, months.
_MONTHS: Final = (1, 2, 3, 6, 12, 24, 60, 120)


@dataclass(frozen=True, slots=True)
class Point:
    """A value: its place, a text that appears at the pointer, the page that it leads to, whether it is unusual."""

    x: float
    y: float
    title: str
    href: str = ""
    flagged: bool = False


@dataclass(frozen=True)
class Line:
    """Points of one colour.

    Attributes
    ----------
    label
        Its name in the legend; empty: it is not listed.
    colour
        Number of the colour.
    points
        The points, in order of x.
    joined
        They are joined by lines, except over gaps six times as wide as most.
    faint
        They are in the background.
    tag
        A short name next to the first point.
    """

    label: str
    colour: int
    points: tuple[Point, ...]
    joined: bool = False
    faint: bool = False
    tag: str = ""


@dataclass(frozen=True)
class Rule:
    """A limit: a dashed line between two places, or over the full width."""

    y: float
    colour: int
    label: str = ""
    x: tuple[float, float] | None = None


@dataclass(frozen=True)
class Strip:
    """A usual range: a strip between two values, over the full width."""

    low: float
    high: float
    colour: int


@dataclass(frozen=True)
class Label:
    """A text at a place, in percent of the axes from the left and from the top."""

    left: float
    top: float
    text: str
    colour: int = 0


@dataclass(frozen=True)
class Chart:
    """A chart for the template: heading, unit, description, drawing, labels, legend (label and colour)."""

    title: str
    unit: str
    description: str
    svg: Markup
    x_labels: tuple[Label, ...]
    y_labels: tuple[Label, ...]
    tags: tuple[Label, ...]
    legend: tuple[tuple[str, int], ...]
    note: str = ""


Ticks = Callable[[float, float], Sequence[tuple[float, str]]]


def chart(
    title: str,
    unit: str,
    lines: Sequence[Line],
    *,
    x_ticks: Ticks,
    rules: Sequence[Rule] = (),
    strips: Sequence[Strip] = (),
    inverted: bool = False,
    zero: bool = False,
    note: str = "",
) -> Chart | None:
    """Return a chart of values; None without any.

    Parameters
    ----------
    title, unit
        Heading, and unit of the values.
    lines, rules, strips
        What is drawn; those in the back first. Strips do not widen the axis.
    x_ticks
        Returns places and texts of the ticks between two values of x.
    inverted
        Small values are at the top, as for magnitudes.
    zero
        The axis begins at 0.
    note
        A sentence below the heading.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    xs = [point.x for line in lines for point in line.points] + [x for rule in rules for x in rule.x or ()]
    ys = [point.y for line in lines for point in line.points] + [rule.y for rule in rules]
    left, right = _with_room(min(xs), max(xs), least=1.0)
    low, high = _with_room(min(ys), max(ys), least=1e-3)
    low = 0.0 if zero else low
    scale_x, scale_y = _SIZE / (right - left), _SIZE / (high - low)

    def at(x: float) -> str:
        return f"{(x - left) * scale_x:.1f}"

    def up(y: float) -> str:
        inside = min(max(y, low), high)
        return f"{((inside - low) if inverted else (high - inside)) * scale_y:.1f}"

    def percent(x: float, y: float) -> tuple[float, float]:
        return round(float(at(x)) * 100 / _SIZE, 2), round(float(up(y)) * 100 / _SIZE, 2)

    highest = min if inverted else max  # a name is above all points of its line
    ticks = [(y, text) for y, text in number_ticks(low, high) if low <= y <= high]
    times = [(x, text) for x, text in x_ticks(left, right) if left <= x <= right]
    parts = [f'<svg viewBox="0 0 {_SIZE} {_SIZE}" preserveAspectRatio="none" aria-hidden="true">']
    parts += [f'<path class="grid" d="M0 {up(y)}H{_SIZE}"/>' for y, _ in ticks]
    parts += [f'<path class="grid" d="M{at(x)} 0V{_SIZE}"/>' for x, _ in times]
    for strip in strips:
        top, bottom = sorted((float(up(strip.low)), float(up(strip.high))))
        parts.append(f'<path class="strip k{strip.colour}" d="M0 {top:.1f}H{_SIZE}V{bottom:.1f}H0z"/>')
    for rule in rules:
        x0, x1 = rule.x or (left, right)
        parts.append(f'<path class="rule k{rule.colour}" d="M{at(x0)} {up(rule.y)}H{at(x1)}"/>')
    for line in lines:
        parts.append(f'<g class="{"faint" if line.faint else "points"} k{line.colour}">')
        for run in _runs(line.points) if line.joined else ():
            path = "L".join(f"{at(point.x)} {up(point.y)}" for point in run)
            parts.append(f'<path class="joined" d="M{path}"/>')
        for point in line.points:
            odd = ' class="odd"' if point.flagged else ""
            mark = f'<path{odd} d="M{at(point.x)} {up(point.y)}h0"><title>{_safe(point.title)}</title></path>'
            parts.append(f'<a href="{_safe(point.href)}">{mark}</a>' if point.href else mark)
        parts.append("</g>")
    parts.append("</svg>")
    known = [point.y for line in lines if not line.faint for point in line.points]
    shown = known or ys
    return Chart(
        title=title,
        unit=unit,
        description=f"{min(shown):.3g} to {max(shown):.3g} {unit}".rstrip(),
        svg=Markup("".join(parts)),  # of numbers and escaped texts only
        x_labels=tuple(Label(percent(x, low)[0], 100.0, text) for x, text in times),
        y_labels=tuple(Label(0.0, percent(left, y)[1], text) for y, text in ticks),
        tags=_apart(
            [
                Label(
                    *percent(line.points[0].x, highest(point.y for point in line.points)),
                    line.tag,
                    line.colour,
                )
                for line in lines
                if line.tag
            ]
            + [
                Label(*percent((rule.x or (left, right))[1], rule.y), rule.label, rule.colour)
                for rule in rules
                if rule.label
            ]
        ),
        legend=tuple(dict.fromkeys((line.label, line.colour) for line in lines if line.label)),
        note=note,
    )


def number_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return evenly spaced ticks between two numbers, and their texts."""
    step = 10.0 ** math.floor(math.log10((high - low) / _TICKS))
    step = next(step * factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= _TICKS)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(n * step, f"{n * step:.{decimals}f}") for n in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return the ticks between two decimal logarithms: 1, 2, 5, 10, 20..., or fewer where these are too many."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        every = [math.log10(factor) + power for power in powers for factor in factors]
        found = [(at, f"{10**at:g}") for at in every if low <= at <= high]
        if len(found) <= _TICKS + 1:
            break
    return found


def day_ticks(first: float, last: float) -> list[tuple[float, str]]:
    """Return ticks as `time_ticks` does, a day or more apart."""
    return time_ticks(first, last, least=_DAY)


def time_ticks(first: float, last: float, *, least: float = 0.0) -> list[tuple[float, str]]:
    """Return ticks (UT) between two times, s since 1970, and their texts: hours, days, or months, ``least`` s apart."""
    span = last - first
    step = next((one for one in _STEPS if one >= least and span / one <= _TICKS + 1), None)
    if step is None:
        return _month_ticks(first, last)
    form = "%H:%M" if step < _DAY else "%-d %b"
    numbers = range(math.ceil(first / step), math.floor(last / step) + 1)
    return [(n * step, datetime.fromtimestamp(n * step, UTC).strftime(form)) for n in numbers]


def _month_ticks(first: float, last: float) -> list[tuple[float, str]]:
    begins, ends = (datetime.fromtimestamp(moment, UTC) for moment in (first, last))
    months = (ends.year - begins.year) * 12 + ends.month - begins.month
    step = next((one for one in _MONTHS if months / one <= _TICKS + 1), _MONTHS[-1])
    numbers = range(begins.year * 12 + begins.month - 1, ends.year * 12 + ends.month)
    ticks = [datetime(n // 12, n % 12 + 1, 1, tzinfo=UTC) for n in numbers if n % step == 0]
    return [(moment.timestamp(), moment.strftime("%Y" if step % 12 == 0 else "%b %Y")) for moment in ticks]


def seconds(moment: datetime) -> float:
    """Return a moment as a value of x for an axis of time."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(seconds=1)


def _runs(points: Sequence[Point]) -> list[list[Point]]:
    """Return points in order of x, in parts between which there are gaps; those of one point are left out."""
    steps = sorted(after.x - before.x for before, after in pairwise(points))
    most = _GAP * steps[len(steps) // 2] if steps else 0.0
    runs: list[list[Point]] = []
    for number, point in enumerate(points):
        if number == 0 or point.x - points[number - 1].x > most:
            runs.append([])
        runs[-1].append(point)
    return [run for run in runs if len(run) > 1]


def _with_room(low: float, high: float, *, least: float) -> tuple[float, float]:
    room = max(_ROOM * (high - low), least if high - low < least else 0.0, 1e-9 * max(abs(low), abs(high)))
    return low - room, high + room


def _apart(labels: Iterable[Label]) -> tuple[Label, ...]:
    """Return labels without those that would lie on others."""
    kept: list[Label] = []
    for one in labels:
        if all(abs(one.top - other.top) > 9 or abs(one.left - other.left) > 24 for other in kept):
            kept.append(one)
    return tuple(kept)


def _safe(text: str) -> str:
    """Return a text for the drawing; most are so plain that there is nothing to escape."""
    return text if _PLAIN.fullmatch(text) and "://" not in text else str(escape(printable(text)))
