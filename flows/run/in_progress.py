"""A night that is being reduced: the input of its recipes, and the tasks that they have submitted so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect.futures import PrefectFuture

from calib_store.model.records import Product
from flows.recipes.night_plan import NightPlan
from flows.recipes.submissions import Submissions, Submitted
from flows.run.options import Options
from flows.run.redo import Redo
from flows.run.remake_plan import Remake
from flows.run.report import Kept
from tasks.support.references import LeftOut, Survey
from tasks.support.workspace import Workspace


@dataclass
class Night:
    """A night that is being reduced: the plan of its frames, the workspace, and the tasks so far.

    If products are made again, ``remakes`` describes how, ``kept`` lists those that are not, and ``remade``
    has each old product with the future of the new one.
    """

    survey: Survey
    plan: NightPlan
    options: Options
    workspace: Workspace
    left_out: list[LeftOut]
    redo: Redo | None = None
    remakes: Sequence[Remake] = ()
    kept: list[Kept] = field(default_factory=list)
    remade: list[tuple[Product, PrefectFuture[Any]]] = field(default_factory=list)
    submitted: list[Submitted] = field(default_factory=list)
    warnings: tuple[str, ...] = ()

    @property
    def submissions(self) -> Submissions:
        """The tasks so far, and what further ones are submitted with."""
        return Submissions(self.options.parameters, self.options.choice, self.workspace, self.submitted)
