"""The world coordinates of a stack: those of a reference catalogue if it matches, otherwise the telescope's."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.astrometry.first_guess import Pointing
from imaging.astrometry.world_coordinates import (
    AstrometryParameters,
    CatalogueStars,
    WorldCoordinates,
    fit_world_coordinates,
)
from imaging.frames.facts import FrameFacts
from imaging.frames.pointing import mean_position
from imaging.frames.pointing import pointing as pointing_of_frame
from imaging.header import Header
from imaging.pixels.wcs import DISTORTION, WCS_KEYWORDS, celestial_cards
from imaging.reference_catalogue.reference_stars import ReferenceCatalogue
from imaging.sources.detect import Detection
from tasks.reference_catalogue.field_catalogue import FieldCatalogue

logger = logging.getLogger(__name__)

#: Value of WCSFROM for world coordinates as the telescope wrote them.
TELESCOPE: Final = "telescope"


@dataclass(frozen=True)
class StackCoordinates:
    """The world coordinates of a stack.

    Attributes
    ----------
    header
        The stack's header with them.
    figures
        Those of `imaging.astrometry.figures_of_wcs.AstrometryMetrics`.
    notes
        Why they are not from the catalogue.
    """

    header: Header
    figures: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def fit_stack(
    label: str,
    sources: Detection,
    header: Header,
    shape: tuple[int, ...],
    stars: FieldCatalogue,
    parameters: AstrometryParameters,
    pointing: Pointing | None = None,
) -> StackCoordinates:
    """Fit the world coordinates of a stack to the catalogue of its field, if there is one and it matches.

    Parameters
    ----------
    label
        The stack's label, for the log.
    sources
        Its sources.
    header
        Its header, with the telescope's world coordinates.
    shape
        (ny, nx).
    stars
        The reference stars of its field.
    parameters
        Ranges and limits.
    pointing
        Where the camera pointed, for headers without world coordinates.
    """
    telescope = TELESCOPE if celestial_cards(header) else None
    if stars.catalogue is None:
        return StackCoordinates(header, {"wcs_from": telescope})
    known = catalogue_stars(stars.catalogue)
    found = fit_world_coordinates(
        sources.catalogue, known, header, (shape[0], shape[1]), parameters, pointing
    )
    if isinstance(found, str):
        kept = "the telescope's are kept" if telescope else "the stack has none"
        note = f"no world coordinates from the catalogue {known.name}, {kept}: {found}"
        return StackCoordinates(header, {"wcs_from": telescope}, (note,))
    if telescope is None:
        logger.info(
            "%s: world coordinates from %d stars of %s and the pointing, as the headers have none: residual %.0f mas, "
            "expected error %.1f mas; the pointing was off by %.1f arcsec",
            label, found.n, found.catalogue, found.rms, found.error, found.offset,
        )  # fmt: skip
    else:
        logger.info(
            "%s: world coordinates from %d stars of %s, residual %.0f mas, expected error %.1f mas; the "
            "telescope's were off by %.1f arcsec and %.3f deg",
            label, found.n, found.catalogue, found.rms, found.error, found.offset, found.rotation,
        )  # fmt: skip
    others = (
        c for c in header.cards if not (WCS_KEYWORDS.fullmatch(c.keyword) or DISTORTION.fullmatch(c.keyword))
    )
    rotation = {} if telescope else {"pointing_rotation": None}
    return StackCoordinates(Header([*others, *found.header.cards]), figures(found) | rotation)


def pointing_of(frames: Sequence[FrameFacts]) -> Pointing | None:
    """Return where the frames of a stack pointed, on average, and their scale; None without a position."""
    centre = mean_position([pointing_of_frame(frame) for frame in frames])
    return Pointing(centre, frames[0].readout.pixel_scale) if centre is not None else None


def figures(found: WorldCoordinates) -> dict[str, Any]:
    """Return the figures of fitted world coordinates."""
    return {
        "wcs_from": found.catalogue,
        "astrometry_rms": found.rms,
        "astrometry_error": found.error,
        "astrometry_scatter": found.scatter,
        "astrometry_stars": found.n,
        "astrometry_chance": found.chance,
        "distortion_order": found.distortion,
        "distortion_gain": found.gain,
        "pointing_error": found.offset,
        "pointing_rotation": found.rotation,
    }


def catalogue_stars(catalogue: ReferenceCatalogue) -> CatalogueStars:
    """Return the positions of a catalogue; the brightness of a star is its mean magnitude in all bands."""
    values = [one.value for one in catalogue.magnitudes.values()]
    return CatalogueStars(
        catalogue.name, catalogue.ra, catalogue.dec, catalogue.position_error, _mean(values, len(catalogue))
    )


def _mean(values: list[NDArray[np.float64]], n: int) -> NDArray[np.float64]:
    """Return the mean of the values that are numbers, at each place; NaN where none is."""
    rows = np.array(values).reshape(-1, n)
    valid = np.isfinite(rows)
    count = valid.sum(axis=0)
    total: NDArray[np.float64] = np.where(valid, rows, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
