"""The user's own steps as parameters: at which point which function is called with which arguments.

Nothing is imported here: a run that only reads parameters does not need the functions.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, Self, TypeGuard, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from imaging.parameters import StepParameters, in_order, parameter

#: A place between nirflow's own steps at which functions are called.
Point = Literal["after_detrend", "before_sky", "before_stack", "after_stack"]
POINTS: Final[tuple[Point, ...]] = get_args(Point)
#: DQ bits that a function may set: each excludes a pixel from sky and stack.
Bit = Literal[1, 8, 16, 32, 64]
#: Stands for no function where the settings file names some.
NO_STEP: Final = "none"
#: A function by its module, or a registered step by its name.
_FUNCTION: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*|[A-Za-z_][\w.-]*")
_ARGUMENT: Final = re.compile(r"\s*([A-Za-z_]\w*)\s*=\s*(.*?)\s*", re.DOTALL)
_OPENING, _CLOSING = "([{", ")]}"
_WORDS: Final[dict[str, Any]] = {"true": True, "false": False, "none": None, "null": None}


def _jsonable(value: Any, name: str) -> Any:
    if isinstance(value, (tuple, list)):
        return [_jsonable(one, name) for one in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _jsonable(one, name) for key, one in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"the value {value} of {name} is not finite")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"the value {value!r} of {name} is neither a number, a text, a list nor a table")


def _values(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: _jsonable(value, name) for name, value in arguments.items()}


class StepUse(BaseModel):
    """A function that is called at some point, with its arguments.

    It may be given as text: ``ccdproc:cosmicray_lacosmic(sigclip=5, readnoise=@read_noise)``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=in_order)

    function: str = Field(
        title="Function",
        description="package.module:function, or the name of a step that an installed package registers; arguments may "
        "follow in parentheses",
    )
    arguments: Annotated[dict[str, Any], AfterValidator(_values)] = Field(
        default_factory=dict,
        title="Arguments",
        description="arguments by name. @bpm, @dark, @flat, @object_mask, @read_noise, @gain, @saturation, @exposure, "
        "a product (@NAME) or a file (@/PATH) stand for what they name",
    )
    bit: Bit | None = Field(
        default=None,
        title="DQ bit",
        description="DQ bit of pixels that the function masks; default: that of the step, else 1 (bad), or 8 for "
        "ccdproc's cosmic rays",
    )
    time_limit: float | None = Field(
        default=None,
        gt=0,
        title="Time limit, s",
        description="the function runs in a process of its own, which is ended after this time, s; default: that of "
        "the step, else steps.time_limit",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        if isinstance(given, str):
            given = {"function": given}
        if not isinstance(given, dict) or not isinstance(given.get("function"), str):
            return given
        function, arguments = parse_use(given["function"])
        if both := sorted(arguments.keys() & (given.get("arguments") or {}).keys()):
            raise ValueError(f"the argument {both[0]} is given twice")
        return {**given, "function": function, "arguments": arguments | (given.get("arguments") or {})}

    @property
    def references(self) -> dict[str, str]:
        """The arguments that name something, without the @: by argument."""
        return {name: value[1:] for name, value in self.arguments.items() if is_reference(value)}

    def __str__(self) -> str:
        listed = ", ".join(f"{name}={_shown(value)}" for name, value in self.arguments.items())
        return f"{self.function}({listed})" if listed else self.function


def step_summary(use: StepUse, identity: Mapping[str, Any]) -> str:
    """Return a step in one line, with the package or the source that it was called from (`identity_of`)."""
    return f"{use} [{identity.get('distribution') or 'source ' + str(identity.get('source', ''))[:12]}]"


def is_reference(value: object) -> TypeGuard[str]:
    """Return whether the value of an argument names something: ``@bpm``. ``@@text`` stands for ``@text`` itself."""
    return isinstance(value, str) and value.startswith("@") and not value.startswith("@@")


def parse_use(text: str) -> tuple[str, dict[str, Any]]:
    """Return function and arguments of a text such as ``ccdproc:cosmicray_median(rbox=3, mbox=7)``.

    A value is a literal of Python or JSON, a reference that begins with @, or text without quotes.

    Raises
    ------
    ValueError
        If the text is not of that form.
    """
    function, sign, rest = text.strip().partition("(")
    function = function.strip()
    if not _FUNCTION.fullmatch(function):
        raise ValueError(f"{function!r} is neither package.module:function nor the name of a registered step")
    if not sign:
        return function, {}
    if not rest.endswith(")"):
        raise ValueError(f"the arguments of {function} do not end with a parenthesis")
    arguments: dict[str, Any] = {}
    for part in _parts(rest[:-1], function):
        found = _ARGUMENT.fullmatch(part)
        if found is None or not found[2]:
            raise ValueError(f"{part.strip()!r}, an argument of {function}, is not of the form name=value")
        if found[1] in arguments:
            raise ValueError(f"the argument {found[1]} of {function} is given twice")
        arguments[found[1]] = _value(found[2], found[1])
    return function, arguments


def _parts(text: str, function: str) -> Iterator[str]:
    """Yield what the commas outside of quotes and brackets separate."""
    depth, quote, begin, escaped = 0, "", 0, False
    for at, sign in enumerate(text):
        if quote:
            ends = sign == quote and not escaped
            escaped = sign == "\\" and not escaped
            quote = "" if ends else quote
        elif sign in "'\"":
            quote = sign
        elif sign in _OPENING or sign in _CLOSING:
            depth += 1 if sign in _OPENING else -1
        elif sign == "," and depth == 0:
            yield text[begin:at]
            begin = at + 1
    if depth or quote:
        raise ValueError(f"a bracket or quote in the arguments of {function} is not closed")
    if text[begin:].strip():
        yield text[begin:]


def _value(text: str, name: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if text.startswith("@"):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        if text[0] in "'\"([{":
            raise ValueError(f"the value {text} of {name} cannot be read") from None
        return text
    return _jsonable(value, name)


def _shown(value: Any) -> str:
    return value if is_reference(value) else repr(value)


def _list_of(point: str) -> Any:
    return parameter((), f"functions called, in order, {point}")


class OwnStepParameters(StepParameters):
    """The user's own functions, by the point at which they are called."""

    after_detrend: tuple[StepUse, ...] = _list_of(
        "with each detrended frame (electrons), before its sources are masked"
    )
    before_sky: tuple[StepUse, ...] = _list_of(
        "with each detrended frame (electrons) whose object mask is known, before its sky is subtracted"
    )
    before_stack: tuple[StepUse, ...] = _list_of(
        "with each sky-subtracted frame (electrons), before it is aligned and stacked"
    )
    after_stack: tuple[StepUse, ...] = _list_of(
        "with each stack (electrons), before its sources are detected and it is written"
    )
    time_limit: float | None = parameter(
        None,
        "time for one function and one frame, after which it is ended; it then runs in a process of its own. none: it "
        "runs in the task, without a limit",
        unit="s",
        gt=0,
    )

    def at(self, point: Point) -> tuple[StepUse, ...]:
        """Return the functions that are called at a point."""
        uses: tuple[StepUse, ...] = getattr(self, point)
        return () if [use.function for use in uses] == [NO_STEP] else uses

    @property
    def used(self) -> bool:
        """Whether any function is called."""
        return any(self.at(point) for point in POINTS)

    def over(self, base: OwnStepParameters) -> OwnStepParameters:
        """Return ``base`` with the points that are given here in place of its own, and the limit if there is one."""
        named: dict[str, Any] = {point: getattr(self, point) for point in POINTS if getattr(self, point)}
        if self.time_limit is not None:
            named["time_limit"] = self.time_limit
        return base.model_copy(update=named)

    def resolved(self) -> Self:
        """Return the same steps, with an empty list where ``none`` stands."""
        return self.model_copy(update={point: self.at(point) for point in POINTS})
