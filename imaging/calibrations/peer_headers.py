"""Header values that the frames of a set have in common, such as the temperature of the detector.

The instrument's table names them. A frame with another value is reported, and the pixels decide whether it is
left out (`imaging.calibrations.peers`): a sensor may be wrong while the frame is good.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from imaging.calibrations.raw_stack import RawFrame
from imaging.instruments.instrument import ComparedValue
from imaging.listed import listed

_Value = str | float


def unlike_headers(what: str, raws: Sequence[RawFrame]) -> tuple[str, ...]:
    """Return messages about frames whose header values differ from those of the others.

    Parameters
    ----------
    what
        Name of the frames in the messages: "darks".
    raws
        Frames of one set and one instrument. A frame without a value is not compared.
    """
    messages: list[str] = []
    for compared in raws[0].facts.table.peers if raws else ():
        values = [(raw.name, value) for raw in raws if (value := _value(raw, compared)) is not None]
        numbers = [(name, value) for name, value in values if isinstance(value, float)]
        if compared.tolerance is not None:
            messages += _numbers(what, compared, compared.tolerance, numbers)
        else:
            messages += _texts(what, compared, [(name, str(value)) for name, value in values])
    return tuple(messages)


def _numbers(
    what: str, compared: ComparedValue, tolerance: float, values: Sequence[tuple[str, float]]
) -> list[str]:
    numbers = np.array([value for _, value in values])
    if numbers.size < 2 or np.ptp(numbers) <= tolerance:
        return []
    usual = float(np.median(numbers))
    odd = [one for one in values if abs(one[1] - usual) > tolerance]
    odd = odd or [min(values, key=lambda one: one[1]), max(values, key=lambda one: one[1])]
    unit = f" {compared.unit}" if compared.unit else ""
    named = listed([f"{name} {value:g}{unit}" for name, value in odd])
    return [
        f"{_name(compared)} differs among the {what}: {named}; the median is {usual:g}{unit}, and {tolerance:g}{unit} "
        "is normal"
    ]


def _texts(what: str, compared: ComparedValue, values: Sequence[tuple[str, str]]) -> list[str]:
    if len({value for _, value in values}) < 2:
        return []
    usual, _ = Counter(value for _, value in values).most_common(1)[0]
    named = listed([f"{name} {value!r}" for name, value in values if value != usual])
    return [f"{_name(compared)} differs among the {what}: {named}; most have {usual!r}"]


def _name(compared: ComparedValue) -> str:
    return f"{compared.label} ({compared.keyword})" if compared.label else compared.keyword


def _value(raw: RawFrame, compared: ComparedValue) -> _Value | None:
    """Return the value of a frame; None if it has none, or one that cannot be read."""
    for header in (raw.primary, raw.extension):
        value = header.get(compared.keyword)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value):
            return float(value)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return None
