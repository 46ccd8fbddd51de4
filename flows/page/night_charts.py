"""Charts of a night over all sequences and bands: seeing, sky, transparency, depth."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date
from typing import Any

from flows.page.assess import Measured, Quality, of_one_second, table_of
from flows.page.charts import COLOURS, Chart, Line, Point, Rule, chart, log_ticks, seconds, time_ticks
from flows.page.products import pixel_scale_of
from flows.page.registration import Registered
from imaging.instruments.requested_conditions import at_zenith
from imaging.photometry.depth import sky_brightness

#: Sequences whose names are next to their points, characters of such a name, and those of its beginning.
_NAMED = 8
_LONGEST, _BEGIN = 32, 9

#: The frames of each stack, by the id of the product.
Frames = Mapping[Any, Sequence[Registered]]
Past = Mapping[tuple[str, str], Sequence[Measured]]


def night_charts(
    stacks: Sequence[Quality], frames: Frames, past: Past, paged: Collection[date]
) -> tuple[Chart, ...]:
    """Return the charts of a night, seeing first; those without any value are missing.

    Parameters
    ----------
    stacks
        The stacks, in order of time.
    frames
        The frames of each.
    past
        Stacks of the last nights, by instrument and filter.
    paged
        Nights that have a page.
    """
    charts = (
        _seeing(stacks, frames),
        _sky(stacks, frames),
        _transparency(stacks, frames),
        _depth(stacks, past, paged),
    )
    return tuple(one for one in charts if one is not None)


def colours_of(stacks: Sequence[Quality]) -> dict[str, int]:
    """Return the number of a colour for each band."""
    bands = dict.fromkeys(one.band for one in stacks)
    return {band: number % COLOURS for number, band in enumerate(bands)}


def _lines(
    stacks: Sequence[Quality], frames: Frames, value: Callable[[Quality, Registered], float | None], unit: str
) -> list[Line]:
    """Return a line for each stack: the values of its frames, or of those not in the stack as unusual points."""
    colours, tags = colours_of(stacks), _tags(stacks)
    lines = []
    for one in stacks:
        found = []
        for row in frames.get(one.product.id, ()):
            at = value(one, row) if row.started is not None else None
            if at is not None and row.started is not None and math.isfinite(at):
                state = "" if row.used else ", not in the stack"
                title = f"{row.name.removesuffix('.fits')}, {row.started:%H:%M:%S} UT: {at:.3g} {unit}{state}"
                found.append(
                    Point(seconds(row.started), at, title, f"#p-{one.product.id}", flagged=not row.used)
                )
        lines.append(Line(one.band, colours[one.band], tuple(found), joined=True, tag=tags[one.product.id]))
    return lines


def _tags(stacks: Sequence[Quality]) -> dict[Any, str]:
    """Return the texts next to the points of each stack: what its name has that the others do not have.

    A beginning that all names share, the target of a night that has only one, is left out; of a long name the end,
    with its band and time, is kept. Many stacks have none.
    """
    if len(stacks) > _NAMED:
        return {one.product.id: "" for one in stacks}
    words = [one.label.split() for one in stacks]
    shortest = min(map(len, words), default=1) - 1
    shared = next((n for n in range(shortest) if len({one[n] for one in words}) > 1), shortest)
    first = shared if len(stacks) > 1 else 0
    return {one.product.id: _short(" ".join(its[first:])) for one, its in zip(stacks, words, strict=True)}


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST else f"{label[:_BEGIN]}...{label[_BEGIN + 3 - _LONGEST :]}"


def _seeing(stacks: Sequence[Quality], frames: Frames) -> Chart | None:
    def value(one: Quality, row: Registered) -> float | None:
        scale = pixel_scale_of(one.product.facts)
        return (
            at_zenith(row.seeing * scale, row.airmass)
            if row.seeing is not None and scale is not None
            else None
        )

    colours, lines = colours_of(stacks), _lines(stacks, frames, value, "arcsec")
    rules = [
        Rule(one.limit, colours[one.band], f"limit {one.band} {one.limit:.2f}", _span(one))
        for one in stacks
        if one.limit is not None
    ]
    note = (
        "FWHM of the stars of each frame, scaled to the zenith; dashed: the limit of the image quality that was "
        "requested, or that the observer noted"
    )
    return chart(
        "Seeing over the night", "arcsec", lines, x_ticks=time_ticks, rules=rules,
        note=f"{note}." if rules else f"{note.partition(';')[0]}.",
    )  # fmt: skip


def _span(one: Quality) -> tuple[float, float] | None:
    return None if one.product.span is None else (seconds(one.product.span[0]), seconds(one.product.span[1]))


def _sky(stacks: Sequence[Quality], frames: Frames) -> Chart | None:
    def value(one: Quality, row: Registered) -> float | None:
        scale = pixel_scale_of(one.product.facts)
        if row.sky is None or row.zero_point is None or scale is None:
            return None
        return sky_brightness(row.sky, row.zero_point, scale)

    return chart(
        "Brightness of the sky", "mag/arcsec\u00b2", _lines(stacks, frames, value, "mag"), x_ticks=time_ticks,
        inverted=True, note="Of each frame by its zero point; bright skies are at the top.",
    )  # fmt: skip


def _transparency(stacks: Sequence[Quality], frames: Frames) -> Chart | None:
    def value(one: Quality, row: Registered) -> float | None:
        exposure = one.product.facts.get("exposure_time")
        table = table_of(one.product.facts)
        if row.zero_point is None or one.clear is None or not exposure or table is None:
            return None
        total = float(exposure) * float(one.product.facts.get("coadds") or 1)
        at = of_one_second(row.zero_point, total, table.extinction(one.product.facts), row.airmass)
        return 100 * 10 ** (0.4 * (at - one.clear))

    measured = [one for one in stacks if "zero_point" in one.measured.values]
    note = "Of each frame, by its zero point at airmass 1, over that of clear nights or of the table of the instrument."
    return chart("Transparency", "%", _lines(measured, frames, value, "%"), x_ticks=time_ticks, note=note)


def _depth(stacks: Sequence[Quality], past: Past, paged: Collection[date]) -> Chart | None:
    colours, tags = colours_of(stacks), _tags(stacks)
    lines: list[Line] = []
    for key, earlier in past.items():
        known = [
            Point(
                math.log10(one.exposure),
                one.values["depth"] + 1.25 * math.log10(one.exposure),
                f"{one.night}: {key[1]}",
                f"../{one.night}/index.html" if one.night in paged else "",
            )
            for one in earlier
            if one.exposure and "depth" in one.values
        ]
        lines.append(Line("", colours.get(key[1], 0), tuple(known), faint=True))
    for one in stacks:
        depth, total = one.product.number("limiting_magnitude"), one.measured.exposure
        if depth is not None and total:
            title = f"{one.label}: {depth:.2f} mag in {total:g} s"
            point = Point(math.log10(total), depth, title, f"#p-{one.product.id}")
            lines.append(Line(one.band, colours[one.band], (point,), tag=tags[one.product.id]))
    if all(line.faint for line in lines):
        return None
    note = "Point source of 5 sigma against the total exposure, s"
    note += "; faint: the last thirty nights." if any(line.faint and line.points for line in lines) else "."
    return chart("Depth reached", "mag", lines, x_ticks=log_ticks, note=note)
