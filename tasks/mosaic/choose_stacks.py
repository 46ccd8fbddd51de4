"""The stacks of a field in the store, one set for each band."""

from __future__ import annotations

import logging
from datetime import date
from typing import Final

from pydantic import Field

from calib_store.curation.field_stacks import FieldStacks, field_stacks
from calib_store.model.product_nights import nights_of
from calib_store.model.records import Product
from imaging.errors import GroupError
from imaging.frames.facts import FrameFacts
from imaging.kinds import KINDS, MOSAIC
from tasks.support.decorator import step_task
from tasks.support.references import InputProduct, LeftOut, ProductSet, Reference
from tasks.support.step import step
from tasks.support.workspace import Workspace

logger = logging.getLogger(__name__)

#: Fewest stacks of a mosaic.
FEWEST: Final = 2


class StackSelection(Reference):
    """Which stacks are combined: those of a target or of an observation."""

    target: str = Field(default="", description="name of the target")
    observation: str = Field(default="", description="observation id")
    first: date | None = Field(default=None, description="first night; default: no limit")
    last: date | None = Field(default=None, description="last night; default: no limit")

    @property
    def label(self) -> str:
        """The name of the field."""
        return self.target or self.observation


class MosaicSet(ProductSet):
    """The stacks of one field in one band, in order of time."""

    stacks: tuple[InputProduct, ...]


class ChosenStacks(Reference):
    """The stacks of a field: a set for each band, and what is left out."""

    sets: tuple[MosaicSet, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


@step_task("choose stacks", "choose the stacks of {selection.label}")
def choose_stacks(selection: StackSelection, bands: tuple[str, ...], workspace: Workspace) -> ChosenStacks:
    """Return the stacks of a field that count, as the store has them."""
    with step("choose stacks", selection.label, workspace):
        found = field_stacks(
            workspace.store(),
            target=selection.target,
            observation=selection.observation,
            nights=(selection.first, selection.last),
            bands=bands,
            as_of=workspace.as_of,
        )
        return sets_of(selection, found)


def sets_of(selection: StackSelection, found: FieldStacks) -> ChosenStacks:
    """Return the sets of the stacks that were found: of each instrument and band, and of one configuration.

    Raises
    ------
    GroupError
        If no set has two stacks.
    """
    left_out = [
        LeftOut(name=one.product.name_and_id, reason=one.reason, expected=one.expected, noun="stack")
        for one in found.passed_over
    ]
    alike: dict[tuple[object, ...], list[InputProduct]] = {}
    for product in found.chosen:
        facts = FrameFacts.model_validate(product.facts)
        shared = facts.table.same[MOSAIC.name]
        key = (facts.instrument, *(facts.value(name) for name in shared))
        alike.setdefault(key, []).append(_input(product, facts))
    sets = []
    for stacks in alike.values():
        label = _label(selection, stacks)
        if len(stacks) < FEWEST:
            left_out.append(
                LeftOut(
                    name=label,
                    reason=f"it has one stack, {stacks[0].name_and_id}, and a mosaic needs two or more",
                    remedy="Reduce another night or pointing of it, or select more nights (--nights).",
                    noun="group",
                )
            )
        else:
            sets.append(MosaicSet(label=label, stacks=tuple(stacks)))
            logger.info("%s: %s", label, ", ".join(one.name_and_id for one in stacks))
    if not sets:
        only = "; ".join(f"{one.name}: {one.reason}" for one in left_out)
        raise GroupError(
            f"There is nothing to combine for {selection.label}: {only}.",
            remedy="Reduce another night or pointing of it first, or select more nights (--nights).",
        )
    return ChosenStacks(sets=tuple(sets), left_out=tuple(left_out))


def _input(product: Product, facts: FrameFacts) -> InputProduct:
    return InputProduct(
        id=str(product.id),
        kind=KINDS[product.kind].name,
        name=product.name,
        sha256=product.sha256,
        recipe_key=product.recipe_key,
        facts=facts,
        span=product.span,
        nights=nights_of(product.facts, product.span),
    )


def _label(selection: StackSelection, stacks: list[InputProduct]) -> str:
    first, last = min(one.nights[0] for one in stacks), max(one.nights[-1] for one in stacks)
    nights = f"{first}" if first == last else f"{first} to {last}"
    facts = stacks[0].facts
    return f"{facts.target or selection.label} {facts.filter} {nights}"
