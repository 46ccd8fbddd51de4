"""Which calibrations a group of frames gets: the store's rules, or the user's word."""

from __future__ import annotations

import getpass
import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import takewhile
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
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
from imaging.errors import MissingCalibrationError
from imaging.io.raw_file import read_headers
from imaging.kinds import KINDS, CalibrationKind
from imaging.products.product_file import ProductFile
from tasks.sky import Outcome
from tasks.support.artifacts import publish_choice
from tasks.support.decorator import step_task
from tasks.support.references import Calibrations, FrameSet, ProductRef
from tasks.support.step import step
from tasks.support.workspace import Workspace

logger = logging.getLogger(__name__)


class Choice(BaseModel):
    """What the user says about calibrations; without a word the rules decide."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    use: dict[CalibrationKind, str] = Field(
        default_factory=dict, description="kind to a product's file, name or id that is to be used"
    )
    without: frozenset[UUID] = Field(
        default=frozenset(), description="products that are not to be taken: they are being made again"
    )
    allow_missing: frozenset[CalibrationKind] = Field(
        default=frozenset(), description="kinds to go on without where none is found"
    )


@step_task("calibrations", "calibrations for {label}")
def choose_calibrations(
    label: str,
    frames: FrameSet,
    kinds: tuple[CalibrationKind, ...],
    built: list[Outcome],
    choice: Choice,
    workspace: Workspace,
) -> Calibrations:
    """Choose a calibration of each of ``kinds`` for ``frames`` and note the decision for every frame.

    Parameters
    ----------
    label
        Name of the group.
    frames
        The group. One choice holds for all of it, made for its middle in time: the noise of dark and flat
        must be common to the frames for it to cancel in the sky subtraction.
    kinds
        Kinds wanted.
    built
        Products made from the frames of this run (errors in place of those that failed): they come before
        older candidates.
    choice
        What the user named or does without.

    Raises
    ------
    MissingCalibrationError
        Where none serves and going on without was not allowed; says what there is and why it does not serve.
    """
    store = workspace.store()
    parameters = workspace.parameters.model_dump(mode="json")
    mine = [one.uuid for one in built if isinstance(one, ProductRef)]
    taken: dict[CalibrationKind, _Chosen] = {}
    matches: list[Match] = []
    reservations: list[str] = []
    with step("choose", label, workspace):
        for kind in kinds:
            match = store.match(
                frames.middle.facts, kind, as_of=workspace.as_of, prefer=mine, without=choice.without,
                parameters=parameters, flaw_of=partial(why_unusable, store),
            )  # fmt: skip
            matches.append(match)
            one = taken[kind] = _chosen(store, match, kind, label, frames, choice)
            reservations += _reservations(one, match, kind, parameters, workspace)
            if one.product is None and one.override is None:
                raise _none_serves(store, kind, label, frames, mine, workspace.as_of)
    publish_choice(label, matches)
    used = {kind: _reference(one.product, kind) for kind, one in taken.items() if one.product is not None}
    return Calibrations(
        dark=used.get("dark"),
        bpm=used.get("bpm"),
        flat=used.get("flat"),
        missing=tuple(kind for kind in taken if kind not in used),
        overridden=tuple(kind for kind in used if taken[kind].override is not None),
        reservations=tuple(reservations),
        disagreements=tuple(
            f"{kind} {one.product.name}: {'; '.join(one.disagreements)}"
            for kind, one in taken.items()
            if one.product is not None and one.disagreements
        ),
    )


class _Chosen(NamedTuple):
    """A product, what the user said, and in what the product is of another configuration than the frames.

    ``outside`` are the frames of the group that it does not serve by the rules, each with why.
    Neither product nor override: none serves and nothing was said.
    """

    product: Product | None
    override: Override | None = None
    disagreements: tuple[str, ...] = ()
    outside: Mapping[str, str] = MappingProxyType({})


def _chosen(
    store: Store, match: Match, kind: CalibrationKind, label: str, frames: FrameSet, choice: Choice
) -> _Chosen:
    """The user's word, or the rules' answer; notes the decision."""
    one = _override(store, kind, label, frames, choice) if kind in choice.use else None
    if one is None:
        one = _Chosen(match.product)
        if one.product is None and kind in choice.allow_missing:
            one = _Chosen(None, Override(getpass.getuser(), f"--allow-missing {kind}"))
    one = one._replace(outside=_outside(store, one, match, frames))
    if one.product is not None or one.override is not None:
        _record(store, frames, match, one)
        told = one.product.name if one.product is not None else "none, as the user allowed"
        logger.info("%s: %s is %s", label, KINDS[kind].label, told)
    return one


def _override(
    store: Store, kind: CalibrationKind, label: str, frames: FrameSet, choice: Choice
) -> _Chosen | None:
    """The product that the user named; None where it was not meant for these frames.

    One word is given for the whole night. For science it holds whatever the rules say, and what it overrides
    is recorded. A flat needs calibrations too, of other exposure times than those of science: there it holds
    only where the configuration agrees.
    """
    product = _named(store, choice.use[kind])
    _check_kind(product, kind)
    # A damaged file is not to be read: the plain words come before the checks that open it.
    store.file_of(product)
    _check_shape(store, product, kind, frames)
    disagreements = _disagreements(store, product, kind, frames)
    if disagreements and frames.middle.facts.kind == "flat":
        logger.info(
            "%s: %s %s is not for these frames (%s); the rules choose",
            label, KINDS[kind].label, product.name, "; ".join(disagreements),
        )  # fmt: skip
        return None
    reason = f"--use {kind}={choice.use[kind]}"
    if disagreements:
        reason += f", although: {'; '.join(disagreements)}"
        logger.warning("%s: %s %s: %s", label, KINDS[kind].label, product.name, "; ".join(disagreements))
    return _Chosen(product, Override(getpass.getuser(), reason), disagreements)


def _disagreements(
    store: Store, product: Product, kind: CalibrationKind, frames: FrameSet
) -> tuple[str, ...]:
    """In what a product's configuration is not that of the frames, both values told; each once."""
    with ProductFile(store.file_of(product)) as file:
        its = file.facts
    told = (
        text
        for frame in frames.frames
        for text in differences(("instrument", *frame.facts.table.same[kind]), its, frame.facts)
    )
    return tuple(dict.fromkeys(told))


