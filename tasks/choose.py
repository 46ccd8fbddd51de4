"""The choice of calibrations for a group of frames: by the store's rules, or by the user."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from uuid import UUID

from prefect import runtime
from pydantic import BaseModel, ConfigDict, Field

from calib_store.choice.matching import REMADE
from calib_store.curation.objections import objections
from calib_store.curation.usability import why_unusable
from calib_store.exchange.adopt import GIVEN, adopt
from calib_store.model.records import Decision, Match, Override, Product
from calib_store.rules.rules import differences
from calib_store.store import Store
from calib_store.tables.variants import differences as differences_of_parameters
from calib_store.user_name import user_name
from imaging.errors import MissingCalibrationError
from imaging.frames.facts import FrameFacts
from imaging.io.raw_file import read_headers
from imaging.kinds import KINDS, CalibrationKind
from imaging.products.product_file import ProductFile
from tasks.sky_group import Outcome
from tasks.support.artifacts import publish_choice
from tasks.support.decorator import step_task
from tasks.support.parameters import as_recorded
from tasks.support.references import Calibrations, FrameSet, LeftOut, ProductRef
from tasks.support.step import step
from tasks.support.workspace import Workspace

logger = logging.getLogger(__name__)


class Choice(BaseModel):
    """The user's decisions about calibrations; by default the rules decide."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    use: dict[CalibrationKind, str] = Field(
        default_factory=dict, description="file, name or id of the product to use, by kind"
    )
    without: frozenset[UUID] = Field(
        default=frozenset(), description="products not to use, because they are being made again"
    )
    allow_missing: frozenset[CalibrationKind] = Field(
        default=frozenset(), description="kinds to continue without if none is found"
    )


#: What else a user may do without a flat.
_FROM_SKY: Final = "To make one from the sky of dithered frames: --set sky_flat.make=if_missing."


@step_task("calibrations", "calibrations for {label}")
def choose_calibrations(
    label: str,
    frames: FrameSet,
    kinds: tuple[CalibrationKind, ...],
    built: list[Outcome],
    choice: Choice,
    workspace: Workspace,
) -> Calibrations:
    """Choose a calibration of each of ``kinds`` for ``frames`` and record the decision for every frame.

    Parameters
    ----------
    label
        Name of the group.
    frames
        The group. One choice is made for all of it, at its middle in time: dark and flat must be common to
        the frames for their noise to cancel in the sky subtraction. If none serves the middle, the choice is
        the one that serves most science frames; the others are reported as unserved.
    kinds
        Kinds wanted; of those that are optional, none may serve.
    built
        Products made from the frames of this run (errors in place of those that failed), preferred to older
        candidates.
    choice
        The calibrations that the user named or does without.

    Raises
    ------
    MissingCalibrationError
        If none serves and continuing without was not allowed; lists the candidates and why they do not serve.
    """
    store = workspace.store()
    parameters = as_recorded(workspace.parameters, frames.middle.facts)
    mine = [one.uuid for one in built if isinstance(one, ProductRef)]
    taken: dict[CalibrationKind, _Chosen] = {}
    matches: list[Match] = []
    reservations: list[str] = []
    unserved: dict[str, LeftOut] = {}

    def ask(facts: FrameFacts, kind: CalibrationKind) -> Match:
        return store.match(
            facts, kind, as_of=workspace.as_of, prefer=mine, without=choice.without,
            parameters=parameters, flaw_of=partial(flaw_in_run, store, workspace),
        )  # fmt: skip

    with step("choose", label, workspace):
        for kind in kinds:
            match = ask(frames.middle.facts, kind)
            if match.product is None and KINDS[kind].is_optional and kind not in choice.use:
                continue
            if match.product is None and not (kind in choice.use or kind in choice.allow_missing):
                match, lost = _for_a_part(store, match, frames, partial(ask, kind=kind))
                unserved |= {one.name: one for one in lost}
                frames = frames.without(unserved)
            matches.append(match)
            one = taken[kind] = _chosen(store, match, kind, label, frames, choice)
            reservations += _reservations(one, match, kind, parameters, workspace)
            if one.product is None and one.override is None:
                raise _none_serves(store, match, kind, label, frames, mine)
    publish_choice(label, matches)
    used = {kind: _reference(one.product, kind) for kind, one in taken.items() if one.product is not None}
    return Calibrations(
        present=tuple(used.values()),
        missing=tuple(kind for kind in taken if kind not in used),
        overridden=tuple(kind for kind in used if taken[kind].override is not None),
        reservations=tuple(reservations),
        unserved=tuple(unserved.values()),
        disagreements=tuple(
            f"{kind} {one.product.name}: {'; '.join(one.disagreements)}"
            for kind, one in taken.items()
            if one.product is not None and one.disagreements
        ),
    )


