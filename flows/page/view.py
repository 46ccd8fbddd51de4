"""Texts of a night's page: the summary at the top, sections of frames, links."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

from flows.page.assess import Quality
from flows.page.charts import Chart, Line, Point, chart, seconds, time_ticks
from flows.page.model import Group, NightFrame, NightPage, NightProduct
from flows.page.products import pixel_scale_of
from flows.page.registration import Registered
from flows.page.thumbnails import Thumbnail
from imaging.frames.facts import FrameFacts
from imaging.kinds import PRODUCT_KINDS, TARGETS, target_label
from imaging.listed import counted
from tasks.support.references import ProductRef

#: Names of groups and products.
LABELS: Final[dict[str, str]] = {name: target_label(name) for name in (*PRODUCT_KINDS, *TARGETS)}
_SECTIONS: Final = {"object": 0, "flat": 1, "dark": 2}


@dataclass(frozen=True)
class Section:
    """Raw frames of one kind and configuration."""

    title: str
    frames: tuple[NightFrame, ...]


def verdict(page: NightPage) -> tuple[str, str]:
    """Return a summary of the night in one sentence, and its tone: good, busy or bad."""
    failed, waiting = len(page.in_state("failed")), len(page.in_state("waiting"))
    open_, lost = len(page.in_state("not reduced")), len(page.lost)
    parts = []
    if failed:
        parts.append(f"{counted(failed, 'group')} failed")
    if waiting:
        kinds = dict.fromkeys(LABELS.get(g.waits_for, g.waits_for) for g in page.in_state("waiting"))
        parts.append(
            f"{counted(waiting, 'group')} {'wait' if waiting > 1 else 'waits'} for a {' and a '.join(kinds)}"
        )
    if open_:
        parts.append(f"{counted(open_, 'group')} {'are' if open_ > 1 else 'is'} not reduced yet")
    if lost:
        parts.append(f"{counted(lost, 'item')} {'were' if lost > 1 else 'was'} left out")
    if not parts:
        done = "Everything that the night's frames allow has been reduced."
        return (
            (done, "good")
            if page.groups
            else ("The night's frames form no group that can be reduced.", "busy")
        )
    text = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
    return f"{text}.", "bad" if failed else "busy"


def sections(frames: Sequence[NightFrame]) -> tuple[Section, ...]:
    """Return frames by kind, band, exposure and target: science first, then flats, then darks, each in order
    of time.
    """
    found: dict[tuple[int, str], list[NightFrame]] = {}
    for frame in frames:
        facts = frame.facts
        what = {"object": facts.target or "no target", "flat": f"flat, lamp {facts.lamp or 'unknown'}"}
        parts = [what.get(facts.kind, facts.kind), facts.filter if facts.kind != "dark" else ""]
        parts += [f"{facts.exposure_time:g} s", f"{facts.coadds} coadds" if facts.coadds > 1 else ""]
        title = ", ".join(part for part in parts if part)
        found.setdefault((_SECTIONS.get(facts.kind, 3), title), []).append(frame)
    ordered = sorted(found.items(), key=lambda one: (one[0][0], one[1][0].facts.started, one[0][1]))
    return tuple(Section(title, tuple(members)) for (_, title), members in ordered)


def link(path: Path, page: Path, root: Path) -> str:
    """Return a relative link to ``path`` from the page in the folder ``page``; empty for a file outside of ``root``,
    which a browser on another machine cannot reach.

    Every special character is quoted, so that a file's name cannot be read as anything else.
    """
    path, root = path.absolute(), root.absolute()
    if not path.is_relative_to(root):
        return ""
    relative = Path(os.path.relpath(path, page.absolute())).as_posix()
    return quote(os.fsencode(relative), safe="/")


def range_of(names: Sequence[str]) -> str:
    """Return a short form of the names of frames: the first and the last."""
    short = sorted(name.removesuffix(".fits") for name in names)
    return short[0] if len(short) == 1 else f"{short[0]} to {short[-1]}" if short else ""


def choices_of(group: Group) -> str:
    """Return a group's calibrations as one line."""
    chosen = []
    for one in group.chosen:
        label = LABELS.get(one.kind, one.kind)
        what = f"{distance(one.days)}, {one.status}" if one.name is not None else "none"
        chosen.append(f"{label}: {what}")
    return "; ".join(chosen)


