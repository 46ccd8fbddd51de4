"""Limits set by the user: when figures of several frames in succession are beyond one, and when they are back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from deployments.settings.judge_settings import JudgeSettings
from imaging.figures import as_text
from imaging.quick_look.frame_figures import FrameFigures, FrameValues


@dataclass(frozen=True)
class _Kind:
    """A figure with a limit: how it is read from a frame, whether more is worse, its name and unit in messages."""

    value: Callable[[FrameValues], float | None]
    more_is_worse: bool
    label: str
    unit: str = ""


#: By the name of the setting.
_KINDS: Final[dict[str, _Kind]] = {
    "seeing": _Kind(lambda one: one.seeing_at_zenith, True, "seeing at the zenith", " arcsec"),
    "ellipticity": _Kind(lambda one: one.ellipticity, True, "ellipticity"),
    "sky": _Kind(lambda one: one.sky_brightness, False, "sky", " mag/arcsec2"),
    "transparency": _Kind(lambda one: one.transparency, False, "transparency"),
    "saturated": _Kind(lambda one: one.saturated, True, "fraction of saturated pixels"),
    "pointing": _Kind(lambda one: one.pointing_error, True, "pointing error", " arcsec"),
}


@dataclass(frozen=True)
class Crossing:
    """A limit that was crossed.

    Attributes
    ----------
    name
        Name of the setting: seeing.
    limit
        Its value.
    values
        The figures of the last frames, the earliest first.
    frames
        Their names.
    text
        What happened, in one sentence.
    """

    name: str
    limit: float
    values: tuple[float, ...]
    frames: tuple[str, ...]
    text: str


@dataclass
class _Run:
    """The last frames on one side of a limit, and on which side the state is."""

    beyond: bool = False
    others: list[tuple[str, float]] = field(default_factory=list)


class Limits:
    """The state of all limits. A crossing is reported once, and again only after a recovery.

    Only frames in which a figure could be measured count; darks and flats do not interrupt a succession.

    Parameters
    ----------
    settings
        The limits, and how many frames in succession it takes either way.
    """

    def __init__(self, settings: JudgeSettings) -> None:
        self._frames = settings.frames
        self._limits = {
            name: float(value) for name in _KINDS if (value := getattr(settings, name)) is not None
        }
        self._runs = {name: _Run() for name in self._limits}

    def replay(self, frames: Iterable[FrameFigures]) -> None:
        """Take in frames that were judged before, without reporting anything."""
        for one in frames:
            self.take(one)

    def take(self, frame: FrameFigures) -> tuple[Crossing, ...]:
        """Take in a frame, and return the limits that it crossed."""
        crossed = []
        for name, limit in self._limits.items():
            kind, run = _KINDS[name], self._runs[name]
            value = kind.value(frame.values) if frame.kind == "object" and not frame.problem else None
            if value is None:
                continue
            beyond = value > limit if kind.more_is_worse else value < limit
            if beyond == run.beyond:
                run.others.clear()
                continue
            run.others.append((frame.name, value))
            if len(run.others) < self._frames:
                continue
            last, run.others, run.beyond = tuple(run.others), [], beyond
            if beyond:
                crossed.append(_crossing(name, limit, last))
        return tuple(crossed)


def _crossing(name: str, limit: float, last: tuple[tuple[str, float], ...]) -> Crossing:
    kind = _KINDS[name]
    values = ", ".join(as_text(value, 3) for _, value in last)
    side = "above" if kind.more_is_worse else "below"
    names = tuple(one.removesuffix(".fits") for one, _ in last)
    shown = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    text = f"The {kind.label} is {side} {limit:g}{kind.unit} in {shown}: {values}{kind.unit}."
    return Crossing(name, limit, tuple(value for _, value in last), names, text)