def _record(store: Store, frames: FrameSet, match: Match, one: _Chosen) -> None:
    """Note the decision for every frame; for one that the product does not serve by the rules, also why it has it."""
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
    """The frames of a group that the product chosen for its middle does not serve by the rules, each with why."""
    product = one.product
    if product is None or one.override is not None or match.as_of is not None:
        return {}
    return store.failures_of(product, (frame.facts for frame in frames.frames))


def _for_group(match: Match, middle: str, failure: str | None) -> Match:
    """A choice as it is noted for a frame that it was not made for and that the product does not serve."""
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
    """What speaks against the product that was chosen, for the report and for what is made with it."""
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
    """Refuse a part of a calibration: its header may still speak of the whole detector."""
    primary, extension = read_headers(frames.middle.path)
    image = primary if extension is None else extension
    expected = (image["NAXIS2"], image["NAXIS1"])
    with ProductFile(store.file_of(product)) as file:
        if file.shape != expected:
            raise MissingCalibrationError(
                f"{product.name} has {file.shape[0]} x {file.shape[1]} pixels, {frames.middle.facts.name} has "
                f"{expected[0]} x {expected[1]}.",
                remedy=f"Name a {KINDS[kind].label} of the whole frame with --use {kind}=NAME, or leave the choice "
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
    """What speaks against a product now; of a choice as of a moment, what counted then does."""
    repeated = workspace.as_of is not None and one.override is None
    return () if one.product is None or repeated else objections(store, one.product)


def _none_serves(
    store: Store,
    kind: CalibrationKind,
    label: str,
    frames: FrameSet,
    mine: list[UUID],
    as_of: datetime | None,
) -> MissingCalibrationError:
    facts = frames.middle.facts
    nearest = store.explain(facts, kind, as_of=as_of, prefer=mine).candidates[:3]
    told = "; ".join(f"{c.product.name}: {c.reason}" for c in nearest)
    return MissingCalibrationError(
        f"{label}: no {KINDS[kind].label} serves {facts.name} ({_asked(kind, frames)}). "
        + (f"The store has {told}." if told else f"The store has no {KINDS[kind].label} at all."),
        remedy=f"Reduce the night that has one, name one with --use {kind}=NAME_OR_PATH, "
        f"or go on without by --allow-missing {kind}.",
        kind=kind,
    )


def _asked(kind: CalibrationKind, frames: FrameSet) -> str:
    facts = frames.middle.facts
    if kind == "dark":
        return f"exposure {facts.exposure_time:g} s, {facts.read_pairs} read pairs, {facts.coadds} coadds"
    return f"filter {facts.filter_id}" if kind == "flat" else f"detector {facts.detector}"
