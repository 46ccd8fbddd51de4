"""The run of a recipe: survey and plan before it, the report after it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from prefect import runtime
from prefect.states import State

from calib_store.model.records import Run
from flows.recipes.all_recipes import RECIPES
from flows.recipes.submissions import Submitted
from flows.run.frames_had import frames_had
from flows.run.history import publish_history
from flows.run.in_progress import Night
from flows.run.options import Options
from flows.run.output_folders import make_writable
from flows.run.plan import plan_night
from flows.run.progress import progress_shown
from flows.run.redo import Redo, redo_of, replace_old
from flows.run.remake import submit_remakes
from flows.run.remake_plan import plan_remakes
from flows.run.report import Failure, Kept, NightReport, Replaced, Space
from flows.run.room import require_room, space_for
from flows.run.submit import submit_night
from flows.run.temporary_files import limit_temporary_files
from imaging.errors import MissingCalibrationError, NirflowError
from imaging.frames.find_files import find_files
from imaging.io.descriptors import raise_limit
from imaging.kinds import STACK, in_a_sentence
from imaging.machine import described, full_disk
from tasks.support.allocator import give_back_planes
from tasks.support.artifacts import key_of, markdown_table, plain, publish_markdown
from tasks.support.best_effort import best_effort
from tasks.support.references import (
    LeftOut,
    Note,
    ProductRef,
    Survey,
    gathered_left_out,
    gathered_notes,
)
from tasks.support.step import StepEvent, listening
from tasks.support.workspace import Workspace
from tasks.survey import survey_frames

logger = logging.getLogger(__name__)


def reduce_with(
    paths: Sequence[str | Path],
    out: str | Path,
    options: Options,
    label: str,
    *,
    sequence: str | None = None,
    missed: Sequence[LeftOut] = (),
    absent: Collection[str] = (),
) -> NightReport:
    """Survey and plan the frames, submit the tasks of all products, and report their outcome.

    The report is stored before anything is attempted that may fail. ``sequence`` is the name of the sequence,
    for a run on a single one; ``missed`` are known frames that were not found; ``absent`` are the sha256 of
    frames that it is for although they are not among ``paths``.
    """
    began = datetime.now(UTC)
    with timing() as seconds, night_of(paths, out, options, label) as night:
        night.left_out.extend(missed)
        with progress_shown(night.plan):
            if night.redo is None:
                submit_night(night)
            else:
                submit_remakes(night)
            report = report_of(night, began, seconds)
        _record(night, report, sequence, absent)
        with best_effort("The summary in the Prefect UI"):
            publish(report)
        with best_effort("The history of the figures in the Prefect UI"):
            publish_history(night.workspace.store(), [one for one in report.products if not one.reused])
        return report


@contextmanager
def night_of(paths: Sequence[str | Path], out: str | Path, options: Options, label: str) -> Iterator[Night]:
    """Find, survey and plan the frames; after the block, reduce the scratch to its limit."""
    give_back_planes()
    raise_limit()
    out = Path(out).expanduser().resolve()
    make_writable(out)
    workspace = options.workspace(out)
    files, passed_over = find_files(paths, recursive=options.recursive)
    make_writable(
        workspace.data_dir, "data folder", "Name another in NIRFLOW_DATA_DIR, or change its permissions."
    )
    redo = redo_of(workspace.store(), options.affected_by) if options.affected_by else None
    if redo is not None and not files:
        files = redo.paths()
    survey = survey_frames(files, label, options.parameters.check, workspace)
    workspace = workspace.model_copy(update={"left_out": survey.refused})
    night = _replanned(redo, survey, options, workspace) if redo else _planned(survey, options, workspace)
    room = require_room(night.plan, workspace)
    night.warnings = room.warnings
    night.workspace = workspace.model_copy(update={"scarce_scratch": room.scarce})
    for warning in night.warnings:
        logger.warning("%s", warning)
    night.left_out.extend(
        LeftOut(name=one.label, reason=f"in {one.folder}: {one.reason}", remedy=one.remedy)
        for one in passed_over
        if one.suspicious
    )
    for note in gathered_notes(_notes(night)):
        logger.info("Note, %s: %s.", note.label, note.text)
    for one in gathered_left_out(night.left_out):
        logger.info("Left out, %s: %s. %s", one.name, one.reason, one.remedy)
    counts = [f"{len(night.plan.of(kind))} {recipe.of_sets}" for kind, recipe in RECIPES.items()]
    logger.info(
        "%d frames, %d left out: %s to make",
        len(night.survey.frames), len(night.left_out), in_a_sentence(counts, "and"),
    )  # fmt: skip
    yield night
    with best_effort("Removing old scratch files"):
        limit_temporary_files(workspace)


def _planned(survey: Survey, options: Options, workspace: Workspace) -> Night:
    """Return the night of the given frames."""
    plan = plan_night(
        survey.frames,
        options.parameters,
        bands=options.bands,
        only=options.only,
        across_nights=options.across_nights,
        join=options.join,
    )
    return Night(survey, plan, options, workspace, [*survey.left_out, *plan.left_out])


def _replanned(redo: Redo, survey: Survey, options: Options, workspace: Workspace) -> Night:
    """Return the night of the products to make again, with their groups from the store."""
    survey = redo.limited(survey)
    # The survey may have found frames unusable that were usable earlier.
    known = workspace.store().frames.with_sha256s(redo.frames)
    again = plan_remakes(
        redo, survey.frames, known, options.parameters, bands=options.bands, only=options.only
    )
    # A certified product would be preferred to the one that replaces it.
    choice = options.choice.model_copy(update={"without": frozenset(p.id for p in redo.products)})
    options = options.model_copy(update={"choice": choice})
    return Night(
        survey, again.as_plan(), options, workspace, list(survey.left_out), redo, again.remakes, again.kept
    )


@contextmanager
def timing() -> Iterator[dict[str, float]]:
    """Sum the times of the steps, by kind of step."""
    sums: dict[str, float] = {}

    def note(event: StepEvent) -> None:
        if event.state != "started":
            sums[event.step] = sums.get(event.step, 0.0) + event.seconds

    with listening(note):
        yield sums


def report_of(night: Night, began: datetime, seconds: dict[str, float]) -> NightReport:
    """Wait for all tasks, supersede the products that were made again, and report all outcomes."""
    products, failures = outcomes_of(night.submitted)
    space = _lacked(products, failures, night)
    failures = [one if one.space is None else one.model_copy(update={"space": space}) for one in failures]
    replaced, kept = _replace(night)
    return NightReport(
        products=tuple(products),
        left_out=tuple(dict.fromkeys(night.left_out)),
        notes=_notes(night),
        failures=tuple(failures),
        replaced=tuple(
            dict.fromkeys(
                (
                    *replaced,
                    *(Replaced(old=old, new=one.name_and_id) for one in products for old in one.replaces),
                )
            )
        ),
        kept=(*night.kept, *kept),
        warnings=night.warnings,
        space=space,
        out=night.workspace.out,
        started=began,
        seconds=(datetime.now(UTC) - began).total_seconds(),
        step_seconds={name: round(value, 3) for name, value in sorted(seconds.items())},
        flow_run=str(runtime.flow_run.name or ""),
        url=str(runtime.flow_run.ui_url or ""),
    )


def outcomes_of(submitted: Sequence[Submitted]) -> tuple[list[ProductRef], list[Failure]]:
    """Wait for all tasks, and return the products and the failures."""
    products: list[ProductRef] = []
    failures: list[Failure] = []
    for task in submitted:
        task.future.wait()
        state = task.future.state
        if state.is_completed():
            result = _product_of(state)
            if result is not None:
                products.append(result)
        elif not task.minor and state.name != "NotReady":
            message = _message(state).removeprefix(f"{task.label}: ")
            failures.append(
                Failure(
                    step=task.step, label=task.label, message=message, waits_for=_waits_for(state),
                    space=_space(state),
                )
            )  # fmt: skip
    return products, failures


def _notes(night: Night) -> tuple[Note, ...]:
    """Return what the user should know about the frames and groups that are used."""
    of_groups = (
        Note(name=one.label, text=text, noun="group")
        for kind, recipe in RECIPES.items()
        for one in night.plan.of(kind)
        for text in recipe.notes(one)
    )
    of_remakes = (Note(name=one.old.name_and_id, text=text) for one in night.remakes for text in one.notes)
    return (*night.survey.notes, *of_groups, *of_remakes)


def _product_of(state: State[Any]) -> ProductRef | None:
    result = state.result(raise_on_failure=False)
    return result if isinstance(result, ProductRef) else None


def _replace(night: Night) -> tuple[Sequence[Replaced], Sequence[Kept]]:
    """Supersede the old products of a redo by the new ones; an error is reported."""
    if night.redo is None:
        return (), ()
    new = [(old, _product_of(future.state)) for old, future in night.remade if future.state.is_completed()]
    made = [(old, ref) for old, ref in new if ref is not None]
    replaced: list[Replaced] = []
    kept: list[Kept] = []
    for old, ref in made:
        try:
            done, stays = replace_old(night.workspace.store(), night.redo, [(old, ref)])
        except NirflowError as error:
            kept.append(
                Kept(old=old.name_and_id, reason=f"{ref.name_and_id} could not take its place: {error}")
            )
        else:
            replaced += done
            kept += stays
    return replaced, kept


def _message(state: State[Any]) -> str:
    error = state.result(raise_on_failure=False)
    if isinstance(error, BaseException):
        return described(error)
    return state.message or state.name or "it failed"


def _waits_for(state: State[Any]) -> str | None:
    error = state.result(raise_on_failure=False)
    return error.kind if isinstance(error, MissingCalibrationError) else None


def _space(state: State[Any]) -> Space | None:
    """Return the room that a failed task lacked on a full disk."""
    error = state.result(raise_on_failure=False)
    full = full_disk(error) if isinstance(error, BaseException) else None
    return None if full is None else Space(folder=full.folder, needed=full.needed or 0)


def _lacked(products: Sequence[ProductRef], failures: Sequence[Failure], night: Night) -> Space | None:
    """Return the room that is needed for what a full disk prevented; None if it prevented nothing."""
    full = [one.space for one in failures if one.space is not None]
    if not full and not any(lost.full_disk for ref in products for lost in ref.left_out):
        return None
    folder = next((one.folder for one in full if one.folder is not None), night.workspace.data_dir)
    needed = max(space_for(night.plan, night.workspace), *(one.needed for one in full), 0)
    return Space(folder=folder, needed=needed)


def _record(night: Night, report: NightReport, sequence: str | None, absent: Collection[str]) -> None:
    """Store the report under the nights of its science, else of its calibrations, else of all frames."""
    dated = {
        kind: [frame for one in night.plan.of(kind) for frame in recipe.dated_by(one)]
        for kind, recipe in RECIPES.items()
    }
    calibrations = [frame for frames in dated.values() for frame in frames]
    nights = sorted({f.facts.night for f in dated[STACK.name] or calibrations or night.survey.frames})
    if not nights and night.redo is not None:
        known = night.redo.frames.values()
        nights = sorted({frame.facts.night for frame in known if frame.facts is not None})
    if not nights:
        logger.warning(
            "No frame was usable, so the report belongs to no night and the store does not keep it"
        )
        return
    night.workspace.store().runs.add(
        Run(
            id=uuid4(),
            nights=tuple(nights),
            flow=str(runtime.flow_run.flow_name or ""),
            sequence=sequence,
            waits_for=report.awaited(by_science=sequence is not None),
            started=report.started,
            ended=datetime.now(UTC),
            report=report.model_dump(mode="json"),
            frames=frozenset({*frames_had(night, report, sequence), *night.survey.refused, *absent}),
        )
    )


def publish(report: NightReport, title: str = "Night") -> None:
    """Publish the summary as an artifact of the flow run."""
    if not runtime.flow_run.id:
        return
    rows = [
        (
            p.name,
            len(p.inputs),
            ", ".join(p.calibrations),
            "reused" if p.reused else "built",
            f"{p.seconds:.1f}",
        )
        for p in report.products
    ]
    table = markdown_table(("product", "frames", "made with", "state", "time, s"), rows)
    lines = [f"# {title} in {plain(report.out.name)}", "", table, ""]
    lines += [f"- superseded: {plain(one.old)}, by {plain(one.new)}" for one in report.replaced]
    lines += [f"- **not replaced**: {plain(one.old)}: {plain(one.reason)}" for one in report.kept]
    lines += [f"- **incomplete**: {plain(report.frames_lost(ref))}" for ref in report.lacking]
    lines += [f"- **failed**: {plain(f.label)}: {plain(f.message)}" for f in report.failures]
    lines += [
        f"- left out: {plain(one.name)}: {plain(one.reason)}" for one in gathered_left_out(report.left_out)
    ]
    notes = gathered_notes(report.notes)
    lines += [f"- note: {plain(one.label)}: {plain(one.text)}" for one in notes]
    publish_markdown(
        key_of(title.lower(), report.out.name), "\n".join(lines), f"The {title.lower()}'s results"
    )
