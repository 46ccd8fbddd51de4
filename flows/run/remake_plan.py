"""The plan for making products again: each from its own frames, with its own parameters.

Groups are not formed here: they are those of the products, without the frames that have become unusable.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from pydantic import ValidationError

from calib_store.model.records import Frame, InputRef, Product
from calib_store.model.values import IN_PARAMETERS, OWN_STEP
from flows.recipes.all_recipes import RECIPES
from flows.recipes.kind_recipe import Members
from flows.recipes.night_plan import NightPlan
from flows.run.plan import targets_with_needs
from flows.run.redo import Redo, is_usable
from flows.run.report import Kept
from imaging.frames.facts import FrameFacts
from imaging.kinds import KINDS, PRODUCT_KINDS, CalibrationKind, ProductKind, Target, target_of
from imaging.own_steps.uses import OwnStepParameters
from imaging.reference_catalogue.catalogue_parameters import CatalogueParameters
from tasks.building.recipe import CATALOGUE, INSTRUMENT, OWN_STEPS, STANDARD_FIELD
from tasks.support.parameters import STEPS, ReductionParameters
from tasks.support.references import ProductSet, RawFrame

#: Why a mosaic is not made again with its stacks, and how it is.
_MADE_OF_STACKS: Final = "it is made from stacks, not from raw frames"
_STACK_AGAIN: Final = "Combine the stacks that replace them: nirflow stack --target NAME"


@dataclass(frozen=True)
class Remake:
    """A product to make again.

    Attributes
    ----------
    old
        The product.
    work
        Its usable frames.
    parameters
        Its own parameters.
    made_with
        The calibrations that it was made with.
    named
        Kinds among these that were named by a user.
    missing
        Kinds that a user allowed to be missing.
    notes
        What the user should know about its parameters.
    """

    old: Product
    work: ProductSet
    parameters: ReductionParameters
    made_with: tuple[UUID, ...]
    named: frozenset[CalibrationKind] = frozenset()
    missing: frozenset[CalibrationKind] = frozenset()
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> ProductKind:
        """The kind of product."""
        return KINDS[self.old.kind].name


@dataclass
class RemakePlan:
    """The products that a redo makes, and those that it does not."""

    remakes: list[Remake] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)

    def as_plan(self) -> NightPlan:
        """Return the sets of the remakes, by kind."""
        return NightPlan(
            {
                kind: works
                for kind in PRODUCT_KINDS
                if (works := tuple(one.work for one in self.remakes if one.old.kind == kind))
            }
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
    """Plan to make again the products for which a rejected product or frame was used.

    Parameters
    ----------
    redo
        The products.
    frames
        The frames that were found, of those that the products were made from.
    known
        The store's records of all of these frames, by sha256.
    parameters
        Parameters of the run: a product has its own for each step that made it.
    bands, only
        As for `flows.run.plan.plan_night`.

    Returns
    -------
    RemakePlan
        A product with missing usable frames is kept, and so is everything made with it.
    """
    wanted = targets_with_needs(only)
    there = {frame.sha256: frame for frame in frames}
    plan = RemakePlan()
    kept: set[UUID] = set()
    bad = {product.id for product in redo.products}
    bad |= {redo.cause.id} if isinstance(redo.cause, Product) else set()
    for product in redo.products:
        if product.kind not in KINDS or target_of(product.kind) not in wanted or _other_band(product, bands):
            continue
        if KINDS[product.kind].made_of:
            kept.add(product.id)
            plan.kept.append(Kept(old=product.name_and_id, reason=_MADE_OF_STACKS, remedy=_STACK_AGAIN))
            continue
        try:
            inputs = redo.inputs[product.id]
            plan.remakes.append(_remake(product, inputs, there, known, parameters, kept, bad))
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
    bad: Collection[UUID],
) -> Remake:
    if any(ref.source in kept for ref in inputs):
        raise NotPossibleError("its calibrations could not be made again either")
    if any(ref.role == OWN_STEP and ref.source in bad for ref in inputs):
        raise NotPossibleError(
            "an argument of its own steps names a product that is rejected, superseded or made again",
            "Reduce its frames again with another product in the argument (--step).",
        )
    recorded = [(ref.role, known[ref.source]) for ref in inputs if isinstance(ref.source, str)]
    usable = [(role, frame) for role, frame in recorded if is_usable(frame)]
    absent = sorted({frame.name for _, frame in usable if frame.sha256 not in there})
    if absent:
        raise NotPossibleError(
            f"{len(absent)} of its {len(recorded)} frames are missing: {', '.join(absent)}",
            "Restore them, or name their folder: nirflow reduce FOLDER --affected-by ...",
        )
    members = [(role, there[frame.sha256]) for role, frame in usable]
    facts = [there[f.sha256].facts if f.sha256 in there else f.facts for _, f in recorded]
    own = own_parameters(product, parameters)
    detrend = product.parameters.get("detrend", {})
    recorded_facts = [(role, one) for (role, _), one in zip(recorded, facts, strict=True)]
    return Remake(
        product,
        work_of(KINDS[product.kind].name, members, recorded_facts),
        own,
        tuple(ref.source for ref in inputs if isinstance(ref.source, UUID) and ref.role not in IN_PARAMETERS),
        frozenset(detrend.get("override", ())),
        frozenset(detrend.get("allow_missing", ())),
        outdated_parameters(product),
    )


def own_parameters(product: Product, parameters: ReductionParameters) -> ReductionParameters:
    """Return the parameters of a run, replaced by those with which a product was made.

    The calibrations that a user named or did without are recorded among them; the choice repeats these
    decisions. Those that an earlier version gave another meaning have their defaults (`outdated_parameters`).
    """
    # A product that had no own steps gets none of those that the run has.
    steps: dict[str, Any] = {"steps": OwnStepParameters()} if KINDS[product.kind].is_stack else {}
    if not product.parameters:
        raise NotPossibleError("its parameters are not known: it was not made by nirflow")
    steps["catalogue"] = _catalogue(product, parameters.catalogue)
    for name, values in product.parameters.items():
        if name in (CATALOGUE, STANDARD_FIELD):  # the current ones apply
            continue
        if name in (INSTRUMENT, OWN_STEPS):  # the current table and the current functions apply
            continue
        if name == "detrend":
            values = {k: v for k, v in values.items() if k not in ("override", "allow_missing")}
        try:
            steps[name] = STEPS[name].model_validate(STEPS[name].current(values))
        except (KeyError, ValidationError) as error:
            raise NotPossibleError(
                f"its parameters of the step {name} come from another version of nirflow ({_first_line(error)})",
                "Reduce its frames again with the parameters that you want.",
            ) from error
    return parameters.model_copy(update=steps)


def _catalogue(product: Product, current: CatalogueParameters) -> CatalogueParameters:
    """Return the catalogue for a product made again: the current one, or none if the product has none."""
    recorded = product.parameters.get(CATALOGUE)
    if recorded is None:
        return CatalogueParameters()
    if not current.wanted:
        raise NotPossibleError(
            f"it was made with the catalogue {recorded.get('name', '')}, and no catalogue is named",
            "Name it in the section [catalogue] of nirflow.toml.",
        )
    return current


def outdated_parameters(product: Product) -> tuple[str, ...]:
    """Return a note for each step of which some parameters of a product are those of an earlier version."""
    found = []
    for step, values in product.parameters.items():
        if step in STEPS and (outdated := STEPS[step].outdated(values)):
            named = ", ".join(f"{step}.{name}={value}" for name, value in outdated.items())
            found.append(f"the defaults of this version replace {named}, which an earlier version used")
    return tuple(found)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def work_of(
    kind: ProductKind,
    usable: Sequence[tuple[str, RawFrame]],
    recorded: Sequence[tuple[str, FrameFacts | None]],
) -> ProductSet:
    """Return the set of a product.

    Parameters
    ----------
    kind
        Kind of the product.
    usable
        Its usable frames with their roles, in order.
    recorded
        Facts of all frames that it was made from; None if unknown.
    """
    roles = {role for role, _ in recorded}
    of = {role: tuple(frame for one, frame in usable if one == role) for role in roles}
    # An image needs none of its skies; a flat from the sky has nothing else.
    needed = roles - {"sky"} or roles
    empty = sorted(role for role in needed if not of[role])
    if empty or not roles:
        raise NotPossibleError(
            f"none of its frames is usable as {', '.join(empty)}" if roles else "its frames are not known",
            "If it must not be used either, reject it: nirflow cal reject.",
        )
    work: ProductSet = RECIPES[kind].again(Members(of, usable, recorded))
    return work
