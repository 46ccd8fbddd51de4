"""The names that an expression about frames may use, made from the fields of `FrameFacts`."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from datetime import date, datetime
from functools import cache
from typing import Any, Final

from imaging.frames.facts import FrameFacts
from imaging.instruments import catalogue
from nirflow.expressions.language import Name, ValueKind

#: Short or customary names for facts of any instrument.
_ALIASES: Final = {
    "object": "target",
    "filter_name": "filter",
    "band": "filter",
    "exptime": "exposure_time",
    "type": "kind",
    "program_id": "program",
    "start": "started",
}

#: Tags that `FrameFacts.tags` can return besides those of the instruments.
_TAGS: Final = frozenset({
    "RAW", "PROCESSED", "CAL", "DARK", "FLAT", "ARC", "BPM", "IMAGE", "SPECT",
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
_OWN_KINDS: Final = {
    "text": ValueKind.TEXT, "number": ValueKind.NUMBER, "count": ValueKind.NUMBER, "optional": ValueKind.NUMBER,
}  # fmt: skip


def _name(annotation: Any, meaning: str) -> Name:
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        parts = [part for part in typing.get_args(annotation) if part is not type(None)]
        return _name(parts[0], meaning)
    if typing.get_origin(annotation) is typing.Literal:
        return Name(ValueKind.TEXT, meaning, typing.get_args(annotation))
    if typing.get_origin(annotation) in (frozenset, set, list, tuple):
        return Name(ValueKind.TEXTS, meaning)
    return Name(_KINDS[annotation], meaning)


@cache
def aliases() -> dict[str, str]:
    """Return short or customary names for facts, including those of the instruments' tables."""
    own = {alias: name for one in catalogue.instruments() for alias, name in one.names.items()}
    return _ALIASES | own


@cache
def frame_tags() -> frozenset[str]:
    """Return every tag that a frame can have."""
    return _TAGS.union(*(one.tags for one in catalogue.instruments()))


@cache
def own_names() -> dict[str, Name]:
    """Return the names of the facts specific to some instruments."""
    return {
        fact: Name(_OWN_KINDS[spec.type], f"of {one.name}: {one.label(fact)[0]}")
        for one in catalogue.instruments()
        for fact, spec in one.facts.items()
        if fact in one.own_facts
    }


@cache
def frame_names() -> dict[str, Name]:
    """Return every name that describes a frame."""
    names = own_names() | {
        field: _name(info.annotation, info.description or "")
        for field, info in FrameFacts.model_fields.items()
        if field != "pixels"  # a record of its own
    }
    for attribute in _PROPERTIES:
        getter: Callable[..., Any] = getattr(FrameFacts, attribute).fget
        meaning = (getter.__doc__ or "").strip().splitlines()[0].rstrip(".")
        names[attribute] = _name(typing.get_type_hints(getter)["return"], meaning[:1].lower() + meaning[1:])
    names["unfit"] = Name(ValueKind.TEXT, "why the frame is not used in an imaging reduction, or none")
    names["tags"] = Name(ValueKind.TEXTS, names["tags"].meaning, tuple(sorted(frame_tags())))
    for alias, name in aliases().items():
        names[alias] = Name(names[name].kind, f"the same as {name}", names[name].choices)
    return names


def frame_lookup(facts: FrameFacts) -> Callable[[str], Any]:
    """Return a function that looks up the values of one frame."""

    def value(name: str) -> Any:
        if name not in frame_names():
            raise KeyError(name)
        name = aliases().get(name, name)
        if name in own_names():
            return facts.value(name)
        return facts.unfit() if name == "unfit" else getattr(facts, name)

    return value
