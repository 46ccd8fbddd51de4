"""The quality of a night's stacks, judged by the requested conditions and by the last thirty nights. Pure functions
except `past_of`, which queries the store.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, Literal

from calib_store.store import Store
from calib_store.tables.trends.figure_history import FigureRow, figure_history
from flows.page.labels import distinct_labels, exposure_of
from flows.page.model import NightFrame, NightProduct
from flows.page.products import pixel_scale_of
from imaging.figures import as_text, with_error
from imaging.instruments import catalogue
from imaging.instruments.instrument import Instrument
from imaging.instruments.requested_conditions import at_zenith
from imaging.kinds import STACK
from imaging.photometry.calibrate import NOMINAL
from imaging.usual import FEWEST, Usual, usual

#: good: as requested, or as usual; odd: unlike the last nights; bad: not as requested.
Tone = Literal["good", "odd", "bad", "unknown"]

#: Nights with which a night is compared.
NIGHTS: Final = 30
#: A condition that the program requested; others are the observer's judgement.
_REQUESTED: Final = "requested"
#: Figures of stacks that are compared.
FIGURES: Final = (
    "seeing", "sky_brightness", "zero_point", "zero_point_error", "zero_point_source", "limiting_magnitude",
    "total_exposure", "astrometry_rms", "mean_airmass",
)  # fmt: skip
#: Differences that are never worth mentioning: arcsec, mag, mas.
_LEAST: Final[Mapping[str, float]] = {
    "seeing": 0.05, "sky": 0.1, "zero_point": 0.02, "depth": 0.05, "residual": 10.0,
}  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """Comparable figures of a stack: seeing at the zenith, arcsec; sky, mag per square arcsec; zero point of 1 s at
    airmass 1, mag; depth of 1 s, mag; residual of the world coordinates, mas; exposure, s. Unknown ones are missing.
    """

    values: Mapping[str, float]
    exposure: float | None
    night: date


@dataclass(frozen=True)
class Judged:
    """A figure of a stack as shown: value, a remark, and how it is judged."""

    text: str
    note: str = ""
    tone: Tone = "unknown"


@dataclass(frozen=True)
class Quality:
    """The quality of a stack.

    Attributes
    ----------
    product, label
        The stack, and a name that no other stack of the night has.
    band
        Its filter.
    seeing, sky, zero_point, transparency, depth, residual
        Its figures.
    limit
        Requested FWHM at the zenith, arcsec; None without one.
    clear
        Zero point of 1 s at airmass 1 without clouds, mag, as the last nights or the table of the instrument have it.
    measured
        What is compared.
    """

    product: NightProduct
    label: str
    band: str
    seeing: Judged
    sky: Judged
    zero_point: Judged
    transparency: Judged
    depth: Judged
    residual: Judged
    limit: float | None
    clear: float | None
    measured: Measured

    @property
    def judged(self) -> tuple[tuple[str, Judged], ...]:
        """The figures with their names."""
        return (
            ("seeing", self.seeing), ("sky", self.sky), ("transparency", self.transparency),
            ("zero point", self.zero_point), ("depth", self.depth), ("world coordinates", self.residual),
        )  # fmt: skip

    @property
    def tone(self) -> Tone:
        """The worst tone of its figures; good if at least one could be judged."""
        tones: set[Tone] = {one.tone for _, one in self.judged}
        order: tuple[Tone, ...] = ("bad", "odd", "good")
        return next((tone for tone in order if tone in tones), "unknown")


def assess(
    products: Sequence[NightProduct],
    frames: Sequence[NightFrame],
    past: Mapping[tuple[str, str], Sequence[Measured]],
) -> tuple[Quality, ...]:
    """Judge the stacks of a night, in order of time.

    Parameters
    ----------
    products
        The night's products.
    frames
        Their raw frames, for what was requested.
    past
        Stacks of the last nights, by instrument and filter.
    """
    stacks = sorted(
        (one for one in products if one.kind == STACK.name and one.span is not None),
        key=lambda p: (p.span, p.name),
    )
    labels = distinct_labels(stacks)
    by_sha256 = {frame.sha256: frame for frame in frames}
    found = []
    for one in stacks:
        mine = next((by_sha256[source] for source in one.sources if source in by_sha256), None)
        key = str(one.facts.get("instrument", "")), str(one.facts.get("filter", ""))
        found.append(_judged(one, labels[one.id], mine, past.get(key, ())))
    return tuple(found)


def past_of(
    store: Store, night: date, products: Sequence[NightProduct]
) -> dict[tuple[str, str], list[Measured]]:
    """Return the stacks of the thirty nights before a night, by instrument and filter; only those of the products."""
    wanted = {
        (str(p.facts.get("instrument", "")), str(p.facts.get("filter", "")))
        for p in products
        if p.kind == STACK.name
    }
    if not wanted:
        return {}
    before = datetime.combine(night, time(), UTC) + timedelta(days=2)
    since = before - timedelta(days=NIGHTS + 4)  # time zones; the nights themselves decide
    rows = store.database.run(
        lambda connection: figure_history(
            connection, STACK.name, facts=("filter", "detector", "read_pairs", "section"), figures=FIGURES,
            since=since, before=before,
        )
    )  # fmt: skip
    found: dict[tuple[str, str], list[Measured]] = {}
    for row in rows:
        key = row.facts.get("instrument", ""), row.facts.get("filter", "")
        if key in wanted and night - timedelta(days=NIGHTS) <= row.night < night:
            found.setdefault(key, []).append(measured_of(row))
    return found


def measured_of(row: FigureRow) -> Measured:
    """Return the comparable figures of a stack in the store."""
    return _measured({**row.values, **row.texts}, row.facts, row.night)


def _measured(figures: Mapping[str, Any], facts: Mapping[str, Any], night: date) -> Measured:
    def number(name: str) -> float | None:
        value = figures.get(name)
        return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None

    values: dict[str, float] = {}
    scale, airmass = pixel_scale_of(facts), number("mean_airmass")
    seeing, exposure, total = number("seeing"), exposure_of(facts), number("total_exposure")
    if seeing is not None and scale is not None:
        values["seeing"] = at_zenith(seeing * scale, airmass)
    for name, figure in (("sky", "sky_brightness"), ("residual", "astrometry_rms")):
        if (value := number(figure)) is not None:
            values[name] = value
    zero_point = number("zero_point")
    if zero_point is not None and exposure is not None and figures.get("zero_point_source") != NOMINAL:
        values["zero_point"] = of_one_second(zero_point, exposure, _extinction(facts), airmass)
    depth = number("limiting_magnitude")
    if depth is not None and total is not None and total > 0:
        values["depth"] = depth - 1.25 * math.log10(total)
    return Measured(values, total, night)


def of_one_second(zero_point: float, exposure: float, extinction: float, airmass: float | None) -> float:
    """Return the zero point of 1 s at airmass 1 from that of an exposure, mag."""
    return zero_point - 2.5 * math.log10(exposure) + extinction * ((airmass or 1.0) - 1.0)


def table_of(facts: Mapping[str, Any]) -> Instrument | None:
    """Return the table of a product's instrument, if it is known."""
    return catalogue.find(str(facts.get("instrument", "")))


