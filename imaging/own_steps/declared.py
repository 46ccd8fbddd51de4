"""How a package declares a step of its own: the function, its typed parameters, its DQ bit, its time limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from imaging.own_steps.uses import Bit


@dataclass(frozen=True)
class Step:
    """A step that a package registers in the entry point group ``nirflow.steps``.

    Parameters
    ----------
    function
        Takes an `astropy.nddata.CCDData` as its first argument and returns one.
    parameters
        A pydantic model of its other arguments: what a user gives is checked against it before anything runs, and the
        function is called with all of its values. None: the function's own arguments.
    bit
        DQ bit of the pixels that the function masks: 1 for bad pixels, 8 for cosmic rays,
        16 for pixels without data.
    time_limit
        Seconds for one frame: the function then runs in a process of its own, which is ended after this time. None:
        no limit of its own.
    """

    function: Callable[..., Any]
    parameters: type[BaseModel] | None = None
    bit: Bit = 1
    time_limit: float | None = None
