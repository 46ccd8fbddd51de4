"""The sources of a stack that is combined with others, and what its header records."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from prefect.states import Completed, State

from imaging.errors import FrameError, GroupError
from imaging.figures import Metric
from imaging.header import Header
from imaging.io.planes import write_planes
from imaging.mosaic.mosaic_input import MosaicInput
from imaging.photometry.calibrate import NOMINAL
from imaging.products.product_file import ProductFile
from imaging.sources.detect import VERSION, DetectParameters, detect
from tasks.astrometry.stack_wcs import TELESCOPE
from tasks.building.recipe import Ingredient
from tasks.detect import catalogue_of
from tasks.support.decorator import step_task
from tasks.support.references import InputProduct, RawFrame, ScratchRef
from tasks.support.scratching import folder_for, found, meta, planes_of, scratch_key
from tasks.support.step import step
from tasks.support.workspace import Workspace

#: Role of a stack in a mosaic.
ROLE: Final = "stack"
_MAS: Final = 1000.0


@step_task("measure stack", "sources of {stack.name}")
def measure_stack(
    stack: InputProduct, parameters: DetectParameters, workspace: Workspace
) -> ScratchRef | State[ScratchRef]:
    """Detect the sources of a stack; its catalogue, which may have been made with other parameters, is not used."""
    key = scratch_key("measure stack", VERSION, [stack.sha256], parameters)
    with step("measure stack", stack.name, workspace) as current:
        frame = as_frame(stack, workspace)
        earlier = found(workspace, key, frame)
        if earlier is not None:
            current.reused = True
            return Completed(name="Reused", data=earlier)
        with opened(stack, workspace) as file:
            try:
                seen = detect(file.rows("SCI"), file.rows("DQ"), parameters, overwrite=True)
            except ValueError as error:
                raise FrameError(
                    stack.name, f"its sources cannot be detected: {error}",
                    remedy=f"Inspect it: nirflow cal show {stack.id[:8]}",
                ) from error  # fmt: skip
        metrics: dict[str, Metric] = {
            "sources": len(seen.catalogue),
            "seeing": float(seen.seeing) if np.isfinite(seen.seeing) else None,
        }
        folder = folder_for(workspace, key, frame)
        catalogue = np.frombuffer(seen.catalogue.tobytes(), np.uint8)
        write_planes(folder, {"catalogue": catalogue, "objects": seen.object_mask}, meta(key, metrics))
        return ScratchRef(frame=frame, key=key, folder=folder, metrics=metrics)


def as_frame(stack: InputProduct, workspace: Workspace) -> RawFrame:
    """Return the file of a stack, verified, as a frame with the facts of its first one."""
    path = workspace.store().objects.local(stack.sha256)
    return Ingredient.of_product(ROLE, stack, path).frame


def opened(stack: InputProduct, workspace: Workspace) -> ProductFile:
    """Open the file of a stack.

    Raises
    ------
    FrameError
        If it has no variance or quality plane: weights and errors come from these.
    """
    file = ProductFile(workspace.store().objects.local(stack.sha256))
    lacking = [plane for plane in ("SCI", "VAR", "DQ") if plane not in file]
    if lacking:
        file.close()
        raise FrameError(
            stack.name, f"it has no plane {', '.join(lacking)}",
            remedy="Stacks made elsewhere need SCI, VAR and DQ; leave it out by rejecting it, or reduce its frames.",
        )  # fmt: skip
    return file


def mosaic_input(stack: InputProduct, measured: ScratchRef, file: ProductFile) -> MosaicInput:
    """Return a stack for `imaging.mosaic`.

    Parameters
    ----------
    stack, measured
        The stack and its sources.
    file
        Its file, which stays open while the result is used.
    """
    cards, planes = file.primary, planes_of(measured)
    seeing = measured.metrics["seeing"]
    zero_point = zero_point_of(cards)
    return MosaicInput(
        name=stack.name,
        rows=lambda rows: (file.rows("SCI", rows), file.rows("VAR", rows), file.rows("DQ", rows)),
        shape=file.shape,
        header=file.header,
        catalogue=catalogue_of(measured),
        objects=planes.rows("objects"),
        seeing=float(seeing) if seeing is not None else math.nan,
        exposure=_exposure(stack, cards),
        started=stack.span[0],
        ended=stack.span[1],
        noise_correlation=_number(cards, "NCORR") or 1.0,
        zero_point=zero_point[0] if zero_point else None,
        zero_point_error=zero_point[1] if zero_point else None,
        position_error=_position_error(cards),
        airmass=_number(cards, "AIRMASS") or stack.facts.airmass,
        exposures=(lambda rows: file.rows("EXPOSURE", rows)) if "EXPOSURE" in file else None,
    )


def zero_point_of(cards: Header) -> tuple[float, float] | None:
    """Return the zero point of a stack and its error, mag; None if it is missing or nominal, which clouds change."""
    source = str(cards.get("MAGZSRC") or "").strip()
    value = _number(cards, "MAGZERO")
    if not source or source == NOMINAL or value is None:
        return None
    return value, _number(cards, "MAGZERR") or 0.0


def system_of(cards: Header) -> str:
    """Return the magnitude system of a stack's zero point; empty if it has none from a catalogue."""
    return str(cards.get("MAGSYS") or "").strip() if zero_point_of(cards) else ""


def _position_error(cards: Header) -> float | None:
    """Return the error of world coordinates from a catalogue, arcsec; None for those of the telescope."""
    source = str(cards.get("WCSFROM") or "").strip()
    if not source or source == TELESCOPE:
        return None
    return (_number(cards, "ASTERR") or 0.0) / _MAS


def _exposure(stack: InputProduct, cards: Header) -> float:
    """Return the total exposure, s; for a stack made elsewhere that of one frame times their number."""
    total = _number(cards, "TEXPTIME")
    if total is not None:
        return total
    return stack.facts.exposure * (_number(cards, "NCOMBINE") or 1.0)


def _number(cards: Header, keyword: str) -> float | None:
    """Return a finite number of a header; None without one."""
    value: Any = cards.get(keyword)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def same_system(stacks: list[tuple[str, str]]) -> str:
    """Refuse magnitudes of two systems; return the one of all.

    Parameters
    ----------
    stacks
        Name and magnitude system of each stack; empty if it has none.

    Raises
    ------
    GroupError
        If two stacks have different ones.
    """
    known = {system: name for name, system in reversed(stacks) if system}
    if len(known) > 1:
        each = ", ".join(f"{name} in {system}" for system, name in sorted(known.items()))
        raise GroupError(
            f"The zero points of the stacks are of different magnitude systems (MAGSYS): {each}.",
            remedy="Reduce them with the same photometry.system.",
        )
    return next(iter(known), "")
