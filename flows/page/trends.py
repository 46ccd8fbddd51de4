"""Figures of calibrations and stacks over years, for `trends.html`: medians of nights with robust limits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any, Final

from calib_store.store import Store
from calib_store.tables.trends.figure_history import NightMedians, night_medians
from flows.page.assess import of_one_second, table_of
from flows.page.charts import COLOURS, Chart, Line, Point, Strip, chart, day_ticks, seconds
from flows.page.products import pixel_scale_of
from imaging.instruments.requested_conditions import at_zenith
from imaging.kinds import KINDS
from imaging.listed import counted
from imaging.photometry.calibrate import NOMINAL
from imaging.usual import Usual, usual

#: Years that are shown.
YEARS: Final = 3
#: Facts by which the products of a night are grouped, and which figures of texts.
_FACTS: Final = (
    "filter", "exposure_time", "coadds", "read_pairs", "detector", "camera", "well_depth", "section", "binning",
)  # fmt: skip
_TEXTS: Final = ("zero_point_source",)
#: Figures of each kind that are read.
_FIGURES: Final[Mapping[str, tuple[str, ...]]] = {
    "dark": ("level", "scatter", "n_hot"),
    "bpm": ("n_hot", "n_bad"),
    "flat": ("level", "rms", "drift"),
    "image": ("seeing", "sky_brightness", "zero_point", "astrometry_rms", "pointing_error", "mean_airmass"),
}


@dataclass(frozen=True)
class Trend:
    """A chart of the page.

    Attributes
    ----------
    title, unit
        Heading, and unit of the values.
    kind
        Kind of the products.
    facts
        Facts in whose values the configurations of one chart differ; their values are the label of a line.
    value
        Returns the value of a night's medians; None without one.
    note
        What the values are.
    inverted
        Small values are at the top.
    """

    title: str
    unit: str
    kind: str
    facts: tuple[str, ...]
    value: Callable[[NightMedians], float | None]
    note: str = ""
    inverted: bool = False


def _figure(name: str, factor: float = 1.0) -> Callable[[NightMedians], float | None]:
    def value(row: NightMedians) -> float | None:
        found = row.medians.get(name)
        return None if found is None else factor * found

    return value


def _exposure(row: NightMedians) -> float | None:
    try:
        exposure = float(row.groups.get("exposure_time", "")) * float(row.groups.get("coadds") or 1)
    except ValueError:
        return None
    return exposure if exposure > 0 else None


def _rate(row: NightMedians) -> float | None:
    level, exposure = row.medians.get("level"), _exposure(row)
    return None if level is None or exposure is None else level / exposure


def _seeing(row: NightMedians) -> float | None:
    seeing, scale = row.medians.get("seeing"), pixel_scale_of(row.groups)
    return (
        None
        if seeing is None or scale is None
        else at_zenith(seeing * scale, row.medians.get("mean_airmass"))
    )


def _zero_point(row: NightMedians) -> float | None:
    """Return the zero point of 1 s at airmass 1; None for a nominal one, which measures nothing."""
    value, exposure, table = row.medians.get("zero_point"), _exposure(row), table_of(row.groups)
    if value is None or exposure is None or row.groups.get("zero_point_source") in (None, NOMINAL):
        return None
    extinction = 0.0 if table is None else table.extinction(row.groups)
    return of_one_second(value, exposure, extinction, row.medians.get("mean_airmass"))


_ELECTRONS: Final = "e\N{SUPERSCRIPT MINUS}"
_OF_DARK: Final = ("read_pairs", "exposure_time", "coadds")
#: The charts of each instrument, in order.
TRENDS: Final = (
    Trend("Dark level", _ELECTRONS, "dark", _OF_DARK, _figure("level"), "Median of the master dark."),
    Trend("Read noise", _ELECTRONS, "dark", _OF_DARK, _figure("scatter"),
          "Standard deviation of a typical pixel from dark to dark: read noise, and the noise of the dark current."),
    Trend("Hot pixels", "px", "bpm", (), _figure("n_hot"), "Hot pixels of the bad pixel masks."),
    Trend("Hot pixels of darks", "px", "dark", _OF_DARK, _figure("n_hot"), "Pixels above dark.hot_limit."),
    Trend("Lamp", f"{_ELECTRONS}/s", "flat", ("filter",), _rate, "Light of the flats, electrons per second."),
    Trend("Stability of the lamp", "%", "flat", ("filter",), _figure("drift", 100.0),
          "Highest minus lowest level of the frames of one flat."),
    Trend("Flat", "%", "flat", ("filter",), _figure("rms", 100.0), "Robust scatter of the response over the field."),
    Trend("Zero point", "mag", "image", ("filter",), _zero_point,
          "Of 1 s at airmass 1, from catalogues; clouds are below."),
    Trend("Seeing", "arcsec", "image", ("filter",), _seeing, "FWHM of the stacks at the zenith."),
    Trend("Sky", "mag/arcsec\u00b2", "image", ("filter",), _figure("sky_brightness"),
          "Bright skies are at the top.", inverted=True),
    Trend("Astrometric residual", "mas", "image", ("filter",), _figure("astrometry_rms"),
          "Rms of the catalogue's stars along one axis."),
    Trend("Error of the telescope's coordinates", "arcsec", "image", ("filter",), _figure("pointing_error"),
          "Distance of the stacks from where the telescope's coordinates have them."),
)  # fmt: skip


@dataclass(frozen=True)
class InstrumentTrends:
    """The charts of one instrument, with the number of nights that they cover."""

    instrument: str
    charts: tuple[Chart, ...]
    nights: int


def collect_trends(
    store: Store, paged: Collection[date], today: date | None = None
) -> tuple[InstrumentTrends, ...]:
    """Return the charts of each instrument that the store has products of.

    Parameters
    ----------
    store
        The store.
    paged
        Nights that have a page, to which their points lead.
    today
        The last night that is shown; default: the latest one with products.
    """
    rows: dict[str, tuple[NightMedians, ...]] = {}
    last = today or _latest(store)
    if last is None:
        return ()
    before = datetime.combine(last, time(), UTC) + timedelta(days=2)
    since = before - timedelta(days=round(365.25 * YEARS) + 2)
    for kind, figures in _FIGURES.items():
        ask = partial(
            night_medians, kind=kind, facts=_FACTS, texts=_TEXTS if KINDS[kind].is_stack else (), figures=figures,
            since=since, before=before,
        )  # fmt: skip
        rows[kind] = store.database.run(ask)
    instruments = dict.fromkeys(row.groups.get("instrument", "") for found in rows.values() for row in found)
    return tuple(_of_instrument(name, rows, paged) for name in sorted(instruments))


def _latest(store: Store) -> date | None:
    nights = store.runs.nights()
    return nights[0] if nights else None


def _of_instrument(
    name: str, rows: Mapping[str, Sequence[NightMedians]], paged: Collection[date]
) -> InstrumentTrends:
    mine = {
        kind: [row for row in found if row.groups.get("instrument", "") == name]
        for kind, found in rows.items()
    }
    charts = (_chart(trend, mine[trend.kind], paged) for trend in TRENDS)
    nights = {row.night for found in mine.values() for row in found}
    return InstrumentTrends(name, tuple(one for one in charts if one is not None), len(nights))


def _chart(trend: Trend, rows: Iterable[NightMedians], paged: Collection[date]) -> Chart | None:
    found: dict[str, list[tuple[NightMedians, float]]] = {}
    labels: dict[tuple[str, ...], str] = {}
    for row in rows:
        value = trend.value(row)
        if value is not None and math.isfinite(value):
            key = tuple(row.groups.values())
            if key not in labels:
                labels[key] = _label(trend, row.groups)
            found.setdefault(labels[key], []).append((row, value))
    ranked = [label for label, _ in Counter({label: len(one) for label, one in found.items()}).most_common()]
    shown, more = sorted(ranked[:COLOURS]), len(ranked[COLOURS:])
    lines, strips = [], []
    for colour, label in enumerate(shown):
        limits = usual(value for _, value in found[label])
        lines.append(Line(label, colour, tuple(_points(trend, label, found[label], limits, paged))))
        if limits is not None:
            strips.append(Strip(limits.low, limits.high, colour))
    note = trend.note
    if more:
        note = f"{note} {counted(more, 'configuration')} with fewer nights {'is' if more == 1 else 'are'} not shown."
    return chart(
        trend.title, trend.unit, lines, x_ticks=day_ticks, strips=strips, inverted=trend.inverted, note=note
    )


def _points(
    trend: Trend,
    label: str,
    found: Sequence[tuple[NightMedians, float]],
    limits: Usual | None,
    paged: Collection[date],
) -> Iterable[Point]:
    for row, value in found:
        odd = limits is not None and not limits.low <= value <= limits.high
        number = f", {row.products} products" if row.products > 1 else ""
        title = f"{row.night}, {label}: {value:.4g} {trend.unit}{number}".replace(", :", ":")
        href = f"{row.night}/index.html" if row.night in paged else ""
        yield Point(seconds(datetime.combine(row.night, time(), UTC)), value, title, href, flagged=odd)


def _label(trend: Trend, groups: Mapping[str, str]) -> str:
    """Return the name of a configuration: the values of the facts, and of others than the usual array or camera."""
    values: dict[str, Any] = {name: groups.get(name, "") for name in trend.facts}
    exposure = _number(values.pop("exposure_time", ""))
    parts = [f"{exposure:g} s"] if exposure is not None else []
    if (reads := values.pop("read_pairs", "")) not in ("", "1"):
        parts.append(f"{reads} reads")
    if (coadds := values.pop("coadds", "")) not in ("", "1"):
        parts.append(f"{coadds} coadds")
    parts += [str(value) for value in values.values() if value]
    parts += [groups[name] for name in ("camera", "well_depth") if groups.get(name)]
    table = table_of(groups)
    section = groups.get("section", "")
    if table is not None and section not in ("", table.section):
        parts.append(section)
    return ", ".join(parts)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