def flaw_in_run(store: Store, workspace: Workspace, product: Product) -> str | None:
    """Return why a product that serves by the rules cannot be used in this run, or None."""
    if workspace.left_out and workspace.as_of is None:
        lost = {
            edge.name or edge.frame_sha256
            for edge in store.lineage(product).edges
            if edge.frame_sha256 in workspace.left_out
        }
        if lost:
            return f"made from {', '.join(sorted(map(str, lost)))}, which this run leaves out"
    return why_unusable(store, product)


def _for_a_part(
    store: Store, match: Match, frames: FrameSet, ask: Callable[[FrameFacts], Match]
) -> tuple[Match, list[LeftOut]]:
    """Return the choice that serves most science frames of a group whose middle has none, and the other frames.

    Return ``match`` and no frames if none is served, or if the frames are not science: a calibration from a part of its
    frames would be another product.
    """
    if match.as_of is not None or frames.middle.facts.kind != "object":
        return match, []
    served: dict[UUID, tuple[Match, dict[str, str]]] = {}
    known = {_configuration(frames.middle.facts, match)}
    for frame in (frames.frames[0], frames.frames[-1], *frames.frames):
        asked = _configuration(frame.facts, match)
        if asked in known and frame not in (frames.frames[0], frames.frames[-1]):
            continue  # its time is between those of the first and the last
        known.add(asked)
        found = ask(frame.facts)
        if found.product is not None and found.product.id not in served:
            outside = store.failures_of(found.product, (one.facts for one in frames.frames))
            served[found.product.id] = found, outside
    if not served:
        return match, []
    found, outside = min(served.values(), key=lambda one: len(one[1]))
    kind = KINDS[found.kind].label
    product = found.product.name if found.product is not None else "none"
    remedy = f"Reduce a night that has one, or name one with --use {found.kind}=NAME_OR_PATH."
    lost = [
        LeftOut(
            name=name,
            reason=f"no {kind} serves it, but {product} serves others of its group: {failure}",
            remedy=remedy,
        )
        for name, failure in outside.items()
    ]
    return found, lost


def _configuration(facts: FrameFacts, match: Match) -> tuple[Any, ...]:
    return tuple(facts.value(name) for name in facts.table.same[match.kind])  # type: ignore[index]


class _Chosen(NamedTuple):
    """A product, the user's decision, and how the product's configuration differs from that of the frames.

    ``outside`` has the frames of the group that it does not serve by the rules, each with the reason. Neither
    product nor override: none serves and the user decided nothing.
    """

    product: Product | None
    override: Override | None = None
    disagreements: tuple[str, ...] = ()
    outside: Mapping[str, str] = MappingProxyType({})


