"""Everything that determines a product, and what distinguishes it from one that any run would make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from calib_store.model.records import InputRef, input_key, recipe_key
from calib_store.model.values import OWN_STEP, STANDARD, exposure_keys
from imaging.instruments import catalogue
from imaging.kinds import ProductKind
from imaging.parameters import StepParameters
from tasks.support.references import Calibrations, InputProduct, NamedProduct, RawFrame
from tasks.support.workspace import Workspace

#: Names, among a product's parameters, of the contributions of its instrument's table and of the user's own steps.
INSTRUMENT: Final = "instrument"
OWN_STEPS: Final = "own_steps"
#: Name of the catalogue of reference stars among them: its name, identity and meaning, not where it is.
CATALOGUE: Final = "catalogue"
#: Name of the standard field that gives a zero point among them.
STANDARD_FIELD: Final = "standard_field"


@dataclass(frozen=True)
class Ingredient:
    """A raw frame and its role: dark, lamp_on, lamp_off, short_dark, science or sky; or a product that is combined.

    Attributes
    ----------
    role
        What it is used as.
    frame
        The frame; for a product its file and the facts of its first frame.
    product
        The product; None for a raw frame.
    """

    role: str
    frame: RawFrame
    product: InputProduct | None = None

    @classmethod
    def of_product(cls, role: str, product: InputProduct, path: Path) -> Ingredient:
        """Return a product, whose file is there on this machine, as an ingredient."""
        frame = RawFrame(path=path, source=path, sha256=product.sha256, facts=product.facts)
        return cls(role, frame, product)

    @property
    def name(self) -> str:
        """Name of the frame or the product."""
        return self.frame.name if self.product is None else self.product.name

    @property
    def identity(self) -> str:
        """What identifies it in a recipe: the sha256 of a frame, the recipe key of a product."""
        return self.frame.sha256 if self.product is None else self.product.recipe_key

    @property
    def ref(self) -> InputRef:
        """The frame or product as the store has it."""
        return InputRef(self.role, self.frame.sha256 if self.product is None else self.product.uuid)

    @property
    def span(self) -> tuple[datetime, datetime]:
        """Beginning and end of its exposures."""
        if self.product is not None:
            return self.product.span
        return self.frame.facts.started, self.frame.facts.ended


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a product.

    Parameters
    ----------
    kind
        Kind of product.
    label
        The name that an observer would give it.
    version
        Version of the algorithm; raised whenever the same inputs and parameters give different pixels.
    earlier_versions
        Versions of the steps before it whose results have no product of their own, by step.
    exposed_before
        Exposures whose persistence is flagged in the ingredients: their sha256 by that of the ingredient.
    ingredients
        Raw frames with their roles; the product is named after the first.
    parameters
        Step to parameters.
    calibrations
        Products that are applied.
    own_steps
        What identifies the user's own steps, by point; empty without any.
    named
        Products that arguments of these steps name; they are part of what identifies the steps.
    standards
        Stacks of standard fields that give it its zero point; what they contribute is among the parameters.
    last_resort
        Why it serves others only if nothing else does, whoever makes it; empty for a usual calibration.
    """

    kind: ProductKind
    label: str
    version: int
    ingredients: Sequence[Ingredient]
    parameters: Mapping[str, StepParameters]
    calibrations: Calibrations = field(default_factory=Calibrations)
    earlier_versions: Mapping[str, int] = field(default_factory=dict)
    exposed_before: Mapping[str, Sequence[str]] = field(default_factory=dict)
    own_steps: Mapping[str, Any] = field(default_factory=dict)
    named: Sequence[NamedProduct] = ()
    standards: Sequence[NamedProduct] = ()
    last_resort: str = ""

    @property
    def algorithm_version(self) -> str:
        """The version as the store has it: ``1``, or ``1 sky2`` if an earlier step is past its first version."""
        raised = [f"{step}{version}" for step, version in self.earlier_versions.items() if version != 1]
        return " ".join([str(self.version), *raised])

    @cached_property
    def key(self) -> str:
        """The recipe key."""
        inputs = [input_key(i.role, i.identity) for i in self.ingredients]
        inputs += [*self.calibrations.key(), *self.calibrations.user_decisions()]
        inputs += exposure_keys(self.exposed_before)
        return recipe_key(self.kind, inputs, self.values, self.algorithm_version)

    @property
    def values(self) -> dict[str, Any]:
        """The parameters as JSON values, with the identities of the user's own steps and of an instrument table
        that is not nirflow's own.
        """
        values = {name: model.model_dump(mode="json") for name, model in self.parameters.items()}
        values |= {OWN_STEPS: dict(self.own_steps)} if self.own_steps else {}
        instruments = {one.frame.facts.instrument for one in self.ingredients}
        tables = sorted(filter(None, map(catalogue.identity, instruments)))
        return values | {INSTRUMENT: {"table": ",".join(tables)}} if tables else values

    @property
    def inputs(self) -> list[InputRef]:
        """What is combined, and the products that are applied, as the store has them."""
        return [*(i.ref for i in self.ingredients), *self.made_with]

    @property
    def made_with(self) -> list[InputRef]:
        """The products, as the store has them."""
        applied = [InputRef(p.kind, p.uuid) for p in self.calibrations.present]
        named = [InputRef(OWN_STEP, p.uuid) for p in self.named]
        return [*applied, *named, *(InputRef(STANDARD, p.uuid) for p in self.standards)]

    @property
    def first(self) -> RawFrame:
        """The frame, of its own or of its first product, that the product is named after."""
        return self.ingredients[0].frame


def provisional(recipe: Recipe, workspace: Workspace) -> str | None:
    """Return why this run's product may serve others only as a last resort; None if any run would make it.

    The store itself derives what the product inherits from its calibrations.
    """
    calibrations = recipe.calibrations
    if recipe.last_resort:
        return recipe.last_resort
    reasons = [f"made without a {kind}" for kind in calibrations.missing]
    reasons += [f"made with a {kind} that the user named" for kind in calibrations.overridden]
    if workspace.as_of is not None:
        reasons.append(f"made as of {workspace.as_of:%Y-%m-%d %H:%M}")
    return "; ".join(reasons) or None


def rejected_meanwhile(recipe: Recipe, workspace: Workspace) -> list[str]:
    """Return the inputs that were rejected after the run had chosen them; the store marks the product as
    well.
    """
    if workspace.as_of is not None:
        return []
    store = workspace.store()
    frames = {i.frame.sha256: i.name for i in recipe.ingredients if i.product is None}
    found = [
        f"{frames[sha256]} was rejected by {change.author} on {change.changed_at:%Y-%m-%d %H:%M}: {change.reason}"
        for sha256, change in store.frames.rejections(frames).items()
    ]
    for ref in (*(i.ref for i in recipe.ingredients if i.product is not None), *recipe.made_with):
        product = store.get(str(ref.source))
        if product.status == "rejected" and ref.role not in recipe.calibrations.overridden:
            change = store.history(product)[-1]
            found.append(
                f"{product.name} was rejected by {change.author} on {change.changed_at:%Y-%m-%d %H:%M}: {change.reason}"
            )
    return [f"made with {text}, after the run had chosen it" for text in found]
