"""The progress of a run, as an artifact in the Prefect UI."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from prefect import runtime
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flows.recipes.all_recipes import RECIPES
from flows.recipes.night_plan import NightPlan
from imaging.own_steps.uses import POINTS
from tasks.support.best_effort import best_effort
from tasks.support.step import StepEvent, listening

#: Time between two updates, each of which is a request to the server, s.
_PAUSE: Final = 2.0
_WHAT: Final = "The progress in the Prefect UI"
#: Steps that are not counted because they take no time, or are not known from the plan: the user's own.
_QUIET: Final = ("survey", "choose", "exposures", "preview", "write", *POINTS)


def expected_steps(plan: NightPlan) -> int:
    """Return how many steps a plan takes if nothing can be reused."""
    return sum(recipe.steps(one) for kind, recipe in RECIPES.items() for one in plan.of(kind))


@contextmanager
def progress_shown(plan: NightPlan) -> Iterator[None]:
    """Show how many of the plan's steps are done; it jumps when results are reused."""
    total = expected_steps(plan)
    if not runtime.flow_run.id or not total:
        yield
        return
    shown: _Progress | None = None
    with best_effort(_WHAT):
        shown = _Progress(create_progress_artifact(0.0, description=f"{total} steps"), total)
    if shown is None:
        yield
        return
    with listening(shown.note):
        yield
    with best_effort(_WHAT):
        update_progress_artifact(shown.artifact, progress=100.0)


class _Progress:
    """A counter of finished steps that reports to the server at intervals; steps end in several threads."""

    def __init__(self, artifact: Any, total: int) -> None:
        self.artifact, self._total = artifact, total
        self._done, self._reported_at = 0, time.monotonic()
        self._lock = threading.Lock()

    def note(self, event: StepEvent) -> None:
        if event.state in ("started", "part") or event.step in _QUIET:
            return
        with self._lock:
            self._done += 1
            now = time.monotonic()
            if now - self._reported_at < _PAUSE:
                return
            self._reported_at, part = now, min(99.0, 100 * self._done / self._total)
        with best_effort(_WHAT):
            update_progress_artifact(self.artifact, progress=round(part, 1))
