"""The same products once more: each of the frames that it was made of, with its own parameters.

Groups are not formed here: they are those of the products, without the frames that became unusable since.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from pydantic import ValidationError

from calib_store.model.records import Frame, InputRef, Product
from flows.run.plan import (
    NightPlan,
    bpm_label,
    dark_label,
    flat_label,
    science_label,
    targets_with_needs,
)
from flows.run.redo import Redo, is_usable
from flows.run.report import Kept
from imaging.frames.facts import FrameFacts
from imaging.frames.groups import GroupParameters, science_groups
from imaging.kinds import KINDS, CalibrationKind, Target
from tasks.building.recipe import INSTRUMENT
from tasks.support.parameters import STEPS, ReductionParameters
from tasks.support.references import BpmSet, FlatSet, FrameSet, RawFrame, ScienceSet

#: Longer than any gap: the frames of a product are one group, whatever lies between them, days.
_ANY_GAP: Final = 1e5

#: A product's raw frames with their roles, in order.
Members = Sequence[tuple[str, RawFrame]]
Work = FrameSet | BpmSet | FlatSet | ScienceSet


@dataclass(frozen=True)
class Remake:
    """A product to be made again.

    Attributes
    ----------
    old
        The product.
    work
        Its frames that are usable.
    parameters
        Its own.
    made_with
        The products that it was made with.
    named
        Kinds among these that a user had named.
    """

    old: Product
    work: Work
    parameters: ReductionParameters
    made_with: tuple[UUID, ...]
    named: frozenset[CalibrationKind] = frozenset()
    missing: frozenset[CalibrationKind] = frozenset()


@dataclass
class RemakePlan:
    """What a redo makes, and what it does not."""

    remakes: list[Remake] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)

    def as_plan(self) -> NightPlan:
        """The sets of the remakes, by kind."""
        works = [one.work for one in self.remakes]
        return NightPlan(
            darks=tuple(work for work in works if isinstance(work, FrameSet)),
            bpms=tuple(work for work in works if isinstance(work, BpmSet)),
            flats=tuple(work for work in works if isinstance(work, FlatSet)),
            science=tuple(work for work in works if isinstance(work, ScienceSet)),
        )


class NotPossibleError(Exception):
    """A product cannot be made again."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


def plan_remakes(
    redo: Redo,
    frames: Sequence[RawFrame],
    known: Mapping[str, Frame],
    parameters: ReductionParameters,
    *,
    bands: Collection[str] = (),
    only: Collection[Target] = (),
) -> RemakePlan:
    """Plan to make again what a bad product or frame was used for.

    Parameters
    ----------
    redo
        The products.
    frames
        The frames that are there, of those that the products were made of.
    known
        What the store knows of all of these frames, by sha256.
    parameters
        Those of the run: a product has its own for each step that made it.
    bands, only
        As for `flows.run.plan.plan_night`.

    Returns
    -------
    RemakePlan
        A product whose usable frames are not all there is kept, and so is what was made with it.
    """
    wanted = targets_with_needs(only)
    there = {frame.sha256: frame for frame in frames}
    plan = RemakePlan()
    kept: set[UUID] = set()
    for product in redo.products:
        if (
            product.kind not in KINDS
            or KINDS[product.kind].target not in wanted
            or _other_band(product, bands)
        ):
            continue
        try:
            plan.remakes.append(_remake(product, redo.inputs[product.id], there, known, parameters, kept))
        except NotPossibleError as error:
            kept.add(product.id)
            plan.kept.append(Kept(old=product.name_and_id, reason=error.reason, remedy=error.remedy))
    return plan


def _other_band(product: Product, bands: Collection[str]) -> bool:
    return bool(bands) and KINDS[product.kind].is_of_a_band and product.facts.get("filter") not in bands


def _remake(
    product: Product,
    inputs: Sequence[InputRef],
    there: Mapping[str, RawFrame],
    known: Mapping[str, Frame],
    parameters: ReductionParameters,
    kept: Collection[UUID],
) -> Remake:
    if any(ref.source in kept for ref in inputs):
        raise NotPossibleError("what it was made with could not be made again either")
    recorded = [(ref.role, known[ref.source]) for ref in inputs if isinstance(ref.source, str)]
    usable = [(role, frame) for role, frame in recorded if is_usable(frame)]
    absent = sorted({frame.name for _, frame in usable if frame.sha256 not in there})
    if absent:
        raise NotPossibleError(
            f"{len(absent)} of its {len(recorded)} frames are not there: {', '.join(absent)}",
            "Bring them back, or name the folder that they are in: nirflow reduce FOLDER --affected-by ...",
        )
    members = [(role, there[frame.sha256]) for role, frame in usable]
    facts = [there[f.sha256].facts if f.sha256 in there else f.facts for _, f in recorded]
    own = own_parameters(product, parameters)
    detrend = product.parameters.get("detrend", {})
    return Remake(
        product,
        work_of(product.kind, members, [(role, one) for (role, _), one in zip(recorded, facts, strict=True)]),
        own,
        tuple(ref.source for ref in inputs if isinstance(ref.source, UUID)),
        frozenset(detrend.get("override", ())),
        frozenset(detrend.get("allow_missing", ())),
    )


