"""Stacks of science groups, with their sources."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import numpy as np
from prefect.states import Completed, State

from imaging.errors import GroupError
from imaging.figures import Metric, flat_values
from imaging.io.raw_file import read_headers
from imaging.pixels.image import Image
from imaging.registration.align import output_grid
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
from tasks.align import AlignedGroup, align_input
from tasks.astrometry.stack_wcs import fit_stack
from tasks.building.build import Built, existing, find_or_build, placed
from tasks.building.recipe import CATALOGUE, Ingredient, Recipe
from tasks.detect import catalogue_of
from tasks.detrend import applied_to
from tasks.earlier_exposures import NONE_BEFORE, Exposures
from tasks.extended_source import Stacked, find_extended_source
from tasks.own_steps.resolve import NO_OWN_STEPS, OWN_STEPS_VERSION, OwnSteps
from tasks.own_steps.stack_steps import with_own_steps
from tasks.photometry.stack_photometry import calibrate_stack
from tasks.reference_catalogue.field_catalogue import NO_CATALOGUE, FieldCatalogue, field_catalogue
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
from tasks.support.decorator import step_task
from tasks.support.parameters import ReductionParameters, for_instrument
from tasks.support.references import Calibrations, FrameSet, LeftOut, ProductRef, ProductSet, ScratchRef
from tasks.support.scratching import planes_of
from tasks.support.sky_notes import sky_warnings
from tasks.support.step import step
from tasks.support.workspace import Workspace

#: Versions of the steps whose results a stack is made of.
_EARLIER_VERSIONS: Final = {
    "detrend": detrend.VERSION, "sky": sky_step.VERSION, "detect": detect_step.VERSION, "align": align.VERSION,
    "starlight": components.VERSION,
}  # fmt: skip
#: Signal to noise of the stars whose shape reveals a trailed frame, and the fewest.
_SHAPE_SNR: Final = 30.0
_FEWEST_STARS: Final = 5
#: Steps whose parameters determine a stack.
_STEPS = ("prepare", "detrend", "sky", "detect", "align", "resample", "stack", "photometry")


class ScienceSet(ProductSet):
    """One field in one band."""

    frames: FrameSet
    objects: tuple[str, ...]
    skies: tuple[str, ...]
    mode: str
    notes: tuple[str, ...] = ()

    @property
    def least(self) -> int:
        """The number of frames that are stacked, or of those that may serve as sky if these are fewer."""
        return min(len(self.objects), len(self.skies))

    def without(self, names: Collection[str]) -> ScienceSet:
        """Return the group without the frames of these names."""
        if not names:
            return self
        return self.model_copy(
            update={
                "frames": self.frames.without(names),
                "objects": tuple(n for n in self.objects if n not in names),
                "skies": tuple(n for n in self.skies if n not in names),
            }
        )

    def served_by(self, calibrations: Calibrations) -> ScienceSet:
        """Return the group without the frames that have no calibrations."""
        return self.without({one.name for one in calibrations.unserved})


def science_recipe(
    group: ScienceSet,
    calibrations: Calibrations,
    parameters: ReductionParameters,
    exposures: Exposures = NONE_BEFORE,
    own: OwnSteps = NO_OWN_STEPS,
    stars: FieldCatalogue = NO_CATALOGUE,
) -> Recipe:
    """Return the recipe of a group's stack, which is known before any of its steps has run.

    ``parameters`` are those for the group as planned (`for_group`), whatever becomes of its frames; ``exposures`` may
    have left persistence in them; ``own`` are the user's own steps, ``stars`` those of a catalogue.
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
        | ({CATALOGUE: stars.used, "astrometry": parameters.astrometry} if stars.used else {}),
        calibrations,
        _EARLIER_VERSIONS | ({"own": OWN_STEPS_VERSION} if own.parameters.used else {}),
        exposures.history(ordered),
        own.values(),
        own.products,
    )


def for_group(parameters: ReductionParameters, group: ScienceSet) -> ReductionParameters:
    """Return the parameters with those of the group's instrument, and the decisions that depend on its size."""
    parameters = for_instrument(parameters, group.frames.frames[0].facts.table)
    return parameters.model_copy(update={"detrend": parameters.detrend.for_group(group.least)})


