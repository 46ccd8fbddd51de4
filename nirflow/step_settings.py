"""``step.parameter=value``: texts of the command line converted to the typed parameters of a step."""

from __future__ import annotations

import difflib
import json
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from imaging.parameters import StepParameters
from nirflow.exits import UsageError

Steps = Mapping[str, type[StepParameters]]

_LIMIT_SIGNS = {
    annotated_types.Gt: (">", "gt"),
    annotated_types.Ge: (">=", "ge"),
    annotated_types.Lt: ("<", "lt"),
    annotated_types.Le: ("<=", "le"),
}


class SettingError(UsageError):
    """A ``--set`` with an unknown parameter or an invalid value."""


@dataclass(frozen=True)
class ParameterInfo:
    """The description of one parameter. ``name`` is dotted if a step contains parameters of another."""

    step: str
    name: str
    unit: str
    default: Any
    limits: str
    meaning: str
    kind: str


def describe(step: str, model: type[BaseModel], *, prefix: str = "") -> list[ParameterInfo]:
    """Describe every parameter of a step's model, including those of nested models."""
    described: list[ParameterInfo] = []
    for name, info in model.model_fields.items():
        default = info.get_default(call_default_factory=True, validated_data={})
        if (inner := _inner_model(info)) is not None:
            described += [
                _with_default(each, default, prefix + name + ".")
                for each in describe(step, inner, prefix=f"{prefix}{name}.")
            ]
            continue
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        described.append(
            ParameterInfo(
                step=step,
                name=prefix + name,
                unit=str(extra.get("unit", "")),
                default=default,
                limits=limits(info),
                meaning=info.description or "",
                kind=_kind(info.annotation),
            )
        )
    return described


def _with_default(info: ParameterInfo, owner: Any, prefix: str) -> ParameterInfo:
    """Return the parameter with the default of the outer model, which may differ from the inner model's
    own.
    """
    value = owner
    for part in info.name.removeprefix(prefix).split("."):
        value = getattr(value, part, info.default)
    return ParameterInfo(**{**info.__dict__, "default": value})


def limits(info: FieldInfo) -> str:
    """Return the limits of a field as text: ``>= 0, <= 1`` or the choices."""
    choices = _choices(info.annotation)
    if choices:
        return " | ".join("none" if c is None else str(c) for c in choices)
    signs = [
        f"{sign} {getattr(mark, attribute):g}"
        for mark in info.metadata
        for kind, (sign, attribute) in _LIMIT_SIGNS.items()
        if isinstance(mark, kind)
    ]
    return ", ".join(signs)


def resolve(settings: Iterable[str], steps: Steps) -> dict[str, StepParameters]:
    """Turn ``step.parameter=value`` texts into the parameters of the steps that they change.

    Parameters
    ----------
    settings
        The texts. A nested parameter is dotted: ``dark.combine.low=4``.
    steps
        Model of each step.

    Returns
    -------
    dict
        Parameters of each step that was named: the defaults except for what was set.

    Raises
    ------
    SettingError
        With the valid names, or the parameter's unit and limits.
    """
    values: dict[str, dict[str, Any]] = {}
    seen: set[str] = set()
    for text in settings:
        path, sign, value = text.partition("=")
        step, dot, name = path.strip().partition(".")
        if not (sign and dot and name):
            raise SettingError(
                f"--set {text!r} is not of the form step.parameter=value.", remedy=_example(steps)
            )
        info = _find(step, name, steps)
        if path.strip() in seen:
            raise SettingError(f"--set sets {path.strip()} twice.", remedy="Set it once.")
        seen.add(path.strip())
        _put(values.setdefault(step, {}), name.split("."), _raw(value.strip(), info))
    return {step: _build(step, steps[step], changes) for step, changes in values.items()}


def _find(step: str, name: str, steps: Steps) -> ParameterInfo:
    if step not in steps:
        raise SettingError(f"Unknown step {step!r}.", remedy=did_you_mean(step, steps, "Steps"))
    known = {info.name: info for info in describe(step, steps[step])}
    if name not in known:
        raise SettingError(
            f"The step {step} has no parameter {name!r}.", remedy=did_you_mean(name, known, "Its parameters")
        )
    return known[name]


