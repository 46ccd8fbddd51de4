"""Stacks of science groups, with their sources."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import numpy as np
from prefect.states import State

from imaging.astrometry.world_coordinates import AstrometryParameters
from imaging.errors import GroupError
from imaging.figures import Metric, flat_values
from imaging.io.raw_file import read_headers
from imaging.pixels.image import Image
from imaging.registration.align import output_grid
from imaging.registration.distortion.camera_distortion import Distortion
from imaging.registration.entries import AlignEntry, Alignment
from imaging.registration.geometry import Grid
from imaging.sky.starlight import components
from imaging.sources.detect import detect
from imaging.stack.background_error import background_error
from imaging.stack.frame_limits import FrameQuality, LimitParameters, beyond_limits
from imaging.stack.stack import VERSION, StackInput, StackResult, make_stack
from imaging.stack.zero_level import raise_to_zero
from tasks import align, detrend
from tasks import detect as detect_step
from tasks import sky as sky_step
from tasks.align import AlignedGroup, align_input, distortion_in
from tasks.astrometry.stack_wcs import fit_stack, pointing_of
from tasks.building.build import Built, find_or_build, find_reused
from tasks.building.recipe import CATALOGUE, STANDARD_FIELD, Ingredient, Recipe
from tasks.detect import catalogue_of
from tasks.detrend import applied_to
from tasks.earlier_exposures import NONE_BEFORE, Exposures
from tasks.extended_source import Stacked, find_extended_source
from tasks.own_steps.resolve import NO_OWN_STEPS, OWN_STEPS_VERSION, OwnSteps
from tasks.own_steps.stack_steps import with_own_steps
from tasks.photometry.stack_photometry import calibrate_stack
from tasks.photometry.standard_field import NO_STANDARD, NightStandard, night_standard, record_standard
from tasks.reference_catalogue.field_catalogue import NO_CATALOGUE, FieldCatalogue, field_catalogue
from tasks.science.science_set import ScienceSet, for_group
from tasks.sky import SkyPass
from tasks.stack_record import (
    alignment_table,
    glow_warnings,
    mean_starlight,
    missed_hits,
    pedestal_warnings,
    persistence_figures,
    registration_error,
    source_table,
    stack_cards,
    weakly_aligned,
)
from tasks.support.allocator import give_back_free_memory
from tasks.support.decorator import step_task
from tasks.support.parameters import ReductionParameters
from tasks.support.references import Calibrations, LeftOut, ProductRef, ScratchRef
from tasks.support.scratching import planes_of, release_if_scarce
from tasks.support.sky_notes import sky_warnings
from tasks.support.workspace import Workspace

#: Versions of the steps whose results a stack is made of.
_EARLIER_VERSIONS: Final = {
    "detrend": detrend.VERSION, "sky": sky_step.VERSION, "detect": detect_step.VERSION, "align": align.VERSION,
    "starlight": components.VERSION,
}  # fmt: skip
#: Signal to noise of the stars whose shape reveals a trailed frame, and the fewest.
_SHAPE_SNR, _FEWEST_STARS = 30.0, 5
#: Steps whose parameters determine a stack.
_STEPS = ("prepare", "detrend", "sky", "detect", "align", "resample", "stack", "photometry")


def science_recipe(
    group: ScienceSet,
    calibrations: Calibrations,
    parameters: ReductionParameters,
    exposures: Exposures = NONE_BEFORE,
    own: OwnSteps = NO_OWN_STEPS,
    stars: FieldCatalogue = NO_CATALOGUE,
    standard: NightStandard = NO_STANDARD,
) -> Recipe:
    """Return the recipe of a group's stack, which is known before any of its steps has run.

    ``parameters`` are those for the group as planned (`for_group`), whatever becomes of its frames; ``exposures`` may
    have left persistence in them; ``own`` are the user's own steps, ``stars`` those of a catalogue, ``standard`` the
    standard field that gives the zero point without them.
    """
    ordered = sorted(
        group.frames.frames, key=lambda f: (f.name not in group.objects, f.facts.started, f.name)
    )
    ingredients = [Ingredient("science" if f.name in group.objects else "sky", f) for f in ordered]
    return Recipe(
        "image",
        group.label,
        VERSION,
        ingredients,
        {name: getattr(parameters, name) for name in _STEPS}
        | {
            "prepare": parameters.prepare.for_frame(ordered[0].facts),
            "detrend": applied_to(parameters.detrend, calibrations),
        }
        | ({"steps": own.parameters} if own.parameters.used else {})
        | ({CATALOGUE: stars.used, "astrometry": parameters.astrometry} if stars.used else {})
        | ({STANDARD_FIELD: standard.used} if standard.used else {}),
        calibrations,
        _EARLIER_VERSIONS | ({"own": OWN_STEPS_VERSION} if own.parameters.used else {}),
        exposures.history(ordered),
        own.values(),
        own.products,
        (standard.product,) if standard.product else (),
    )


def reference_stars(
    group: ScienceSet, parameters: ReductionParameters, workspace: Workspace
) -> tuple[FieldCatalogue, NightStandard]:
    """Return the stars of the catalogue in the field of a group, and a standard field if they give no zero point."""
    facts = [frame.facts for frame in group.frames.frames if frame.name in group.objects]
    stars = field_catalogue(facts, parameters.catalogue, workspace)
    return stars, night_standard(facts, stars.catalogue, parameters.photometry, workspace)


@step_task("find stack", "look for {group.label}")
def find_stack(
    group: ScienceSet,
    calibrations: Calibrations,
    parameters: ReductionParameters,
    workspace: Workspace,
    exposures: Exposures = NONE_BEFORE,
    own: OwnSteps = NO_OWN_STEPS,
) -> ProductRef | State[ProductRef] | None:
    """Return the group's stack if the store has it, made from the same frames in the same way; or None."""
    group = group.served_by(calibrations)
    parameters = for_group(parameters, group)
    stars, standard = reference_stars(group, parameters, workspace)
    record_standard(standard, [f for f in group.frames.frames if f.name in group.objects], workspace)
    recipe = science_recipe(group, calibrations, parameters, exposures, own, stars, standard)
    return find_reused(recipe, "stack", workspace)


