"""The distortion of a camera, measured from the dithered frames of a field and, where one is named, a catalogue."""

from __future__ import annotations

import logging
from typing import Final

from prefect.states import State

from imaging.astrometry.stars_without_distortion import stars_without_distortion
from imaging.astrometry.world_coordinates import reliable
from imaging.errors import GroupError
from imaging.figures import flat_values
from imaging.io.raw_file import read_headers
from imaging.kinds import kind_of_target
from imaging.registration.distortion.distortion_file import (
    displacement_image,
    distortion_cards,
    distortion_tables,
)
from imaging.registration.distortion.distortion_parameters import DistortionMetrics
from imaging.registration.distortion.dithered_distortion import (
    VERSION,
    FrameStars,
    MeasuredDistortion,
    SkyStars,
    measure_distortion,
)
from imaging.registration.entries import AlignInput
from tasks import align, detrend
from tasks import detect as detect_step
from tasks import sky as sky_step
from tasks.align import AlignedGroup, align_input
from tasks.astrometry.stack_wcs import catalogue_stars
from tasks.building.build import Built, find_or_build, find_reused
from tasks.building.recipe import CATALOGUE, Ingredient, Recipe
from tasks.detrend import applied_to
from tasks.earlier_exposures import Exposures
from tasks.reference_catalogue.field_catalogue import NO_CATALOGUE, FieldCatalogue, field_catalogue
from tasks.science.science_set import ScienceSet, for_group
from tasks.support.decorator import step_task
from tasks.support.parameters import ReductionParameters
from tasks.support.references import Calibrations, ProductRef
from tasks.support.workspace import Workspace

logger = logging.getLogger(__name__)

#: The kind that is made here.
_KIND: Final = kind_of_target("distortion")
#: Steps whose parameters determine a distortion, and versions of those before it.
_STEPS: Final = ("prepare", "detrend", "sky", "detect", "align", _KIND.step)
_EARLIER_VERSIONS: Final = {
    "detrend": detrend.VERSION, "sky": sky_step.VERSION, "detect": detect_step.VERSION, "align": align.VERSION,
}  # fmt: skip
#: What positions are compared with without a catalogue.
_DITHERS: Final = "dithered frames"
_REMEDY: Final = (
    "Use another field: nine or more frames, dithered by a tenth of the frame or more, with a hundred stars or more; "
    "or name a catalogue of its stars (--catalogue). Limits: nirflow params distortion"
)


def distortion_recipe(
    group: ScienceSet,
    calibrations: Calibrations,
    parameters: ReductionParameters,
    exposures: Exposures,
    stars: FieldCatalogue,
) -> Recipe:
    """Return the recipe of a distortion; ``parameters`` are those for the group (`for_group`)."""
    ordered = sorted(
        group.frames.frames, key=lambda f: (f.name not in group.objects, f.facts.started, f.name)
    )
    return Recipe(
        _KIND.name,
        group.label,
        VERSION,
        [Ingredient("science" if f.name in group.objects else "sky", f) for f in ordered],
        {name: getattr(parameters, name) for name in _STEPS}
        | {
            "prepare": parameters.prepare.for_frame(ordered[0].facts),
            "detrend": applied_to(parameters.detrend, calibrations),
        }
        | ({CATALOGUE: stars.used, "astrometry": parameters.astrometry} if stars.used else {}),
        calibrations,
        _EARLIER_VERSIONS,
        exposures.history(ordered),
    )


def _stars_of(group: ScienceSet, parameters: ReductionParameters, workspace: Workspace) -> FieldCatalogue:
    """Return the stars of the catalogue in the field of a group, unless they are not to be used."""
    if not getattr(parameters, _KIND.step).catalogue:
        return NO_CATALOGUE
    facts = [frame.facts for frame in group.frames.frames if frame.name in group.objects]
    return field_catalogue(facts, parameters.catalogue, workspace)


@step_task("find distortion", "look for {group.label}")
def find_distortion(
    group: ScienceSet,
    calibrations: Calibrations,
    parameters: ReductionParameters,
    workspace: Workspace,
    exposures: Exposures,
) -> ProductRef | State[ProductRef] | None:
    """Return the group's distortion if the store has it, made from the same frames in the same way; or None."""
    group = group.served_by(calibrations)
    parameters = for_group(parameters, group)
    stars = _stars_of(group, parameters, workspace)
    recipe = distortion_recipe(group, calibrations, parameters, exposures, stars)
    return find_reused(recipe, _KIND.step, workspace)


