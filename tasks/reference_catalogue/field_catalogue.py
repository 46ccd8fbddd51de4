"""The reference stars of the field of a group of frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple

from pydantic import Field

from imaging.errors import CatalogueError
from imaging.frames.facts import FrameFacts
from imaging.frames.pointing import mean_position, pointing, separation
from imaging.parameters import StepParameters
from imaging.reference_catalogue.catalogue_parameters import CatalogueParameters
from imaging.reference_catalogue.reference_stars import ReferenceCatalogue
from tasks.support.workspace import Workspace

#: Stars this far outside the frames count, too: their headers may point elsewhere, arcsec.
_MARGIN: Final = 60.0


class UsedCatalogue(StepParameters):
    """The catalogue that a stack is calibrated by, as part of its recipe."""

    name: str = Field(description="name of the catalogue; where it should be if it cannot be used")
    identity: str = Field(description="sha256 of its bytes; empty if it cannot be used")
    meaning: dict[str, Any] = Field(description="parameters that change what its columns mean")


class FieldCatalogue(NamedTuple):
    """The reference stars of a field.

    Attributes
    ----------
    catalogue
        The stars; None without a catalogue.
    used
        The part of the recipe; None if no catalogue was requested. A stack without the catalogue that was requested
        is another product, with a warning, and is made again when the catalogue can be used.
    problem
        Why it is missing; empty if none was requested.
    """

    catalogue: ReferenceCatalogue | None = None
    used: UsedCatalogue | None = None
    problem: str = ""


#: No catalogue was requested.
NO_CATALOGUE: Final = FieldCatalogue()


def field_catalogue(
    frames: Sequence[FrameFacts], parameters: CatalogueParameters, workspace: Workspace
) -> FieldCatalogue:
    """Return the reference stars of the field of some frames at the time of their exposures.

    Parameters
    ----------
    frames
        Facts of the frames of one field.
    parameters
        The catalogue.
    workspace
        The run's, for ``as_of`` and its store, which keeps the answers of services.
    """
    if not parameters.wanted:
        return NO_CATALOGUE
    meaning = parameters.interpretation()
    unused = UsedCatalogue(name=str(parameters.source), identity="", meaning=meaning)
    # Late: what reads catalogues is slow to import.
    from imaging.reference_catalogue.at_epoch import julian_year
    from imaging.reference_catalogue.interpret import Region
    from tasks.reference_catalogue.find_catalogue import find_catalogue

    places = [place for place in map(pointing, frames) if place is not None]
    centre = mean_position(places)
    if centre is None:
        problem = "the catalogue is not used: the headers of the frames have no position"
        return FieldCatalogue(used=unused, problem=problem)
    size = max(_field_size(frame) for frame in frames)
    reach = max(separation(place, centre) for place in places) + size / 2 + _MARGIN
    started = frames[0].middle
    later = sum((frame.middle - started for frame in frames), timedelta()) / len(frames)
    try:
        region = Region(*centre, reach / 3600, julian_year(started + later))
        found = find_catalogue(workspace, parameters, region)
    except CatalogueError as error:
        return FieldCatalogue(used=unused, problem=f"the catalogue is not used: {error}")
    assert found is not None
    return FieldCatalogue(found, UsedCatalogue(name=found.name, identity=found.identity, meaning=meaning))


def _field_size(facts: FrameFacts) -> float:
    """Return the diameter of a circle that contains a frame, arcsec."""
    return math.hypot(*facts.table.detector.shape) * facts.readout.pixel_scale
