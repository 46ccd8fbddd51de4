"""Where the stacks of a mosaic are on the sky, their scales, and which of them are left out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from pydantic import Field

from imaging.mosaic.arrange import Arrangement, arrange
from imaging.mosaic.mosaic_input import MosaicInput
from imaging.mosaic.parameters import MosaicParameters
from imaging.mosaic.sky_grid import Move
from tasks.mosaic.choose_stacks import MosaicSet
from tasks.mosaic.measure_stack import mosaic_input, opened, same_system, system_of, zero_point_of
from tasks.sky_group import left_out_by
from tasks.support.artifacts import key_of, publish_table
from tasks.support.best_effort import best_effort
from tasks.support.decorator import step_task
from tasks.support.references import LeftOut, Reference, ScratchRef
from tasks.support.step import step
from tasks.support.workspace import Workspace


class PlacedStack(Reference):
    """A stack of a mosaic on the sky."""

    name: str
    xi: float = Field(description="shift of its world coordinates to the East, arcsec")
    eta: float = Field(description="shift to the North, arcsec")
    turn: float = Field(description="rotation about its middle, rad")
    factor: float = Field(description="factor of its fluxes")
    factor_error: float = Field(description="standard error of the factor, mag")
    zero_point: float | None = Field(description="mag; None if no catalogue gives any")
    rms: float | None = Field(description="residual of the stars in common along one axis, arcsec")
    stars: int = Field(description="stars in common with other stacks")


class ArrangedStacks(Reference):
    """The stacks of a mosaic that are used, in order, and those that are left out."""

    reference: str = Field(description="stack whose scale the mosaic has")
    stacks: tuple[PlacedStack, ...]
    zero_point_error: float | None = Field(description="of the reference, mag; None without a catalogue")
    source: str = Field(default="", description="catalogue that the zero points are from")
    system: str = Field(default="", description="magnitude system of the zero points")
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    def arrangement(self, inputs: Sequence[MosaicInput]) -> Arrangement:
        """Return the arrangement of these stacks for `imaging.mosaic`."""
        by_name = {one.name: one for one in inputs}
        names = [one.name for one in self.stacks]
        return Arrangement(
            stacks=tuple(by_name[name] for name in names),
            reference=names.index(self.reference),
            moves=tuple(Move(one.xi, one.eta, one.turn) for one in self.stacks),
            factors=np.array([one.factor for one in self.stacks]),
            factor_errors=np.array([one.factor_error for one in self.stacks]),
            zero_points=np.array(
                [np.nan if one.zero_point is None else one.zero_point for one in self.stacks]
            ),
            zero_point_error=np.nan if self.zero_point_error is None else self.zero_point_error,
            rms=np.array([np.nan if one.rms is None else one.rms for one in self.stacks]),
            stars=np.array([one.stars for one in self.stacks]),
            excluded=(),
            notes=self.notes,
        )


@step_task("arrange stacks", "arrange {group.label}")
def arrange_stacks(
    group: MosaicSet, measured: dict[str, Any], parameters: MosaicParameters, workspace: Workspace
) -> ArrangedStacks:
    """Place the stacks on the sky and scale them to one of them, by catalogues and stars in common.

    ``measured`` has the result of `measure_stack` of each by its name, or its failure.
    """
    with step("arrange stacks", group.label, workspace), ExitStack() as files:
        inputs: list[MosaicInput] = []
        lost: list[LeftOut] = []
        systems: list[tuple[str, str]] = []
        sources: list[str] = []
        for stack in group.stacks:
            seen = measured[stack.name]
            if not isinstance(seen, ScratchRef):
                lost.append(left_out_by(stack.name, seen).model_copy(update={"noun": "stack"}))
                continue
            file = files.enter_context(opened(stack, workspace))
            systems.append((stack.name, system_of(file.primary)))
            if zero_point_of(file.primary) is not None:
                sources.append(str(file.primary.get("MAGZSRC")))
            inputs.append(mosaic_input(stack, seen, file))
        system = same_system(systems)
        found = arrange(inputs, parameters)
        excluded = (
            LeftOut(name=e.name, reason=e.reason, remedy=e.remedy, noun="stack") for e in found.excluded
        )
        arranged = ArrangedStacks(
            reference=found.stacks[found.reference].name,
            stacks=tuple(
                PlacedStack(
                    name=one.name,
                    xi=move.xi,
                    eta=move.eta,
                    turn=move.turn,
                    factor=float(found.factors[k]),
                    factor_error=float(found.factor_errors[k]),
                    zero_point=_known(found.zero_points[k]),
                    rms=_known(found.rms[k]),
                    stars=int(found.stars[k]),
                )
                for k, (one, move) in enumerate(zip(found.stacks, found.moves, strict=True))
            ),
            zero_point_error=_known(found.zero_point_error),
            source=", ".join(dict.fromkeys(sources)),
            system=system,
            left_out=(*lost, *excluded),
            notes=found.notes,
        )
        publish_arrangement(group.label, arranged)
        return arranged


def _known(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


@best_effort("The table of the stacks in the Prefect UI")
def publish_arrangement(label: str, arranged: ArrangedStacks) -> None:
    """Show where each stack is, its factor, and what is left out."""
    from prefect import runtime

    if not runtime.task_run.id:
        return
    rows: list[dict[str, object]] = [
        {
            "stack": one.name,
            "shift East, arcsec": round(one.xi, 3),
            "shift North, arcsec": round(one.eta, 3),
            "rms, arcsec": None if one.rms is None else round(one.rms, 3),
            "stars": one.stars,
            "factor": round(one.factor, 4),
            "error, mag": round(one.factor_error, 4),
            "used": True,
            "remark": "",
        }
        for one in arranged.stacks
    ]
    rows += [{"stack": one.name, "used": False, "remark": one.reason} for one in arranged.left_out]
    publish_table(key_of("mosaic", label), rows, f"{label} on {arranged.reference}")