def _build(step: str, model: type[StepParameters], changes: dict[str, Any]) -> StepParameters:
    try:
        return model.model_validate(_merged(model().model_dump(include=set(changes)), changes))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        problem = first_problem(error)
        name = ".".join(str(part) for part in first["loc"] if isinstance(part, str))
        info = next(
            (i for i in describe(step, model) if name == i.name or name.startswith(i.name + ".")), None
        )
        if info is None:
            raise SettingError(
                f"The parameters of {step} are invalid: {problem}.",
                remedy=f"For the parameters and their limits: nirflow params {step}",
            ) from None
        raise SettingError(
            f"{step}.{info.name} cannot be {first['input']!r}: {problem}.", remedy=_wanted(info)
        ) from None


def first_problem(error: ValidationError) -> str:
    """Return pydantic's first complaint as part of a sentence."""
    message = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _wanted(info: ParameterInfo) -> str:
    parts = [f"It is {info.kind}"]
    if info.limits:
        parts.append(f"{'one of' if '|' in info.limits else 'limits'} {info.limits}")
    parts.append(f"in {info.unit}" if info.unit else "without a unit")
    return f"{', '.join(parts)}; default {shown(info.default)}."


def shown(value: object) -> str:
    """Return a parameter's value in the form that ``--set`` accepts."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (tuple, list)):
        return ",".join(shown(item) for item in value) or "[]"
    return str(value)


def _raw(text: str, info: ParameterInfo) -> Any:
    """Convert a text for pydantic, which has no text form for ``none`` and lists."""
    if text.lower() == "none" and "none" in info.kind:
        return None
    if "list" in info.kind and text != info.default:
        if text.startswith("["):
            try:
                return json.loads(text)
            except json.JSONDecodeError:
                raise SettingError(
                    f"{info.step}.{info.name}: {text!r} is not a list.", remedy=_wanted(info)
                ) from None
        return [part.strip() for part in text.split(",")]
    return text


def _put(values: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        values = values.setdefault(part, {})
    values[path[-1]] = value


def _merged(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for name, value in changes.items():
        inside = isinstance(value, dict) and isinstance(out.get(name), dict)
        out[name] = _merged(out[name], value) if inside else value
    return out


def did_you_mean(name: str, known: Iterable[str], heading: str) -> str:
    """``Did you mean dark? Steps: check, dark, ...``."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    guess = f"Did you mean {' or '.join(close)}? " if close else ""
    return f"{guess}{heading}: {', '.join(names)}."


def _example(steps: Steps) -> str:
    step = next(iter(steps))
    name = next((info.name for info in describe(step, steps[step])), "parameter")
    return f"For example --set {step}.{name}=...; nirflow params lists all of them."


def _inner_model(info: FieldInfo) -> type[BaseModel] | None:
    annotation = info.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _parts(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the annotation itself if it is not a union."""
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return tuple(p for member in typing.get_args(annotation) for p in _parts(member))
    return (annotation,)


def _choices(annotation: Any) -> tuple[Any, ...]:
    choices: tuple[Any, ...] = ()
    for part in _parts(annotation):
        if typing.get_origin(part) is typing.Literal:
            choices += typing.get_args(part)
        elif typing.get_origin(part) in (tuple, list, frozenset, set):
            inner = _choices(typing.get_args(part)[0])
            if not inner:  # any list is allowed, so the choices are not exhaustive
                return ()
            choices += inner
        elif part is type(None) and choices:
            choices += (None,)
    return choices


def _kind(annotation: Any) -> str:
    names = {
        bool: "true or false", int: "a whole number", float: "a number", str: "a text", type(None): "none",
    }  # fmt: skip
    named: list[str] = []
    for part in _parts(annotation):
        if typing.get_origin(part) in (tuple, list, frozenset, set):
            named.append("a list separated by commas")
        elif typing.get_origin(part) is typing.Literal:
            named.append("a text")
        else:
            named.append(names.get(part, getattr(part, "__name__", str(part))))
    return " or ".join(dict.fromkeys(named))