def own_parameters(product: Product, parameters: ReductionParameters) -> ReductionParameters:
    """The parameters of a run with those by which a product was made.

    What a user named, or did without, is recorded among them: that is for the choice of calibrations to repeat.
    """
    steps: dict[str, Any] = {}
    if not product.parameters:
        raise NotPossibleError("its parameters are not known: it was not made by nirflow")
    for name, values in product.parameters.items():
        if name == INSTRUMENT:  # the current table counts
            continue
        if name == "detrend":
            values = {k: v for k, v in values.items() if k not in ("override", "allow_missing")}
        try:
            steps[name] = STEPS[name].model_validate(values)
        except (KeyError, ValidationError) as error:
            raise NotPossibleError(
                f"its parameters of the step {name} are of another version of nirflow ({_first_line(error)})",
                "Reduce its frames again with the parameters that are wanted.",
            ) from error
    return parameters.model_copy(update=steps)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def work_of(kind: str, members: Members, recorded: Sequence[tuple[str, FrameFacts | None]]) -> Work:
    """The sets of a product.

    Parameters
    ----------
    kind
        Of the product.
    members
        Its frames that are usable.
    recorded
        Facts of all frames that it was made of; None where they are not known.
    """
    roles = {role for role, _ in recorded}
    of = {role: tuple(frame for one, frame in members if one == role) for role in roles}
    empty = sorted(role for role in roles - {"sky"} if not of[role])
    if empty or not roles:
        raise NotPossibleError(
            f"none of its frames is usable as {', '.join(empty)}" if roles else "its frames are not known",
            "If it is not to be used either, reject it: nirflow cal reject.",
        )
    if kind == "dark":
        return _set(dark_label(of["dark"][0].facts), of["dark"])
    if kind == "image":
        return _science(of, members, recorded)
    flat = _flat(of)
    if kind == "flat":
        return flat
    first = flat.first.first.facts
    return BpmSet(label=bpm_label(first), flat=flat, short_darks=_set("short darks", of["short_dark"]))


def _set(label: str, frames: tuple[RawFrame, ...]) -> FrameSet:
    return FrameSet(label=label, frames=frames)


def _flat(of: Mapping[str, tuple[RawFrame, ...]]) -> FlatSet:
    on, off, darks = (
        _set(f"{role} {of[role][0].facts.night}", of[role]) if role in of else None
        for role in ("lamp_on", "lamp_off", "dark")
    )
    first = (on or off or darks).first.facts  # type: ignore[union-attr]  # one of them is there
    return FlatSet(label=flat_label(first), filter=first.filter, on=on, off=off, darks=darks)


def _science(
    of: Mapping[str, tuple[RawFrame, ...]],
    members: Members,
    recorded: Sequence[tuple[str, FrameFacts | None]],
) -> ScienceSet:
    """The group of an image: its objects, and the frames that may be their sky as they were grouped then."""
    objects = [facts.name for role, facts in recorded if role == "science" and facts is not None]
    everything = [facts for _, facts in recorded if facts is not None]
    groups = science_groups(
        everything, GroupParameters().model_copy(update={"max_gap_days": _ANY_GAP}), across_nights=True
    )
    same = [g for g in groups if set(g.objects) == set(objects) and len(g.members) == len(everything)]
    skies = same[0].skies if same else [f.name for f in of.get("sky", ())] or objects
    usable = {frame.name for _, frame in members}
    label = science_label(of["science"][0].facts)
    ordered = tuple(frame for role in ("science", "sky") for frame in of.get(role, ()))
    return ScienceSet(
        label=label,
        frames=_set(label, ordered),
        objects=tuple(frame.name for frame in of["science"]),
        skies=tuple(name for name in skies if name in usable),
        mode="dither" if set(objects) <= set(skies) else "offset",
        notes=same[0].notes if same else (),
    )
