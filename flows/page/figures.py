"""The figures of a product as a person reads them: words, rounded values and units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flows.page.model import Figure
from imaging.instruments import catalogue

_ELECTRON: Final = "e\N{SUPERSCRIPT MINUS}"


@dataclass(frozen=True)
class _Told:
    """How a metric is told: the word for it, its unit, and the factor that brings it to that unit."""

    word: str
    unit: str = ""
    factor: float = 1.0


def _share(word: str) -> _Told:
    return _Told(word, "%", 100.0)


#: Metrics of the steps by kind of product (`imaging.calibrations` and the stack), in reading order.
_WORDS: Final[dict[str, dict[str, _Told]]] = {
    "dark": {
        "n_frames": _Told("darks"), "level": _Told("level", _ELECTRON), "noise": _Told("noise", _ELECTRON),
        "scatter": _Told("scatter, dark to dark", _ELECTRON), "read_noise": _Told("read noise", _ELECTRON),
        "pedestal": _Told("pedestal", _ELECTRON), "drift": _Told("drift", _ELECTRON),
        "column_pattern": _Told("column pattern", _ELECTRON), "n_hot": _Told("hot", "px"),
        "rejected": _share("rejected"),
    },
    "bpm": {
        "n_bad": _Told("bad", "px"), "fraction": _share("of the pixels judged"), "n_hot": _Told("hot", "px"),
        "n_cold": _Told("cold", "px"), "n_low": _Told("low response", "px"),
        "n_high": _Told("high response", "px"), "n_on": _Told("lamp on", "frames"),
        "n_off": _Told("lamp off", "frames"), "n_darks": _Told("short darks", "frames"),
        "dark_level": _Told("short darks' level", _ELECTRON), "flat_level": _Told("light", _ELECTRON),
        "pedestal": _Told("pedestal", _ELECTRON), "circle_radius": _Told("circle of light, radius", "px"),
    },
    "flat": {
        "n_on": _Told("with light", "frames"), "n_off": _Told("without", "frames"),
        "level": _Told("level", _ELECTRON), "rms": _share("rms of the response"), "noise": _share("noise"),
        "drift": _share("drift of the lamp"), "rejected": _share("rejected"),
        "n_unusable": _Told("unusable", "px"), "pedestal": _Told("pedestal", _ELECTRON),
        "circle_radius": _Told("circle of light, radius", "px"),
    },
    "image": {
        "ncombine": _Told("frames stacked"), "total_exposure": _Told("exposure", "s"),
        "effective_exposure": _Told("effective exposure", "s"), "seeing": _Told("seeing", "px"),
        "background_rms": _Told("background rms", _ELECTRON), "sky": _Told("sky", _ELECTRON),
        "transparency": _share("least transparency"), "registration": _Told("registration", "px"),
        "sources": _Told("sources"),
        "rejected_share": _share("rejected"), "noise_correlation": _Told("noise correlation"),
        "mean_airmass": _Told("airmass"), "reference": _Told("reference frame"),
    },
}  # fmt: skip

#: What is told elsewhere on the page, or only makes sense to a program.
_ELSEWHERE: Final = frozenset(
    {"warnings", "left_out", "unused", "given_as", "started", "ended", "rejected", "variance_from"}
)
_DETAILS: Final = ("scales_", "weights_", "circle_", "pedestal_", "counts_", "n_")


def figures_of(
    kind: str, metrics: Mapping[str, Any], facts: Mapping[str, Any] | None = None
) -> tuple[Figure, ...]:
    """The figures of a product; those of a step that has no words here come last, by their own names."""
    words = _WORDS.get(kind, {})
    told = [
        Figure(word.word, number(metrics[name], word.factor), word.unit)
        for name, word in words.items()
        if metrics.get(name) is not None
    ]
    seeing = metrics.get("seeing")
    scale = _pixel_scale(facts or {})
    if kind == "image" and scale is not None and isinstance(seeing, (int, float)):
        at = next(i for i, figure in enumerate(told) if figure.word == "seeing")
        told.insert(at + 1, Figure("seeing on the sky", number(seeing, scale), "arcsec"))
    rest = sorted(set(metrics) - set(words) - _ELSEWHERE)
    plain = (float, int, str)
    return (
        *told,
        *(
            Figure(name.replace("_", " "), number(metrics[name]))
            for name in rest
            if isinstance(metrics[name], plain) and not name.startswith(_DETAILS)
        ),
    )


def _pixel_scale(facts: Mapping[str, Any]) -> float | None:
    """Arcsec, where the product's facts are known and a table describes its instrument."""
    instrument = catalogue.find(str(facts.get("instrument")))
    return None if instrument is None else instrument.detector.number("pixel_scale", facts)


def number(value: object, factor: float = 1.0) -> str:
    """A value in at most four digits, or as many as a whole number has; of a file's name, what tells it apart."""
    match value:
        case bool():
            return "yes" if value else "no"
        case int() if factor == 1.0:
            return str(value)
        case int() | float():
            scaled = float(value) * factor
            return f"{scaled:.0f}" if 1000 <= abs(scaled) < 1e7 else f"{scaled:.4g}"
        case _:
            return str(value).removesuffix(".fits")


def real(value: object) -> float | None:
    """A number, or None where it is something else."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
