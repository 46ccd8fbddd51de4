"""A step of the user's own imported, and its arguments checked against the function, before anything is computed."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError

from imaging.own_steps.declared import Step
from imaging.own_steps.registered import OwnStepError, entry_point_of
from imaging.own_steps.uses import Bit, StepUse, is_reference
from imaging.pixels.dq import DQ


@dataclass(frozen=True)
class LoadedStep:
    """A step ready to be called.

    Attributes
    ----------
    use
        The step as requested.
    name
        Its short name, for the Prefect UI and messages.
    function
        The function itself.
    arguments
        The arguments with their defaults by the step's model; those that name something still as ``@name``.
    bit
        DQ bit of the pixels that it masks.
    time_limit
        Seconds for one frame; None: no limit.
    distribution
        The package that registers it; empty for a function that is named by its module.
    module
        The module in which it was found, which may be another than that of the function.
    """

    use: StepUse
    name: str
    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    bit: Bit
    time_limit: float | None
    distribution: str = ""
    module: str = ""


def load(use: StepUse, time_limit: float | None = None) -> LoadedStep:
    """Import the function of a step and check its arguments.

    Parameters
    ----------
    use
        The step.
    time_limit
        Seconds for a step that has no limit of its own.

    Raises
    ------
    OwnStepError
        If it cannot be imported, is no function, or does not take the arguments.
    """
    distribution = ""
    if ":" in use.function:
        name, path = use.function.rpartition(":")[2].rpartition(".")[2], use.function
        found = _imported(path)
    else:
        point = entry_point_of(use.function)
        distribution = point.dist.name if point.dist is not None else ""
        name, path = use.function, f"{point.module}:{point.attr}"
        found = _imported(path, f"{use.function} ({distribution})")
    declared = found if isinstance(found, Step) else Step(found, bit=_bit_of(found))
    if not callable(declared.function) or inspect.isclass(declared.function):
        raise OwnStepError(
            f"The step {use.function} is {_what(declared.function)}, not a function.",
            remedy="Name a function that takes a CCDData and returns one: package.module:function.",
        )
    _check_declared(use, declared)
    arguments = _arguments(use, declared)
    _check_signature(use, declared, arguments)
    limit = use.time_limit or declared.time_limit or time_limit
    bit, module = use.bit or declared.bit, path.partition(":")[0]
    return LoadedStep(use, name, declared.function, arguments, bit, limit, distribution, module)


def _check_declared(use: StepUse, declared: Step) -> None:
    """Refuse what a package declares with its step, if it is invalid: nothing else checks it."""
    if declared.bit not in get_args(Bit):
        raise OwnStepError(
            f"The step {use.function} declares the DQ bit {declared.bit}.",
            remedy="A step sets one of 1 (bad), 8 (cosmic ray), 16 (no data), 32 (overlap) and 64 (not illuminated).",
        )
    limit, model = declared.time_limit, declared.parameters
    if limit is not None and not (isinstance(limit, (int, float)) and 0 < limit < math.inf):
        raise OwnStepError(
            f"The step {use.function} declares the time limit {limit!r}.",
            remedy="A time limit is a number of seconds above 0, or None.",
        )
    if model is not None and not (inspect.isclass(model) and issubclass(model, BaseModel)):
        raise OwnStepError(
            f"The parameters that the step {use.function} declares are {_what(model)}, not a model.",
            remedy="Give the class itself, which is derived from pydantic.BaseModel.",
        )


def _imported(function: str, shown: str = "") -> Any:
    module, _, path = function.partition(":")
    shown = shown or function
    try:
        found: Any = import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever it is, and whether or not it would end the program
        raise OwnStepError(
            f"The step {shown} cannot be imported: {type(error).__name__}: {error}.",
            remedy=f"Install its package in nirflow's environment, or put the folder of {module} on PYTHONPATH (also "
            "that of the service). The working folder is not searched.",
        ) from error
    for part in path.split("."):
        if not hasattr(found, part):
            named = [n for n in vars(found) if not n.startswith("_") and inspect.isroutine(getattr(found, n))]
            listed = f" Its functions: {', '.join(sorted(named)[:20])}." if named else ""
            raise OwnStepError(
                f"The step {shown} cannot be imported: {module} has no {part!r}.",
                remedy=f"Correct the name.{listed}",
            )
        found = getattr(found, part)
    return found


def _bit_of(function: Any) -> Bit:
    """Return the bit of a function that declares none: ccdproc's search for cosmic rays is known."""
    module, name = (str(getattr(function, what, "")) for what in ("__module__", "__name__"))
    of_rays = module.partition(".")[0] == "ccdproc" and name.startswith("cosmicray")
    return cast(Bit, int(DQ.COSMIC_RAY if of_rays else DQ.BAD_PIXEL))


def _arguments(use: StepUse, declared: Step) -> dict[str, Any]:
    """Return the arguments, with the defaults of the step's model and its types."""
    if declared.parameters is None:
        return dict(use.arguments)
    fields = declared.parameters.model_fields
    outside = {n: v for n, v in use.arguments.items() if is_reference(v) and n not in fields}
    try:
        model = declared.parameters.model_validate(
            {n: v for n, v in use.arguments.items() if n not in outside}, extra="forbid"
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        known = ", ".join(fields) or "none"
        raise OwnStepError(
            f"The argument {name} of the step {use.function} is invalid: {first['msg']}.",
            remedy=f"Its arguments: {known}.",
        ) from error
    return {n: getattr(model, n) for n in fields} | outside


def _check_signature(use: StepUse, declared: Step, arguments: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(declared.function)
    except (TypeError, ValueError):  # compiled code may have none: the call itself then checks
        return
    first, others = next(iter(signature.parameters.values()), None), [*signature.parameters.values()][1:]
    kinds = inspect.Parameter
    if first is None or first.kind in (kinds.KEYWORD_ONLY, kinds.VAR_KEYWORD):
        raise OwnStepError(
            f"The step {use.function} takes no frame: its arguments are {signature}.",
            remedy="Its first argument has to be the frame, a CCDData.",
        )
    takes_any = any(one.kind is kinds.VAR_KEYWORD for one in others)
    by_name = {
        one.name: one for one in others if one.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    }
    known = f"Its arguments after the frame: {', '.join(by_name) or 'none'}."
    for name in arguments:
        if name not in by_name and not (takes_any and name != first.name):
            raise OwnStepError(f"The step {use.function} has no argument {name!r}.", remedy=known)
    lacking = [n for n, one in by_name.items() if one.default is kinds.empty and n not in arguments]
    if lacking:
        raise OwnStepError(
            f"The step {use.function} needs a value for {' and '.join(lacking)}.",
            remedy=f"Write {use.function}({lacking[0]}=...). {known}",
        )


def _what(found: Any) -> str:
    return f"the class {found.__name__}" if inspect.isclass(found) else f"of the type {type(found).__name__}"
