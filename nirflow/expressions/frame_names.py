"""The names that an expression about frames may use, made from the fields of `FrameFacts`."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from datetime import date, datetime
from typing import Any, Final

from imaging.frames.facts import FrameFacts
from nirflow.expressions.language import Name, ValueKind

#: Short or customary names for a fact.
ALIASES: Final = {
    "object": "target",
    "filter_name": "filter",
    "band": "filter",
    "exptime": "exposure_time",
    "lnrs": "read_pairs",
    "type": "kind",
    "read_mode": "read_pairs",
    "program_id": "program",
    "start": "started",
}

#: Every tag that `FrameFacts.tags` can give.
FRAME_TAGS: Final = frozenset({
    "GEMINI", "SOUTH", "F2", "RAW", "PROCESSED", "CAL", "DARK", "FLAT", "ARC", "BPM", "IMAGE", "SPECT",
    "ACQUISITION", "STANDARD", "GCALFLAT", "LAMPON", "LAMPOFF", "GCAL_IR_ON", "GCAL_IR_OFF",
})  # fmt: skip

#: Properties of FrameFacts; their meanings are the first line of their docstrings.
_PROPERTIES: Final = (
    "root", "exposure", "ended", "middle", "night", "gain", "read_noise", "spectroscopic", "tags",
)  # fmt: skip

_KINDS: Final[dict[Any, ValueKind]] = {
    str: ValueKind.TEXT,
    int: ValueKind.NUMBER,
    float: ValueKind.NUMBER,
    bool: ValueKind.FLAG,
    datetime: ValueKind.MOMENT,
    date: ValueKind.DAY,
}


def _name(annotation: Any, meaning: str) -> Name:
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        parts = [part for part in typing.get_args(annotation) if part is not type(None)]
        return _name(parts[0], meaning)
    if typing.get_origin(annotation) is typing.Literal:
        return Name(ValueKind.TEXT, meaning, typing.get_args(annotation))
    if typing.get_origin(annotation) in (frozenset, set, list, tuple):
        return Name(ValueKind.TEXTS, meaning)
    return Name(_KINDS[annotation], meaning)


def _frame_names() -> dict[str, Name]:
    names = {
        field: _name(info.annotation, info.description or "")
        for field, info in FrameFacts.model_fields.items()
    }
    for attribute in _PROPERTIES:
        getter: Callable[..., Any] = getattr(FrameFacts, attribute).fget
        meaning = (getter.__doc__ or "").strip().splitlines()[0].rstrip(".")
        names[attribute] = _name(typing.get_type_hints(getter)["return"], meaning[:1].lower() + meaning[1:])
    names["unfit"] = Name(ValueKind.TEXT, "why the frame takes no part in an imaging reduction, or none")
    names["tags"] = Name(ValueKind.TEXTS, names["tags"].meaning, tuple(sorted(FRAME_TAGS)))
    for alias, name in ALIASES.items():
        names[alias] = Name(names[name].kind, f"the same as {name}", names[name].choices)
    return names


#: Every name that describes a frame.
FRAME_NAMES: Final = _frame_names()


def frame_lookup(facts: FrameFacts) -> Callable[[str], Any]:
    """Give an expression the values of one frame."""

    def value(name: str) -> Any:
        if name not in FRAME_NAMES:
            raise KeyError(name)
        name = ALIASES.get(name, name)
        return facts.unfit() if name == "unfit" else getattr(facts, name)

    return value