def _extinction(facts: Mapping[str, Any]) -> float:
    table = table_of(facts)
    return 0.0 if table is None else table.extinction(facts)


def _judged(product: NightProduct, label: str, frame: NightFrame | None, past: Sequence[Measured]) -> Quality:
    assert product.span is not None
    measured = _measured(product.metrics, product.facts, product.span[0].date())
    band, table = str(product.facts.get("filter", "")), table_of(product.facts)
    normal = {name: usual((one.values[name] for one in past if name in one.values), least)
              for name, least in _LEAST.items()}  # fmt: skip
    requested, of = _requested(frame)
    limit = None if table is None else table.conditions.widest(requested, band)
    nominal = None if table is None else table.zero_point(product.facts)
    clear = _clearest(past, nominal)
    clouds = frame.facts.requested_clouds if frame is not None else ""
    most = None if table is None else table.conditions.most_clouds(clouds)
    return Quality(
        product, label, band,
        seeing=_seeing(product, measured, limit, requested, of, normal["seeing"]),
        sky=_sky(product, normal["sky"]),
        zero_point=_zero_point(product, measured, normal["zero_point"]),
        transparency=_transparency(product, measured, clear, most),
        depth=_depth(product, measured, normal["depth"]),
        residual=_residual(product, normal["residual"]),
        limit=limit, clear=clear, measured=measured,
    )  # fmt: skip


def _requested(frame: NightFrame | None) -> tuple[str, str]:
    """Return the image quality that was requested, or that the observer noted, and which of them it is."""
    if frame is None:
        return "", ""
    if frame.facts.requested_quality:
        return frame.facts.requested_quality, _REQUESTED
    return frame.facts.image_quality, "noted by the observer"