@step_task("distortion", "distortion from {group.label}")
def build_distortion(
    group: ScienceSet,
    calibrations: Calibrations,
    aligned: AlignedGroup,
    parameters: ReductionParameters,
    workspace: Workspace,
    exposures: Exposures,
) -> ProductRef | State[ProductRef]:
    """Measure the distortion of the camera from the stars of the aligned frames of ``group``."""
    parameters = for_group(parameters, group)
    whole = group.without(aligned.failed)
    stars = _stars_of(whole, parameters, workspace)
    recipe = distortion_recipe(whole, calibrations, parameters, exposures, stars)

    def build() -> Built:
        limits = getattr(parameters, _KIND.step)
        used = {entry.name: entry for entry in aligned.alignment.used}
        lowest = limits.min_frames
        if len(used) < lowest:
            raise GroupError(
                f"{group.label}: no distortion is measured, because {len(used)} of its frames are aligned and "
                f"{lowest} are needed (distortion.min_frames).",
                remedy=_REMEDY,
            )
        catalogues = {ref.name: ref for ref in aligned.catalogues}
        frames = {name: align_input(catalogues[name], workspace) for name in used}
        reference = aligned.alignment.reference
        # The first frame is the one that the others, and the catalogue, are placed on.
        names = (reference, *(name for name in used if name != reference))
        sky, problem = _sky(frames[reference], stars, parameters)
        stars_of = {name: reliable(frames[name].catalogue, limits.min_snr) for name in names}
        found = measure_distortion(
            [
                FrameStars(seen["x"], seen["y"], seen["error"], used[name].transform)
                for name, seen in stars_of.items()
            ],
            frames[reference].shape,
            limits,
            sky,
        )
        if isinstance(found, str):
            found = f"{found} ({problem})" if problem else found
            raise GroupError(f"{group.label}: no distortion is measured: {found}.", remedy=_REMEDY)
        source = _DITHERS if sky is None or stars.catalogue is None else stars.catalogue.name
        return _built(whole, aligned, found, source, problem, workspace)

    return find_or_build(recipe, build, workspace)


def _sky(
    reference: AlignInput, stars: FieldCatalogue, parameters: ReductionParameters
) -> tuple[SkyStars | None, str]:
    """Return the stars of the catalogue in the pixels of the reference, and why they are missing if one is named."""
    if stars.catalogue is None:
        return None, stars.problem
    known = catalogue_stars(stars.catalogue)
    found = stars_without_distortion(
        reference.catalogue, known, reference.header, reference.shape, parameters.astrometry
    )
    if isinstance(found, str):
        return None, f"the catalogue {known.name} is not used: {found}"
    return found, ""


def _built(
    group: ScienceSet,
    aligned: AlignedGroup,
    found: MeasuredDistortion,
    source: str,
    problem: str,
    workspace: Workspace,
) -> Built:
    used = tuple(entry.name for entry in aligned.alignment.used)
    by_name = {frame.name: frame for frame in group.frames.frames}
    combined = tuple(frame.name for frame in group.frames.frames if frame.name in used)
    primary, _ = read_headers(workspace.readable(by_name[combined[0]]))
    metrics = DistortionMetrics(
        largest=found.distortion.largest,
        noise=found.error,
        rms=found.rms,
        gain=found.gain,
        order=found.distortion.order,
        frames=found.frames,
        stars=found.stars,
        source=source,
    )
    logger.info(
        "%s: displacements of up to %.2f px, known to %.2f px at the edge, from %d stars in %d frames (%s)",
        group.label, metrics.largest, metrics.noise, metrics.stars, metrics.frames, source,
    )  # fmt: skip
    return Built(
        displacement_image(found, primary),
        flat_values(metrics),
        warnings=(problem,) if problem else (),
        left_out=aligned.left_out,
        cards=distortion_cards(found, source),
        tables=distortion_tables(found),
        combined=combined,
        skies=group.skies,
    )