@step_task("stack", "stack {group.label}")
def build_stack(
    group: ScienceSet,
    calibrations: Calibrations,
    sky: SkyPass,
    aligned: AlignedGroup,
    parameters: ReductionParameters,
    workspace: Workspace,
    exposures: Exposures = NONE_BEFORE,
    own: OwnSteps = NO_OWN_STEPS,
) -> ProductRef | State[ProductRef]:
    """Resample the aligned frames of ``group`` onto one grid and combine them."""
    # A failed frame may succeed the next time: the stack without it is a different product.
    parameters = for_group(parameters, group)
    whole = group.without({*sky.failed, *aligned.failed})
    stars, standard = reference_stars(whole, parameters, workspace)
    recipe = science_recipe(whole, calibrations, parameters, exposures, own, stars, standard)

    def build() -> Built:
        alignment = aligned.alignment
        catalogues = {ref.name: ref for ref in aligned.catalogues}
        if not alignment.used:
            reasons = "; ".join(f"{one.name}: {one.reason}" for one in aligned.left_out)
            raise GroupError(
                f"{group.label}: no frame could be aligned, so there is nothing to stack ({reasons}).",
                remedy="Inspect the frames; a reference of your own is set by align.reference.",
            )
        alignment, unlike, notes = within_limits(alignment, catalogues, parameters.stack)
        distortion = distortion_in(aligned.distortion, workspace)
        grid, inputs, result = stack_frames(alignment, catalogues, sky, parameters, workspace, distortion)
        header = grid.header.copy()
        raw = catalogues[alignment.reference].frame
        primary, _ = read_headers(workspace.readable(raw))
        result = with_own_steps(group.label, result, raw, header, primary, recipe.key, own, workspace)
        sources = detect(result.sci, result.dq, parameters.detect)
        pointing = pointing_of([catalogues[entry.name].frame.facts for entry in alignment.used])
        fitted = fit_stack(
            group.label, sources, header, result.sci.shape, stars, _astrometry(aligned, parameters), pointing
        )
        header = fitted.header
        names = tuple(entry.name for entry in alignment.used)
        levels = {f.name: f.metrics["level"] for f in sky.frames if f.name in names}
        # Before the stack is raised: the background of its sources is that of the stack as it is.
        calibrated = calibrate_stack(
            result,
            sources,
            header,
            {name: catalogues[name].frame.facts for name in names},
            alignment.reference,
            alignment.entries,
            levels,
            stars.catalogue,
            standard.used,
            parameters.photometry,
            parameters.stack,
        )
        raised = raise_to_zero(result, sources) if parameters.stack.zero_level else 0.0
        skies = tuple(dict.fromkeys(sky_frame for name in names for sky_frame in sky.skies.get(name, ())))
        marks = sky.marks(names)
        extended = find_extended_source(
            group.label,
            sky,
            Stacked(result.sci, result.dq, sources.object_mask, grid, alignment.used, result.metrics.scales),
            {name: ref.metrics for name, ref in catalogues.items()},
            {frame.name: frame.facts for frame in group.frames.frames},
            parameters.sky,
        )
        metrics = result.metrics.completed(
            **({} if extended is None else extended.figures),
            **calibrated.figures,
            **fitted.figures,
            reference=alignment.reference,
            registration=registration_error(alignment.used),
            weakly_aligned=len(alignment.weak),
            seeing=float(sources.seeing) if np.isfinite(sources.seeing) else None,
            raised=raised,
            sources=len(sources.catalogue),
            transparency=min(entry.flux_scale for entry in alignment.used),
            sky=float(np.median([float(level or 0) for level in levels.values()])),
            starlight=mean_starlight([f for f in sky.frames if f.name in names]),
            sky_frames=min(len(sky.skies[name]) for name in names),
            background_error=background_error(
                result.sci, result.var, result.dq, sources.object_mask, result.metrics.noise_correlation
            ),
            **persistence_figures([sky.persistence[name] for name in names if name in sky.persistence]),
        )
        return Built(
            Image(result.sci, result.var, result.dq, header, primary),
            flat_values(metrics),
            warnings=(
                *(() if extended is None else (extended.warning(),)),
                *notes,
                *result.notes,
                *((stars.problem,) if stars.problem else ()),
                *fitted.notes,
                *marks,
                *weakly_aligned(alignment.weak),
                *missed_hits(inputs, parameters),
                *glow_warnings(inputs),
                *sky_warnings([f for f in sky.frames if f.name in names]),
                *exposures.notes,
                *pedestal_warnings(calibrations, workspace),
                *calibrated.notes,
            ),
            left_out=_left_out(
                group, {*names, *skies}, (*calibrations.unserved, *sky.left_out, *aligned.left_out, *unlike)
            ),
            cards=stack_cards(metrics, alignment.reference)
            | own.cards()
            | ({} if extended is None else extended.cards()),
            object_mask=sources.object_mask,
            maps=calibrated.planes,
            tables={
                "OBJCAT": source_table(result, sources, header, parameters.detect.aperture, calibrated.light),
                "ALIGNMENT": alignment_table(alignment.entries, catalogues, sky, metrics, calibrated.frames),
            },
            combined=names,
            skies=skies,
            doubts=("its sky comes from fewer than 2 frames",) if marks else (),
        )

    stack = find_or_build(recipe, build, workspace)
    release_if_scarce(sky.frames, workspace)
    return stack