def _chosen(
    store: Store, match: Match, kind: CalibrationKind, label: str, frames: FrameSet, choice: Choice
) -> _Chosen:
    """Return the user's choice or that of the rules, and record the decision."""
    one = _override(store, kind, label, frames, choice) if kind in choice.use else None
    if one is None:
        one = _Chosen(match.product)
        if one.product is None and kind in choice.allow_missing:
            one = _Chosen(None, Override(user_name(), f"--allow-missing {kind}"))
    one = one._replace(outside=_outside(store, one, match, frames))
    if one.product is not None or one.override is not None:
        _record(store, frames, match, one)
        chosen = one.product.name if one.product is not None else "none, as the user allowed"
        logger.info("%s: %s is %s", label, KINDS[kind].label, chosen)
    return one


def _override(
    store: Store, kind: CalibrationKind, label: str, frames: FrameSet, choice: Choice
) -> _Chosen | None:
    """Return the product that the user named; None if it was not intended for these frames.

    The user names one product for the night. For science it takes precedence over the rules, and what it
    overrides is recorded. A flat also needs calibrations, with exposure times other than those of science:
    for these it is used only if the configuration agrees.
    """
    product = _named(store, choice.use[kind])
    _check_kind(product, kind)
    # A damaged file must not be read: report it clearly before the checks that open it.
    store.file_of(product)
    _check_shape(store, product, kind, frames)
    disagreements = _disagreements(store, product, kind, frames)
    if disagreements and frames.middle.facts.kind == "flat":
        logger.info(
            "%s: %s %s does not fit these frames (%s); the rules choose",
            label, KINDS[kind].label, product.name, "; ".join(disagreements),
        )  # fmt: skip
        return None
    reason = f"--use {kind}={choice.use[kind]}"
    if disagreements:
        reason += f", although: {'; '.join(disagreements)}"
        logger.warning("%s: %s %s: %s", label, KINDS[kind].label, product.name, "; ".join(disagreements))
    return _Chosen(product, Override(user_name(), reason), disagreements)


def _disagreements(
    store: Store, product: Product, kind: CalibrationKind, frames: FrameSet
) -> tuple[str, ...]:
    """Return how a product's configuration differs from that of the frames, with both values, each once."""
    with ProductFile(store.file_of(product)) as file:
        its = file.facts
    disagreeing = (
        text
        for frame in frames.frames
        for text in differences(("instrument", *frame.facts.table.same[kind]), its, frame.facts)
    )
    return tuple(dict.fromkeys(disagreeing))


def _record(store: Store, frames: FrameSet, match: Match, one: _Chosen) -> None:
    """Record the decision for every frame, and why a frame gets a product that does not serve it by the
    rules.
    """
    run = str(runtime.flow_run.id) if runtime.flow_run.id else None
    store.record_decisions(
        [
            Decision(
                frame.sha256, _for_group(match, frames.middle.name, one.outside.get(frame.name)), one.product,
                one.override, run,
            )
            for frame in frames.frames
        ]
    )  # fmt: skip


def _outside(store: Store, one: _Chosen, match: Match, frames: FrameSet) -> dict[str, str]:
    """Return the frames that the product chosen for the group's middle does not serve, each with the reason."""
    product = one.product
    if product is None or one.override is not None or match.as_of is not None:
        return {}
    return store.failures_of(product, (frame.facts for frame in frames.frames))


def _for_group(match: Match, middle: str, failure: str | None) -> Match:
    """Return the choice as recorded for another frame of the group, which the product does not serve."""
    if failure is None:
        return match
    candidates = tuple(
        replace(one, serves=False, reason=f"taken for the group, by its middle frame {middle}; {failure}")
        if one.taken
        else one
        for one in match.candidates
    )
    return replace(match, candidates=candidates)


