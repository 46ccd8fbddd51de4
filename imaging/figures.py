"""Quality figures: declared with a metric's field, and shown from that declaration everywhere.

A step's metrics are a model whose fields are declared by `figure`, as parameters are by
`imaging.parameters.parameter`. The declaration has the meaning, the label, the unit and the format. The night
page, the report at the terminal, the Prefect UI, the names for expressions and the documentation are all made
from it.

The store keeps figures permanently under flat names (`flat_values`): products of other versions have figures
that no model declares, and products of other software have none. Undeclared figures are shown under their own
names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import fnmatchcase
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.fields import FieldInfo

Metric = float | int | str | bool | None

#: Abbreviations of units; other units are shown unchanged.
_SHORT_UNITS: Final = {"electron": "e-"}
#: The field of a nested model that is named after the outer field.
_VALUE: Final = "value"
#: Types of plain values in the store; times are texts.
_PLAIN: Final = (bool, int, float, str, datetime)


class Metrics(BaseModel):
    """The figures of one step or product."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Display:
    """One way in which a figure is shown.

    Attributes
    ----------
    label
        Its label.
    unit
        The unit in which it is shown.
    factor
        Brings the stored value to that unit; None for the instrument's pixel scale, arcsec.
    """

    label: str
    unit: str = ""
    factor: float | None = 1.0

    @property
    def heading(self) -> str:
        """Label and unit, as the heading of a column."""
        return f"{self.label}, {self.unit}" if self.unit else self.label

    def scaled(self, value: object, pixel_scale: float | None = None) -> object:
        """Return a number in the unit in which it is shown, and anything else unchanged."""
        factor = pixel_scale if self.factor is None else self.factor
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return value * factor if number and factor not in (None, 1.0) else value  # type: ignore[operator]


@dataclass(frozen=True)
class Description:
    """The description of a figure.

    Attributes
    ----------
    name
        Its name in the store. ``scales_*`` stands for one value per frame.
    type
        Type of its value.
    meaning
        What it is, in one sentence.
    unit
        Unit of the stored value; empty for a count or a fraction.
    displays
        How it is shown, the default first; empty for a detail that only the store shows.
    headline
        Whether the report of a reduction shows it.
    history
        Whether the Prefect UI shows how it changed over the nights.
    error
        Name of the figure with its standard error in the same unit, which determines its digits.
    digits
        Significant digits that it is worth; None: four.
    """

    name: str
    type: Any
    meaning: str = ""
    unit: str = ""
    displays: tuple[Display, ...] = ()
    headline: bool = False
    history: bool = False
    error: str = ""
    digits: int | None = None

    @property
    def per_frame(self) -> bool:
        """Whether it has one value per frame."""
        return self.name.endswith("_*")


Descriptions = Mapping[str, Description]


@dataclass(frozen=True)
class Figure:
    """A figure as shown: its label, its value as text, and its unit."""

    label: str
    value: str
    unit: str = ""

    @property
    def quantity(self) -> str:
        """Value and unit."""
        return f"{self.value} {self.unit}".rstrip()


def figure(
    meaning: str,
    label: str = "",
    *,
    unit: str = "",
    shown_in: str = "",
    factor: float = 1.0,
    also: Display | None = None,
    headline: bool = False,
    history: bool = False,
    error: str = "",
    digits: int | None = None,
    **field: Any,
) -> Any:
    """Declare a figure.

    Parameters
    ----------
    meaning
        What it is, in one sentence without the unit.
    label
        Its label where products are shown; empty for a detail that only the store shows.
    unit
        Unit of the value; empty for a count or a fraction.
    shown_in
        Unit in which it is shown; default: ``unit``, abbreviated.
    factor
        Converts the value to the unit in which it is shown.
    also
        A second way in which it is shown, after the first.
    headline
        Show it in the report of a reduction.
    history
        Show how it changed over the nights.
    error
        Field with its standard error, in the same unit: it is shown with it, and with the digits that it allows.
    digits
        Significant digits that it is worth without a stated error; default: four.
    **field
        Other arguments of pydantic's ``Field``, as ``default``.

    Raises
    ------
    ValueError
        If a figure without a label is to be in the report or in a history.
    """
    if (headline or history) and not label:
        raise ValueError(f"the figure {meaning!r} needs a label: it is shown in the report or in a history")
    displays = [Display(label, shown_in or _SHORT_UNITS.get(unit, unit), factor)] if label else []
    displays += [also] if also is not None else []
    extra: dict[str, JsonValue] = {
        "unit": unit,
        "displays": [{"label": one.label, "unit": one.unit, "factor": one.factor} for one in displays],
        "headline": headline,
        "history": history,
        "error": error,
        "digits": digits,
    }
    return Field(description=meaning, json_schema_extra=extra, **field)


def share(meaning: str, label: str, **options: Any) -> Any:
    """Declare a fraction that is shown in percent; the options are those of `figure`."""
    return figure(meaning, label, shown_in="%", factor=100.0, **options)


def describe(model: type[BaseModel]) -> dict[str, Description]:
    """Return the descriptions of a model's figures, by the names of `flat_values`, in order."""
    return {one.name: one for one in _described(model)}


