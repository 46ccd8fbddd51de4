"""The content of a night's page, collected from the store."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from pydantic import ValidationError

from calib_store.model.records import Frame, Run
from calib_store.store import Store
from flows.page.choices import with_choices
from flows.page.model import NightFrame, NightPage, NightProduct, RunOutcome
from flows.page.outcomes import Results, kind_of, left_out_of, outcomes, planned, results_of
from flows.page.products import describe_products, stored_products
from flows.recipes.night_plan import NightPlan
from flows.run.plan import plan_night
from flows.run.report import NightReport
from imaging.errors import NirflowError
from imaging.kinds import PRODUCT_KINDS, STACK
from tasks.support.parameters import ReductionParameters
from tasks.support.references import LeftOut, RawFrame

#: The end of the address of a run's page in the Prefect UI.
_RUN_PAGE: Final = re.compile(r"/(?:flow-runs|runs)/(?:flow-run/)?([0-9A-Za-z-]+)\Z")
#: Kinds of product in order of interest: each before those that it is made with.
_ORDER: Final = tuple(reversed(PRODUCT_KINDS))
#: What to do about a frame in quarantine.
QUARANTINE_REMEDY: Final = "Fetch or correct its file: a file that changes is examined again."


class UnknownNightError(NirflowError):
    """The store knows nothing about a night."""


def collect_night(store: Store, night: date, *, choices: bool = True) -> NightPage:
    """Collect the content of a night's page from the store.

    Parameters
    ----------
    store
        The store. It is not changed, except that a product whose file is found damaged is set aside.
    night
        Night, as the observatory names it.
    choices
        Whether the groups have their calibrations and why no others were chosen, which takes most of the time.

    Raises
    ------
    UnknownNightError
        If the store knows neither a frame nor a run of that night.
    """
    # A frame in quarantine without a file was replaced by a better one.
    found = [f for f in store.frames.of_nights(night, night) if f.quarantine is None or f.paths]
    runs = store.runs.of_night(night)
    refused = store.frames.refused_of_nights(night, night)
    if not found and not runs and not refused:
        raise UnknownNightError(
            f"The store knows no raw frame of the night {night}, and no run for it.",
            remedy="Reduce the night's frames first (nirflow reduce), or name another night.",
        )
    frames = _frames(store, found)
    reports = [read_report(run) for run in runs]
    held = results_of(reports)
    refs = {UUID(ref.id): ref for ref in (*held.earlier, *(ref for _, ref in held.products))}
    stored = stored_products(store, night, refs, {frame.sha256 for frame in frames})
    others = {one for raw in stored.frames.values() for one in raw}.difference(f.sha256 for f in frames)
    elsewhere = _frames(store, store.frames.with_sha256s(sorted(others)).values())
    known = (*frames, *elsewhere)
    names = {frame.sha256: frame.name for frame in known}
    own = {frame.sha256 for frame in frames}
    described = (
        describe_products(store, id_, refs.get(id_), stored, names) for id_ in {**refs, **stored.products}
    )
    products = {one.id: one for one in described if not _of_another_night(one, own)}
    earlier = tuple(products.pop(UUID(ref.id)) for ref in held.earlier if UUID(ref.id) in products)
    plan = _plan(known)
    attempts = {(kind_of(one), one.label): runs[number].started for number, one in held.failures}
    groups = tuple(
        replace(group, attempted=attempts.get((group.kind, group.label)))
        for group in outcomes(planned(plan, names, own), held, products, own)
    )
    by_sha256 = {frame.sha256: frame for frame in known}
    return NightPage(
        night=night,
        frames=frames,
        others=elsewhere,
        groups=tuple(with_choices(store, group, by_sha256) for group in groups) if choices else groups,
        products=tuple(sorted(products.values(), key=_place)),
        earlier=earlier,
        left_out=_left_out(reports, held, frames, None if runs else plan, refused),
        replaced=_replaced(reports),
        runs=tuple(
            _run(run, report, {frame.name for frame in frames})
            for run, report in zip(runs, reports, strict=True)
        ),
    )


def read_report(run: Run) -> NightReport | None:
    """Return the report of a run; None if another version of nirflow wrote it in a different format."""
    try:
        return NightReport.model_validate(run.report)
    except ValidationError:
        return None


def run_address(text: str) -> str:
    """Return the address of a run relative to the page of a night, from that of its page in the Prefect UI.

    It holds wherever the UI and the page are served from; it is empty for any other text.
    """
    found = _RUN_PAGE.search(text.strip())
    return f"../../runs/flow-run/{found[1]}" if found is not None else ""


def _frames(store: Store, found: Iterable[Frame]) -> tuple[NightFrame, ...]:
    known = [(frame, frame.facts) for frame in found if frame.facts is not None]
    rejections = store.frames.rejections([frame.sha256 for frame, _ in known])
    frames = []
    for frame, facts in known:
        problem = frame.quarantine or ""
        remedy = QUARANTINE_REMEDY if problem else ""
        if rejection := rejections.get(frame.sha256):
            problem = f"rejected by {rejection.author} on {rejection.changed_at:%Y-%m-%d}: {rejection.reason}"
            remedy = f'If it is good after all: nirflow cal reinstate {frame.name} --reason "..."'
        frames.append(NightFrame(facts, frame.sha256, frame.paths, problem, remedy, frame.added_at))
    return tuple(frames)


def _plan(known: tuple[NightFrame, ...]) -> NightPlan:
    """Return the plan that the frames allow with default parameters.

    A plan identifies frames by name, the store by sha256: here the sha256 is used as the name.
    """
    names = {frame.sha256: frame.name for frame in known}
    raw = [
        RawFrame(
            path=Path(frame.name),
            source=Path(frame.name),
            sha256=frame.sha256,
            facts=frame.facts.model_copy(update={"name": frame.sha256}),
        )
        for frame in sorted(known, key=lambda one: (one.facts.started, one.name))
        if not frame.problem
    ]
    plan = plan_night(raw, ReductionParameters())
    left_out = (
        one.model_copy(update={"name": ", ".join(names.get(part, part) for part in one.name.split(", "))})
        for one in plan.left_out
    )
    return replace(plan, left_out=tuple(left_out))


def _left_out(
    reports: list[NightReport | None],
    held: Results,
    frames: Iterable[NightFrame],
    plan: NightPlan | None,
    refused: Iterable[Frame],
) -> tuple[LeftOut, ...]:
    """Return what runs left out or will leave out: groups that are too small, frames that cannot be used."""
    kept = [*left_out_of(reports, held), *(plan.left_out if plan is not None else ())]
    there = {one.name for one in kept}
    for frame in frames:
        unfit = frame.problem or frame.facts.unfit()
        if unfit and frame.name not in there:
            kept.append(LeftOut(name=frame.name, reason=unfit, expected=not frame.problem))
    for one in refused:
        names = {path.name for path in one.paths} - there
        reason = one.quarantine or ""
        kept += [LeftOut(name=name, reason=reason, remedy=QUARANTINE_REMEDY) for name in sorted(names)]
    return tuple(dict.fromkeys(kept))


def _replaced(reports: Iterable[NightReport | None]) -> tuple[tuple[str, str], ...]:
    """Return the products that runs superseded and their successors, except those reinstated later."""
    found: dict[str, str] = {}
    for report in reports:
        for one in report.replaced if report is not None else ():
            found.pop(one.new, None)
            found[one.old] = one.new
    return tuple(found.items())


def _place(product: NightProduct) -> tuple[Any, ...]:
    kind = _ORDER.index(product.kind) if product.kind in _ORDER else len(_ORDER)
    return kind, product.inputs[:1], product.name, product.id


def _of_another_night(product: NightProduct, own: Collection[str]) -> bool:
    """Return whether a product is a stack of other nights, made by a run over several."""
    return (
        product.kind == STACK.name
        and bool(product.sources)
        and not any(one in own for one in product.sources)
    )


def _run(run: Run, report: NightReport | None, own: Collection[str]) -> RunOutcome:
    """Return a run as one line, with its frames and stacks of the night, whose frames have the names ``own``."""
    made = report.products if report is not None else ()
    used = {name for ref in made for name in ref.inputs if name in own}
    return RunOutcome(
        flow=run.flow,
        name=report.flow_run if report is not None else "",
        sequence=run.sequence or "",
        started=run.started,
        seconds=(run.ended - run.started).total_seconds(),
        made=sum(not ref.reused for ref in report.products) if report is not None else 0,
        reused=sum(ref.reused for ref in report.products) if report is not None else 0,
        failed=len((*report.failed, *report.kept, *report.lacking)) if report is not None else 0,
        waiting=len(report.failures) - len(report.failed) if report is not None else 0,
        frames=len(used),
        stacks=sum(ref.kind == STACK.name and not used.isdisjoint(ref.inputs) for ref in made),
        out=str(report.out) if report is not None else "",
        url=run_address(report.url) if report is not None else "",
        steps=tuple(report.step_seconds.items()) if report is not None else (),
        readable=report is not None,
    )