def reference_stars(
    group: ScienceSet, parameters: ReductionParameters, workspace: Workspace
) -> FieldCatalogue:
    """Return the stars of the catalogue in the field of a group."""
    facts = [frame.facts for frame in group.frames.frames if frame.name in group.objects]
    return field_catalogue(facts, parameters.catalogue, workspace)


@step_task("find stack", "look for {group.label}", tags=["science"])
def find_stack(
    group: ScienceSet,
    calibrations: Calibrations,
    parameters: ReductionParameters,
    workspace: Workspace,
    exposures: Exposures = NONE_BEFORE,
    own: OwnSteps = NO_OWN_STEPS,
) -> ProductRef | State[ProductRef] | None:
    """Return the group's stack if the store has it, made from the same frames in the same way; otherwise
    None.
    """
    group = group.served_by(calibrations)
    parameters = for_group(parameters, group)
    stars = reference_stars(group, parameters, workspace)
    recipe = science_recipe(group, calibrations, parameters, exposures, own, stars)
    product = existing(recipe, workspace)
    if product is None:
        return None
    with step("stack", group.label, workspace) as current:
        current.reused = True
        ref = placed(product, recipe, workspace, reused=True)
    return Completed(name="Reused", data=ref.model_copy(update={"seconds": current.seconds}))


@step_task("stack", "stack {group.label}", tags=["science"])
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
    stars = reference_stars(whole, parameters, workspace)
    recipe = science_recipe(whole, calibrations, parameters, exposures, own, stars)

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
        used = list(alignment.used)
        grid, inputs, result = stack_frames(alignment, catalogues, sky, parameters, workspace)
        header = grid.header.copy()
        raw = catalogues[alignment.reference].frame
        primary, _ = read_headers(workspace.readable(raw))
        result = with_own_steps(group.label, result, raw, header, primary, recipe.key, own, workspace)
        sources = detect(result.sci, result.dq, parameters.detect)
        fitted = fit_stack(group.label, sources, header, result.sci.shape, stars, parameters.astrometry)
        header = fitted.header
        names = tuple(entry.name for entry in used)
        # Before the stack is raised: the background of its sources is that of the stack as it is.
        calibrated = calibrate_stack(
            result,
            sources,
            header,
            {name: catalogues[name].frame.facts for name in names},
            alignment.reference,
            alignment.entries,
            {f.name: f.metrics["level"] for f in sky.frames if f.name in names},
            stars.catalogue,
            parameters.photometry,
            parameters.stack,
        )
        raised = raise_to_zero(result, sources) if parameters.stack.zero_level else 0.0
        skies = tuple(dict.fromkeys(sky_frame for name in names for sky_frame in sky.skies.get(name, ())))
        marks = sky.marks(names)
        levels = [float(f.metrics["level"] or 0) for f in sky.frames if f.name in names]
        extended = find_extended_source(
            group.label,
            sky,
            Stacked(result.sci, result.dq, sources.object_mask, grid, used, result.metrics.scales),
            {name: ref.metrics for name, ref in catalogues.items()},
            {frame.name: frame.facts for frame in group.frames.frames},
            parameters.sky,
        )
        metrics = result.metrics.completed(
            **({} if extended is None else extended.figures),
            **calibrated.figures,
            **fitted.figures,
            reference=alignment.reference,
            registration=registration_error(used),
            weakly_aligned=len(alignment.weak),
            seeing=float(sources.seeing) if np.isfinite(sources.seeing) else None,
            raised=raised,
            sources=len(sources.catalogue),
            transparency=min(entry.flux_scale for entry in used),
            sky=float(np.median(levels)),
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

    return find_or_build(recipe, build, workspace)


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
    """
    frames = [align_input(ref, workspace) for ref in catalogues.values()]
    grid = output_grid(alignment, frames, mode=parameters.resample.extent)
    inputs = [_stack_input(entry, sky, catalogues[entry.name].metrics) for entry in alignment.used]
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


def _stack_input(entry: AlignEntry, sky: SkyPass, measured: Mapping[str, Metric]) -> StackInput:
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
    )