def within_limits(
    alignment: Alignment, catalogues: Mapping[str, ScratchRef], parameters: LimitParameters
) -> tuple[Alignment, tuple[LeftOut, ...], list[str]]:
    """Return the alignment without the frames that are beyond a limit, these frames, and notes."""
    frames = [_quality(entry, catalogues[entry.name]) for entry in alignment.used]
    beyond, notes = beyond_limits(frames, parameters, keep=alignment.reference)
    reasons = {one.name: one.reason for one in beyond}
    entries = tuple(
        e.model_copy(update={"used": False, "reason": reasons[e.name]}) if e.name in reasons else e
        for e in alignment.entries
    )
    left_out = tuple(LeftOut(name=one.name, reason=one.reason, remedy=one.remedy) for one in beyond)
    return Alignment(reference=alignment.reference, entries=entries), left_out, notes


def _quality(entry: AlignEntry, ref: ScratchRef) -> FrameQuality:
    def measured(what: str) -> float:
        value = ref.metrics[what]
        return float(value) if value is not None else float("nan")

    exposure = ref.frame.facts.exposure
    sources = catalogue_of(ref)
    stars = sources[(sources["flags"] == 0) & (sources["snr"] > _SHAPE_SNR)]
    return FrameQuality(
        name=entry.name,
        seeing=measured("seeing"),
        transparency=entry.flux_scale / exposure,
        sky=measured("sky") / exposure,
        noise=measured("rms"),
        ellipticity=float(np.median(stars["ellipticity"])) if len(stars) >= _FEWEST_STARS else float("nan"),
    )