def distance(days: float | None) -> str:
    """Return a calibration's distance in time as text."""
    if days is None:
        return ""
    return f"{abs(days):.1f} days {'before' if days < 0 else 'after'}"


def stack_charts(
    product: NightProduct,
    rows: Sequence[Registered],
    frames: Mapping[str, NightFrame],
    thumbnails: Mapping[str, Thumbnail],
) -> tuple[Chart, ...]:
    """Return the charts of a stack's frames against time."""
    timed = [(row.started, row) for row in rows if row.started is not None]
    levels: list[tuple[datetime, float]] = []
    for name in product.inputs:
        frame = frames.get(name)
        level = thumbnails[frame.sha256].level if frame is not None and frame.sha256 in thumbnails else None
        if frame is not None and level is not None:
            levels.append((frame.facts.started, level))
    levels.sort()
    shifts = [(t, r.dx, r.dy) for t, r in timed if r.dx is not None and r.dy is not None]
    errors = [(t, r.uncertainty) for t, r in timed if r.uncertainty is not None and not r.reference]
    seeing = [(t, r.seeing) for t, r in timed if r.seeing is not None]
    sky = [(t, r.sky) for t, r in timed if r.sky is not None]
    clear = [(t, r.transparency) for t, r in timed if r.transparency is not None]
    every = (
        ("Sky", "electrons", [("level", sky)], False),
        ("Level of the raw frames, mostly sky", "ADU", [("median", [] if sky else levels)], False),
        ("Seeing", "px", [("FWHM", seeing)], False),
        ("Transparency: stars' flux over the reference's", "ratio", [("flux", clear)], False),
        ("Shift onto the reference", "px",
         [("x", [(t, x) for t, x, _ in shifts]), ("y", [(t, y) for t, _, y in shifts])], False),
        ("Uncertainty of the registration", "px", [("standard error", errors)], True),
    )  # fmt: skip
    charts = []
    for title, unit, series, zero in every:
        lines = [_line(*one, number, unit) for number, one in enumerate(series)]
        charts.append(chart(title, unit, lines, x_ticks=time_ticks, zero=zero))
    return tuple(one for one in charts if one is not None)


def seeing_range(stacks: Iterable[ProductRef], frames: Mapping[str, FrameFacts]) -> str:
    """Return the smallest and the largest seeing of stacks, arcsec, as text; empty if it is not known.

    Parameters
    ----------
    stacks
        The stacks, as runs reported them.
    frames
        Facts of raw frames, by name.
    """
    found = []
    for ref in stacks:
        facts = next((frames[name] for name in ref.inputs if name in frames), None)
        scale = pixel_scale_of(facts.model_dump()) if facts is not None else None
        pixels = ref.metrics.get("seeing")
        if scale is not None and isinstance(pixels, (int, float)) and math.isfinite(pixels):
            found.append(pixels * scale)
    return " to ".join(dict.fromkeys((f"{min(found):.2f}", f"{max(found):.2f}"))) if found else ""


def quality_sentence(stacks: Sequence[Quality]) -> tuple[str, str]:
    """Return a summary of the quality of a night's stacks in one sentence, and its tone: good, busy or bad."""
    if not stacks:
        return "", ""
    worse = {one.label: [name for name, judged in one.judged if judged.tone == "bad"] for one in stacks}
    odd = {one.label: [name for name, judged in one.judged if judged.tone == "odd"] for one in stacks}
    parts = [f"{label}: {', '.join(names)} not as requested" for label, names in worse.items() if names]
    parts += [f"{label}: {', '.join(names)} unusual" for label, names in odd.items() if names]
    if parts:
        return f"{'; '.join(parts)}.", "bad" if any(worse.values()) else "busy"
    good = sum(one.tone == "good" for one in stacks)
    if not good:
        return (
            "Nothing was requested of the stacks, and the last nights have too few to compare them with.",
            "busy",
        )
    of = "The stack is" if len(stacks) == 1 else "All stacks are" if good == len(stacks) else (
        f"{good} of {len(stacks)} stacks, those that can be judged, are"
    )  # fmt: skip
    return f"{of} as requested, and as in the last nights.", "good"


def _line(label: str, points: Sequence[tuple[datetime, float]], number: int, unit: str) -> Line:
    shown = tuple(
        Point(seconds(moment), value, f"{moment:%H:%M:%S} UT: {value:.4g} {unit}") for moment, value in points
    )
    return Line(label, number, shown, joined=True)
