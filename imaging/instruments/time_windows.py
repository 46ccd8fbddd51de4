"""How far apart in time frames and products may be: the windows of a table."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from imaging.kinds import CALIBRATION_FRAMES, Kind

#: Names of the time windows.
WindowName = Literal["gap", "group", "pair", "near", "wait", "serve"]


class Window(BaseModel):
    """How far apart in time the frames and products of a kind may be, days.

    Each has a different physical reason: whether frames are alike enough to be combined, whether two groups
    are alike enough to be subtracted, whether a product still describes the detector.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gap: float | None = Field(default=None, gt=0, description="a group ends at a longer gap than this")
    group: float | None = Field(default=None, gt=0, description="longest time span of a group")
    pair: float | None = Field(
        default=None, gt=0, description="maximum time between groups that are subtracted from each other"
    )
    near: float | None = Field(
        default=None,
        ge=0,
        description="maximum time between a night and the raw groups reduced with it",
    )
    wait: float | None = Field(default=None, gt=0, description="how long science frames wait for the product")
    serve: float | None = Field(
        default=None, gt=0, description="maximum time between a product and the frames that it is used for"
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for shorter, longer in (
            ("gap", "group"), ("group", "serve"), ("pair", "serve"), ("near", "serve"), ("wait", "serve"),
        ):  # fmt: skip
            short, long = getattr(self, shorter), getattr(self, longer)
            if short is not None and long is not None and short > long:
                raise ValueError(f"{shorter} is {short:g} days, longer than {longer}, {long:g} days")
        return self

    def days(self, name: WindowName) -> float:
        """Return a window that the table defines."""
        value = getattr(self, name)
        assert value is not None  # the instrument's check
        return float(value)


def needed_windows(kind: Kind) -> tuple[WindowName, ...]:
    """Return the windows that a table must define for a kind of product."""
    if kind.made_of:
        return ()
    needed: list[WindowName] = []
    if kind.name in CALIBRATION_FRAMES:
        needed += ["gap", "group", "near"]
    if not kind.is_calibration:
        return (*needed, "gap")
    if "flat" in kind.frames:  # made from groups that are subtracted from each other
        needed.append("pair")
    if kind.is_optional:  # nothing waits for it
        return (*needed, "serve")
    return (*needed, "wait", "serve")