def _astrometry(aligned: AlignedGroup, parameters: ReductionParameters) -> AstrometryParameters:
    """Return the parameters of the world coordinates: a stack without the distortion of the camera has none."""
    if aligned.distortion is None:
        return parameters.astrometry
    return parameters.astrometry.model_copy(update={"distortion": "never"})


def _left_out(group: ScienceSet, used: Collection[str], known: Sequence[LeftOut]) -> tuple[LeftOut, ...]:
    """Return the frames that are neither in the stack nor sky for one that is, each with the reason."""
    named = {one.name for one in known}
    idle = [name for name in group.skies if name not in used and name not in named]
    reason = "it was not used as sky for any stacked frame"
    return tuple(dict.fromkeys((*known, *(LeftOut(name=n, reason=reason, expected=True) for n in idle))))


def stack_frames(
    alignment: Alignment,
    catalogues: Mapping[str, ScratchRef],
    sky: SkyPass,
    parameters: ReductionParameters,
    workspace: Workspace,
    distortion: Distortion | None = None,
) -> tuple[Grid, list[StackInput], StackResult]:
    """Stack the used frames of an alignment; return the grid, the frames and the stack.

    Parameters
    ----------
    alignment
        The alignment, without frames beyond the limits (`within_limits`).
    catalogues
        Catalogues of the group's frames by their names.
    sky
        The sky-subtracted frames.
    parameters
        Those for the group (`for_group`).
    distortion
        That of the camera, which the stack is without.
    """
    frames = [align_input(ref, workspace, distortion) for ref in catalogues.values()]
    grid = output_grid(alignment, frames, mode=parameters.resample.extent, distortion=distortion)
    inputs = [
        _stack_input(entry, sky, catalogues[entry.name].metrics, distortion) for entry in alignment.used
    ]
    give_back_free_memory()
    result = make_stack(
        inputs,
        grid,
        parameters.resample,
        parameters.stack,
        reference=alignment.reference,
        threads=workspace.threads,
        memory=workspace.memory,
    )
    return grid, inputs, result


def _stack_input(
    entry: AlignEntry, sky: SkyPass, measured: Mapping[str, Metric], distortion: Distortion | None
) -> StackInput:
    """Return a sky-subtracted frame to stack, with the figures of its detection."""
    frame = sky.frame(entry.name)
    if frame is None:
        raise GroupError(f"{entry.name} was aligned but has no sky-subtracted planes.")
    seeing = measured["seeing"]
    return StackInput(
        name=entry.name,
        planes=planes_of(frame),
        transform=entry.transform,
        facts=frame.frame.facts,
        flux_scale=entry.flux_scale,
        flux_error=entry.flux_error,
        noise=float(measured["rms"] or 0.0),
        seeing=float(seeing) if seeing is not None else None,
        distortion=distortion,
    )
