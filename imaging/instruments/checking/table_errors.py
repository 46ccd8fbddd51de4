"""Errors of a table with their lines, as messages for those who write tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel, ValidationError

from imaging.instruments.checking.toml_lines import Place, line_of
from imaging.listed import listed

#: Most problems of one table that are reported at once.
_MOST: Final = 5
#: What is expected, by the type of an error, where the message of the library is about programs.
_EXPECTED: Final = {
    "model_type": "a table", "model_attributes_type": "a table", "dict_type": "a table", "tuple_type": "a list",
    "float_parsing": "a number", "float_type": "a number", "int_parsing": "a whole number",
    "int_type": "a whole number", "string_type": "a text", "bool_type": "true or false",
    "too_short": "at least one entry",
}  # fmt: skip


class TableError(ValueError):
    """A value of a table that is invalid, or does not agree with another one.

    Parameters
    ----------
    message
        What is wrong.
    place
        Key and index from the top of the table, or from the part that is validated.
    """

    def __init__(self, message: str, *place: str | int) -> None:
        super().__init__(message)
        self.place: Place = place


def problems(text: str, given: Mapping[str, Any], error: ValidationError, model: type[BaseModel]) -> str:
    """Return what is wrong with a table, with the lines.

    Parameters
    ----------
    text
        The table.
    given
        The same, parsed.
    error
        The error of its validation.
    model
        The model of a table, for the names of its keys.
    """
    found: dict[Place, str] = {}
    for one in error.errors(include_url=False):
        cause = one.get("ctx", {}).get("error")
        inner = cause.place if isinstance(cause, TableError) else ()
        place = _existing(given, (*one["loc"], *inner), keep_last=one["type"] == "missing" or bool(inner))
        found.setdefault(place, _message(one, place, model))
    every = [located(text, place, message) for place, message in found.items()]
    more = f"; and {len(every) - _MOST} more" if len(every) > _MOST else ""
    return "; ".join(every[:_MOST]) + more


def located(text: str, place: Place, message: str) -> str:
    """Return a message with the line and the key of what it is about."""
    line = line_of(text, place)
    named = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    return f"{'' if line is None else f'line {line}: '}{named or 'the table'}: {message}"


def _existing(given: Any, place: Place, *, keep_last: bool) -> Place:
    """Return a place without the parts that are not keys of the table, such as the alternatives of a type."""
    found: list[str | int] = []
    for n, part in enumerate(place):
        known = isinstance(given, Mapping) and part in given
        known = known or (isinstance(given, list) and isinstance(part, int) and 0 <= part < len(given))
        if not known:
            return (*found, *place[n:]) if keep_last else tuple(found)
        given = given[part]
        found.append(part)
    return tuple(found)


def _message(one: Mapping[str, Any], place: Place, model: type[BaseModel]) -> str:
    match one["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            names = _keys(model, place[:-1])
            near = get_close_matches(str(place[-1]), names, 1)
            meant = f"; {near[0]!r} is the most similar" if near else ""
            return f"is unknown here; the keys are {listed(names, 40)}{meant}"
        case "value_error":
            return str(one["msg"]).removeprefix("Value error, ")
    text = str(one["msg"])
    for beginning in ("Input should be ", "Input should have "):
        text = text.removeprefix(beginning)
    text = text.replace("String should match pattern", "a text of the form", 1)
    return f"is {one['input']!r}, expected {_EXPECTED.get(one['type'], text)}"


def _keys(model: type[BaseModel], place: Sequence[str | int]) -> list[str]:
    """Return the keys that a part of a table may have."""
    found: Any = model
    for part in place:
        fields = getattr(found, "model_fields", None)
        if fields is not None:
            found = fields[part].annotation if part in fields else None
        else:
            found = next(reversed(get_args(found)), None) if get_origin(found) is dict else _element(found)
        found = next(_models(found), found)
    return list(getattr(found, "model_fields", {}))


def _element(annotation: Any) -> Any:
    return next(iter(get_args(annotation)), None)


def _models(annotation: Any) -> Iterator[Any]:
    """Yield the model in an annotation such as ``Guiding | None``; nothing for a collection."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) not in (dict, tuple, list):
        for inner in get_args(annotation):
            yield from _models(inner)
