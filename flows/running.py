"""What every flow does around its recipe: survey and plan before it, the report after it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from prefect import runtime
from prefect.artifacts import create_markdown_artifact
from prefect.futures import PrefectFuture
from prefect.states import State
from pydantic import Field

from calib_store.settings import StoreSettings
from flows.folders import make_writable
from flows.plan import NightPlan, Target, plan_night
from flows.report import Failure, NightReport
from imaging.bands import DEFAULT_MEMORY, thread_count
from imaging.errors import NirflowError
from imaging.files import find_files
from imaging.scratch import prune
from tasks.allocator import give_back_planes
from tasks.artifacts import plain
from tasks.choose import Choice
from tasks.parameters import ReductionParameters
from tasks.references import LeftOut, ProductRef, Reference
from tasks.step import StepEvent, listening
from tasks.survey import survey_frames
from tasks.workspace import DEFAULT_SCRATCH_LIMIT, Workspace

logger = logging.getLogger(__name__)


#: Scratch that was used this lately stays whatever its size: another run may be at it, s.
_SCRATCH_GRACE: Final = 3600.0


class Options(Reference):
    """What may be said about a reduction besides what and where."""

    bands: tuple[str, ...] = Field(default=(), description="filters to reduce; all without any")
    only: tuple[Target, ...] = Field(default=(), description="products wanted, with what they need")
    parameters: ReductionParameters = Field(default=ReductionParameters(), description="parameters by step")
    choice: Choice = Field(default=Choice(), description="calibrations named, or done without")
    recursive: bool = Field(default=False, description="search the folders below a folder too")
    overwrite: bool = Field(default=False, description="replace files of other content in the output folder")
    previews: bool = Field(default=True, description="write a PNG beside each product")
    data_dir: Path | None = Field(default=None, description="the store's folder; from the settings without")
    threads: int | None = Field(default=None, ge=1, description="threads; as many as cores without")
    memory: int = Field(default=DEFAULT_MEMORY, ge=2**20, description="bytes for the bands in work")
    scratch_limit: int = Field(default=DEFAULT_SCRATCH_LIMIT, ge=0, description="bytes of scratch to keep")

    def limited_to(self, target: Target) -> Options:
        """The same for one kind of product, and what it needs."""
        return self.model_copy(update={"only": (target,)})


@dataclass(frozen=True)
class Submitted:
    """A task in work: the step and what it works on, for the report of a failure."""

    step: str
    label: str
    future: PrefectFuture[Any]
    minor: bool = False


@dataclass
class Night:
    """A night in work: its frames' plan, the workspace, and the tasks so far."""

    plan: NightPlan
    options: Options
    workspace: Workspace
    left_out: list[LeftOut]
    submitted: list[Submitted] = field(default_factory=list)

    @property
    def parameters(self) -> ReductionParameters:
        """The parameters of all steps."""
        return self.options.parameters

    def add(self, step: str, label: str, future: PrefectFuture[Any], *, minor: bool = False) -> Any:
        """Note a task; a ``minor`` one may fail without its group failing. Returns the future."""
        self.submitted.append(Submitted(step, label, future, minor))
        return future


def reduce_with(
    submit: Callable[[Night], object],
    paths: Sequence[str | Path],
    out: str | Path,
    options: Options,
    label: str,
) -> NightReport:
    """Survey and plan the frames, have ``submit`` submit its tasks, and report what became of them."""
    began = datetime.now(UTC)
    with timing() as seconds, night_of(paths, out, options, label) as night:
        submit(night)
        return report_of(night, began, seconds)


@contextmanager
def night_of(paths: Sequence[str | Path], out: str | Path, options: Options, label: str) -> Iterator[Night]:
    """Find the frames, survey and plan them; after the body the scratch is kept within its limit."""
    give_back_planes()
    out = Path(out).expanduser().resolve()
    make_writable(out)
    workspace = Workspace(
        data_dir=(options.data_dir or StoreSettings().data_dir).expanduser().resolve(),
        out=out,
        threads=options.threads or thread_count(),
        memory=options.memory,
        scratch_limit=options.scratch_limit,
        overwrite=options.overwrite,
        previews=options.previews,
    )
    files = find_files(paths, recursive=options.recursive)
    make_writable(
        workspace.data_dir, "data folder", "Name another in NIRFLOW_DATA_DIR, or change its permissions."
    )
    survey = survey_frames(files, label, options.parameters.check, workspace)
    plan = plan_night(survey.frames, options.parameters, bands=options.bands, only=options.only)
    logger.info(
        "%d frames, %d left out: %d darks, %d bad pixel masks, %d flats and %d science groups to make",
        len(survey.frames), len(survey.left_out), len(plan.darks), len(plan.bpms), len(plan.flats),
        len(plan.science),
    )  # fmt: skip
    yield Night(plan, options, workspace, [*survey.left_out, *plan.left_out])
    idle = time.time() - _SCRATCH_GRACE
    for scratch in (workspace.scratch, workspace.unpacked):
        prune(scratch, workspace.scratch_limit, before=idle)


@contextmanager
def timing() -> Iterator[dict[str, float]]:
    """Sum the time of the steps, by kind of step."""
    sums: dict[str, float] = {}

    def note(event: StepEvent) -> None:
        if event.state != "started":
            sums[event.step] = sums.get(event.step, 0.0) + event.seconds

    with listening(note):
        yield sums


def report_of(night: Night, began: datetime, seconds: dict[str, float]) -> NightReport:
    """Wait for all tasks and tell what became of them."""
    products: list[ProductRef] = []
    failures: list[Failure] = []
    for task in night.submitted:
        task.future.wait()
        state = task.future.state
        if state.is_completed():
            result = state.result(raise_on_failure=False)
            if isinstance(result, ProductRef):
                products.append(result)
        elif not task.minor and state.name != "NotReady":
            message = _message(state).removeprefix(f"{task.label}: ")
            failures.append(Failure(step=task.step, label=task.label, message=message))
    report = NightReport(
        products=tuple(products),
        left_out=tuple(dict.fromkeys(night.left_out)),
        failures=tuple(failures),
        out=night.workspace.out,
        started=began,
        seconds=(datetime.now(UTC) - began).total_seconds(),
        step_seconds={name: round(value, 3) for name, value in sorted(seconds.items())},
        flow_run=str(runtime.flow_run.name or ""),
        url=str(runtime.flow_run.ui_url or ""),
    )
    _publish(report)
    return report


def _message(state: State[Any]) -> str:
    error = state.result(raise_on_failure=False)
    if isinstance(error, NirflowError):
        return str(error)
    if isinstance(error, BaseException):
        return f"{type(error).__name__}: {error}"
    return state.message or state.name or "it failed"


def _publish(report: NightReport) -> None:
    """The summary as an artifact of the flow run."""
    if not runtime.flow_run.id:
        return
    head = ("| product | frames | made with | state | s |", "|---|---|---|---|---|")
    lines = [f"# Night in {plain(report.out.name)}", "", *head]
    lines += [
        f"| {plain(p.name)} | {len(p.inputs)} | {', '.join(p.calibrations)} | {'reused' if p.reused else 'built'} "
        f"| {p.seconds:.1f} |"
        for p in report.products
    ]
    lines += [f"- **failed**: {plain(f.label)}: {plain(f.message)}" for f in report.failures]
    lines += [f"- left out: {plain(one.name)}: {plain(one.reason)}" for one in report.left_out]
    create_markdown_artifact(key="night", markdown="\n".join(lines), description="What the night gave")