def _described(model: type[BaseModel]) -> Iterator[Description]:
    for field, info in model.model_fields.items():
        kind = _without_none(info.annotation)
        own = _declared(field, kind, info)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for inner in _described(kind):
                if inner.name == _VALUE:
                    yield replace(own, type=inner.type, meaning=own.meaning or inner.meaning)
                else:
                    yield replace(inner, name=f"{field}_{inner.name}")
        elif get_origin(kind) is dict:
            yield replace(own, name=f"{field}_*", type=get_args(kind)[1])
        elif kind in _PLAIN:
            yield own


def _declared(name: str, kind: Any, info: FieldInfo) -> Description:
    extra: dict[str, Any] = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    return Description(
        name=name,
        type=kind,
        meaning=info.description or "",
        unit=extra.get("unit", ""),
        displays=tuple(Display(**one) for one in extra.get("displays", ())),
        headline=extra.get("headline", False),
        history=extra.get("history", False),
        error=extra.get("error", ""),
        digits=extra.get("digits"),
    )


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (UnionType, Union):
        return next(part for part in get_args(annotation) if part is not type(None))
    return annotation


def flat_values(metrics: BaseModel) -> dict[str, Metric]:
    """Return the figures of a step under flat names: ``pedestal.value`` becomes ``pedestal``."""
    values: dict[str, Metric] = {}
    for name, value in metrics.model_dump(mode="json").items():
        if isinstance(value, dict):
            values |= {
                name if inner == _VALUE else f"{name}_{inner}": v
                for inner, v in value.items()
                if isinstance(v, (int, float, str)) and v != ""
            }
        elif value is None or isinstance(value, (int, float, str)):
            values[name] = value
    return values


def shown(
    descriptions: Descriptions,
    metrics: Mapping[str, Any],
    *,
    details: bool = False,
    others: bool = True,
    pixel_scale: float | None = None,
) -> tuple[Figure, ...]:
    """Return the figures of a product: the declared ones in order, those with an error with it, then the others.

    Parameters
    ----------
    descriptions
        The descriptions of the product's figures; empty for a kind without a model.
    metrics
        The product's figures, as in the store. Values that are not plain are left out.
    details
        Include those declared without a label.
    others
        Include those that are not declared.
    pixel_scale
        Arcsec; figures that need it are left out if it is unknown.
    """
    plain = {name: value for name, value in metrics.items() if isinstance(value, (int, float, str))}
    errors = {one.error for name, one in descriptions.items() if name in plain and one.error}
    labelled = [
        Figure(display.label, _shown(one, display, plain, pixel_scale), display.unit)
        for name, one in descriptions.items()
        if name in plain and name not in errors
        for display in one.displays
        if display.factor is not None or pixel_scale is not None
    ]
    undeclared = [
        Figure(name, as_text(plain[name]))
        for name in (sorted(plain) if others else ())
        if ((one := _find(descriptions, name)) is None or (details and not one.displays))
    ]
    return (*labelled, *undeclared)


def headlines(descriptions: Descriptions, metrics: Mapping[str, Any]) -> tuple[Figure, ...]:
    """Return the most important figures of a product."""
    chosen = {
        name: replace(one, displays=one.displays[:1]) for name, one in descriptions.items() if one.headline
    }
    wanted = {*chosen, *(one.error for one in chosen.values())}
    return shown(chosen, {name: metrics[name] for name in wanted if name in metrics}, others=False)


def _find(descriptions: Descriptions, name: str) -> Description | None:
    if name in descriptions:
        return descriptions[name]
    return next((one for pattern, one in descriptions.items() if fnmatchcase(name, pattern)), None)


def as_text(value: object, digits: int | None = None) -> str:
    """Return a value with its significant digits (default: four) and all of its integer part; a text unchanged."""
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            plain = 10 ** ((digits or 4) - 1) <= abs(value) < 1e7
            return (
                f"{value:.0f}" if plain else f"{value:#.{digits}g}".rstrip(".") if digits else f"{value:.4g}"
            )
        case _:
            return str(value)


def with_error(value: float, error: float) -> str:
    """Return a value with its standard error: the error with two digits, the value with as many decimals.

    An error of 0, or one that is not finite, has no digits: the value stands alone.
    """
    if not (math.isfinite(value) and math.isfinite(error) and error > 0):
        return as_text(float(value))
    decimals = max(0, 1 - math.floor(math.log10(float(f"{error:.1e}"))))
    return f"{value:.{decimals}f} \N{PLUS-MINUS SIGN} {error:.{decimals}f}"


def _shown(one: Description, display: Display, values: Mapping[str, Any], pixel_scale: float | None) -> str:
    """Return the value of a declared figure as text; for a file name, its distinctive part."""
    value, error = (display.scaled(values.get(name), pixel_scale) for name in (one.name, one.error))
    if isinstance(value, float) and isinstance(error, (int, float)) and not isinstance(error, bool):
        return with_error(value, error)
    return as_text(value, one.digits).removesuffix(".fits")
