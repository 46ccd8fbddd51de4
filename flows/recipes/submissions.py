"""The tasks that a run has submitted, and with what: parameters, the user's choice, the workspace."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from prefect.futures import PrefectFuture

from tasks.choose import Choice
from tasks.support.parameters import ReductionParameters
from tasks.support.workspace import Workspace


@dataclass(frozen=True)
class Submitted:
    """A submitted task: its step and its label, for the report of a failure."""

    step: str
    label: str
    future: PrefectFuture[Any]
    minor: bool = False


@dataclass(frozen=True)
class Submissions:
    """The tasks of a run so far, and what further ones are submitted with.

    Attributes
    ----------
    parameters
        The parameters of all steps.
    choice
        The user's decisions about calibrations.
    workspace
        Where the tasks work.
    tasks
        The submitted tasks, in order.
    stacks, standards
        Those that make stacks, and those of standard fields among them, for which other fields wait.
    """

    parameters: ReductionParameters
    choice: Choice
    workspace: Workspace
    tasks: list[Submitted]
    stacks: list[PrefectFuture[Any]] = field(default_factory=list)
    standards: list[PrefectFuture[Any]] = field(default_factory=list)

    def add(self, step: str, label: str, future: PrefectFuture[Any], *, minor: bool = False) -> Any:
        """Record a task and return its future; a ``minor`` task may fail without failing its group."""
        self.tasks.append(Submitted(step, label, future, minor))
        return future