def _clearest(past: Sequence[Measured], nominal: float | None) -> float | None:
    """Return the zero point of clear nights: the ninth decile of the last ones, or that of the table."""
    known = sorted(one.values["zero_point"] for one in past if "zero_point" in one.values)
    return known[math.ceil(0.9 * len(known)) - 1] if len(known) >= FEWEST else nominal


def _seeing(
    product: NightProduct, measured: Measured, limit: float | None, quality: str, of: str, normal: Usual | None
) -> Judged:  # fmt: skip
    at = measured.values.get("seeing")
    seeing, scale = product.number("seeing"), pixel_scale_of(product.facts)
    if at is None or seeing is None or scale is None:
        return Judged("not measured")
    note = f"{at:.2f} at the zenith"
    tone: Tone = "unknown"
    if limit is not None:
        note += f"; limit {limit:.2f} ({quality}, {of})"
        tone = "good" if at <= limit else "bad" if of == _REQUESTED else "odd"
    elif normal is not None:
        tone = "odd" if at > normal.high else "good"
    return Judged(f"{as_text(seeing * scale, 2)} arcsec", _with_usual(note, normal, ".2f"), tone)


def _sky(product: NightProduct, normal: Usual | None) -> Judged:
    sky = product.number("sky_brightness")
    if sky is None:
        level = product.number("sky")
        return Judged("no zero point" if level is None else f"{as_text(level)} e-", "mag need a zero point")
    tone: Tone = "unknown" if normal is None else "odd" if sky < normal.low else "good"
    return Judged(f"{sky:.2f} mag/arcsec\u00b2", _with_usual("", normal, ".2f"), tone)


def _zero_point(product: NightProduct, measured: Measured, normal: Usual | None) -> Judged:
    value, error = product.number("zero_point"), product.number("zero_point_error")
    exposure = exposure_of(product.facts)
    if value is None or exposure is None:
        return Judged("unknown", "no catalogue")
    at = of_one_second(value, exposure, _extinction(product.facts), product.number("mean_airmass"))
    text = with_error(at, error) if error else f"{at:.2f}"
    source = str(product.metrics.get("zero_point_source", ""))
    if source == NOMINAL:
        return Judged(f"{text} mag", "nominal, not measured")
    stars = product.number("zero_point_stars")
    note = f"{source}, {stars:.0f} stars" if stars is not None else source
    tone: Tone = "unknown" if normal is None else "odd" if at < normal.low else "good"
    return Judged(f"{text} mag", _with_usual(note, normal, ".2f"), tone)


def _transparency(
    product: NightProduct, measured: Measured, clear: float | None, most: float | None
) -> Judged:
    at, least = measured.values.get("zero_point"), product.number("transparency")
    note = f"least of its frames {100 * least:.0f} % of the reference" if least is not None else ""
    if at is None or clear is None:
        return Judged("not measured", note)
    lost = clear - at
    text = f"{100 * 10 ** (-0.4 * max(lost, 0.0)):.0f} %"
    if most is None:
        return Judged(text, note)
    note = f"{note}; requested: at most {most:g} mag of clouds".removeprefix("; ")
    return Judged(text, note, "good" if lost <= most + _LEAST["zero_point"] else "bad")


def _depth(product: NightProduct, measured: Measured, normal: Usual | None) -> Judged:
    depth = product.number("limiting_magnitude")
    if depth is None:
        return Judged("unknown")
    total = measured.exposure
    text, at = f"{depth:.2f} mag", measured.values.get("depth")
    if total is None or at is None:
        return Judged(text)
    note = f"in {total:g} s"
    if normal is None:
        return Judged(text, note)
    expected = depth + normal.middle - at
    return Judged(text, f"{note}; usual in that time {expected:.2f}", "odd" if at < normal.low else "good")


def _residual(product: NightProduct, normal: Usual | None) -> Judged:
    rms, error = product.number("astrometry_rms"), product.number("astrometry_error")
    if rms is None:
        source = str(product.metrics.get("wcs_from") or "")
        return Judged("telescope's" if source else "none", "not fitted to a catalogue" if source else "")
    stars = product.number("astrometry_stars")
    parts = [f"error {error:.2g} mas" if error is not None else "", f"{stars:.0f} stars" if stars else ""]
    note = ", ".join(part for part in parts if part)
    tone: Tone = "unknown" if normal is None else "odd" if rms > normal.high else "good"
    return Judged(f"{as_text(rms, 2)} mas", _with_usual(note, normal, ".0f"), tone)


def _with_usual(note: str, normal: Usual | None, form: str) -> str:
    text = "" if normal is None else f"usual {normal.low:{form}} to {normal.high:{form}}"
    return "; ".join(part for part in (note, text) if part)