def _reservations(
    one: _Chosen,
    match: Match,
    kind: CalibrationKind,
    parameters: Mapping[str, Any],
    workspace: Workspace,
) -> list[str]:
    """Return the objections to the chosen product, for the report and for the products made with it."""
    passed_over = [
        f"{kind} {candidate.product.name_and_id} was passed over: {candidate.reason}"
        for candidate in takewhile(lambda c: not c.taken, match.candidates)
        if not candidate.serves and candidate.product.id != (one.product.id if one.product else None)
        and candidate.reason != REMADE
    ]  # fmt: skip
    product = one.product
    if product is None:
        return passed_over
    named = f"{kind} {product.name_and_id}"
    store = workspace.store()
    found = [f"{named} {text}" for text in _objections(store, one, workspace)]
    others = differences_of_parameters(product.parameters, parameters)
    if others and one.override is None:
        found.append(f"{named} was made with other parameters: {'; '.join(others)}")
    if one.outside:
        names, failures = ", ".join(one.outside), next(iter(one.outside.values()))
        found.append(f"{named} serves the group's middle frame, but not {names}: {failures}")
    for text in (*found, *passed_over):
        logger.warning("%s: %s", match.frame, text)
    return [*found, *(passed_over if one.override is None else [])]


def _named(store: Store, name: str) -> Product:
    path = Path(name).expanduser()
    return adopt(store, path, provisional=GIVEN) if path.is_file() else store.get(name)


def _check_kind(product: Product, kind: CalibrationKind) -> None:
    if product.kind != kind:
        raise MissingCalibrationError(
            f"{product.name} is a {product.kind}, not a {KINDS[kind].label}.",
            remedy=f"Name a {KINDS[kind].label} with --use {kind}=NAME (see `nirflow cal list --kind {kind}`).",
        )


def _check_shape(store: Store, product: Product, kind: CalibrationKind, frames: FrameSet) -> None:
    """Refuse a part of a calibration: its header may still describe the full detector."""
    primary, extension = read_headers(frames.middle.path)
    image = primary if extension is None else extension
    expected = (image["NAXIS2"], image["NAXIS1"])
    with ProductFile(store.file_of(product)) as file:
        if file.shape != expected:
            raise MissingCalibrationError(
                f"{product.name} has {file.shape[0]} x {file.shape[1]} pixels, {frames.middle.facts.name} has "
                f"{expected[0]} x {expected[1]}.",
                remedy=f"Name a {KINDS[kind].label} of the full frame with --use {kind}=NAME, or leave the choice "
                "to the rules.",
            )


def _reference(product: Product, kind: CalibrationKind) -> ProductRef:
    return ProductRef(
        id=str(product.id),
        kind=kind,
        name=product.name,
        sha256=product.sha256,
        recipe_key=product.recipe_key,
        reused=True,
    )


def _objections(store: Store, one: _Chosen, workspace: Workspace) -> tuple[str, ...]:
    """Return the current objections to a product; none for a choice as of a past moment."""
    repeated = workspace.as_of is not None and one.override is None
    return () if one.product is None or repeated else objections(store, one.product)


def _none_serves(
    store: Store, match: Match, kind: CalibrationKind, label: str, frames: FrameSet, mine: list[UUID]
) -> MissingCalibrationError:
    facts = frames.middle.facts
    explained = store.explain(facts, kind, as_of=match.as_of, prefer=mine).candidates
    # Only this run knows the flaws of those that would serve by the rules.
    nearest = {c.product.id: c for c in explained} | {c.product.id: c for c in match.candidates}
    nearby = "; ".join(f"{c.product.name}: {c.reason}" for c in list(nearest.values())[:3])
    return MissingCalibrationError(
        f"{label}: no {KINDS[kind].label} serves {facts.name} ({_asked(kind, frames)}). "
        + (f"The store has {nearby}." if nearby else f"The store has no {KINDS[kind].label} at all."),
        remedy=f"Reduce a night that has one, name one with --use {kind}=NAME_OR_PATH, "
        f"or continue without it: --allow-missing {kind}."
        + (f" {_FROM_SKY}" if kind == "flat" and facts.kind == "object" else ""),
        kind=kind,
    )


def _asked(kind: CalibrationKind, frames: FrameSet) -> str:
    facts = frames.middle.facts
    usual = KINDS[kind].wanted_by(facts.values)
    return usual or ", ".join(f"{name} {facts.value(name)}" for name in facts.table.same[kind])
