"""The standard field that gives a field without catalogue stars its zero point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from prefect import runtime
from pydantic import Field

from calib_store.model.records import Decision, Match, Product
from calib_store.model.values import STANDARD
from imaging.errors import CatalogueError
from imaging.frames.facts import FrameFacts
from imaging.parameters import StepParameters
from imaging.photometry.photometry_parameters import PhotometryParameters
from imaging.photometry.standard_fields import StandardZeroPoint, scatter_of_night, standard_zero_point
from imaging.reference_catalogue.reference_stars import ReferenceCatalogue
from tasks.support.references import NamedProduct, RawFrame
from tasks.support.workspace import Workspace


class UsedStandard(StepParameters):
    """What a standard field contributes to a stack, as part of its recipe."""

    name: str = Field(description="file name of the stack of the standard field")
    recipe: str = Field(description="recipe key of that stack")
    zero_point: float = Field(description="magnitude of a star of 1 electron per second at airmass 1")
    error: float = Field(description="its standard error from the stars, mag")
    airmass: float | None = Field(description="mean airmass of its frames")
    night: float = Field(description="scatter of the standards of the night, mag")
    standards: int = Field(description="standard fields that this scatter is from")

    @property
    def measured(self) -> StandardZeroPoint:
        """Its zero point."""
        return StandardZeroPoint(self.zero_point, self.error, self.airmass)

    @property
    def source(self) -> str:
        """What a zero point from it names as its source."""
        return f"standard {self.name.removesuffix('.fits')}"


class NightStandard(NamedTuple):
    """A standard field of the night.

    Attributes
    ----------
    used
        The part of the recipe; None if the field needs no standard or none serves.
    product
        Its stack.
    match
        The choice, with the other stacks considered.
    """

    used: UsedStandard | None = None
    product: NamedProduct | None = None
    match: Match | None = None


#: The field needs no standard, or none serves.
NO_STANDARD: Final = NightStandard()


def night_standard(
    frames: Sequence[FrameFacts],
    catalogue: ReferenceCatalogue | None,
    parameters: PhotometryParameters,
    workspace: Workspace,
) -> NightStandard:
    """Return the standard field that gives a field its zero point by the rules of the store.

    Parameters
    ----------
    frames
        Facts of the frames of the field.
    catalogue
        Reference stars of the field; with enough of them in its band no standard is needed.
    parameters
        Magnitude system, and the fewest stars that give a zero point.
    workspace
        The run's, with its store and ``as_of``.
    """
    facts = sorted(frames, key=lambda one: one.middle)[len(frames) // 2]
    if is_standard(facts) or has_standards(catalogue, facts, parameters):
        return NO_STANDARD
    match = workspace.store().match(
        facts, STANDARD, as_of=workspace.as_of, parameters={"photometry": {"system": parameters.system}}
    )
    if match.product is None:
        return NO_STANDARD
    product = match.product
    measured = _measured(product)
    serving = _serving(match)
    used = UsedStandard(
        name=product.name,
        recipe=product.recipe_key,
        zero_point=measured.value,
        error=measured.error,
        airmass=measured.airmass,
        night=scatter_of_night(serving),
        standards=len(serving),
    )
    named = NamedProduct(id=str(product.id), name=product.name, sha256=product.sha256)
    return NightStandard(used, named, match)


def record_standard(standard: NightStandard, frames: Sequence[RawFrame], workspace: Workspace) -> None:
    """Record for each frame of a field which standard field gives its zero point, with those considered."""
    match = standard.match
    if match is None:
        return
    run = str(runtime.flow_run.id) if runtime.flow_run.id else None
    workspace.store().record_decisions(
        [Decision(frame.sha256, match, match.product, None, run) for frame in frames]
    )


def is_standard(facts: FrameFacts) -> bool:
    """Return whether a frame is of a standard field."""
    return "STANDARD" in facts.tags


def has_standards(
    catalogue: ReferenceCatalogue | None, facts: FrameFacts, parameters: PhotometryParameters
) -> bool:
    """Return whether a catalogue has enough stars in the band of a frame for a zero point."""
    if catalogue is None:
        return False
    for band in facts.table.standard_bands(facts.filter):
        try:
            found = catalogue.in_band(band)
        except CatalogueError:
            continue
        good = found.valid & (found.error <= parameters.star_error)
        return int(good.sum()) >= parameters.least_stars
    return False


def _serving(match: Match) -> list[StandardZeroPoint]:
    return [_measured(one.product) for one in match.candidates if one.serves]


def _measured(product: Product) -> StandardZeroPoint:
    facts, metrics = FrameFacts.model_validate(product.facts), product.metrics
    airmass = metrics.get("mean_airmass") or facts.airmass
    return standard_zero_point(
        float(metrics["zero_point"]),
        float(metrics["zero_point_error"]),
        facts.exposure,
        airmass,
        facts.table.extinction(facts.values),
    )
