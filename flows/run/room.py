"""The room on the disks that a run needs, compared with what is free before it starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from calib_store.store import Store
from flows.recipes.all_recipes import RECIPES
from flows.recipes.kind_recipe import KindRecipe
from flows.recipes.night_plan import NightPlan
from flows.recipes.science import AT_A_TIME
from imaging.io.planes import scratch_size
from imaging.machine import FullDiskError, free_bytes, size_text
from imaging.own_steps.uses import POINTS
from tasks.support.references import RawFrame
from tasks.support.workspace import Workspace

#: Bytes per pixel of a product: SCI, VAR, DQ; with OBJMASK for a stack, which covers more than the detector.
_CALIBRATION, _STACK = 10, 16
#: Bytes per pixel of the planes between steps, per science frame: detrended and without its sky, and their flags.
_SCRATCH: Final = 18
#: Bytes per pixel that a step of the user's own may add: the planes that it changed.
_OWN_STEP: Final = 10
#: Room that the database and the logs need besides, bytes.
_REST: Final = 64 * 10**6
#: Bytes per pixel of a raw frame, at least.
_LEAST_BYTES: Final = 2


@dataclass(frozen=True)
class Room:
    """What the comparison with the free space found.

    Attributes
    ----------
    warnings
        A warning for each disk that may become full.
    scarce
        Whether the planes of all science groups together take more than is kept, or is free: they are made in turn,
        and those of a finished group are removed.
    """

    warnings: tuple[str, ...]
    scarce: bool


def require_room(plan: NightPlan, workspace: Workspace) -> Room:
    """Compare what a plan needs with what is free on the disks of its folders.

    It is not known yet which products of the store are used again, so a lack of room is only a warning; unless there
    is not even room for one product, and the store has none of its kind from the same frames.

    Raises
    ------
    FullDiskError
        If a disk has no room for a single product that has to be made.
    """
    groups, products, largest = _sizes(plan, _scratch_bytes(workspace))
    free = free_bytes(workspace.data_dir)
    most = workspace.scratch_limit if free is None else min(workspace.scratch_limit, free - products - _REST)
    scarce = len(groups) > 1 and sum(groups) > most
    scratch = sum(sorted(groups)[-AT_A_TIME:] if scarce else groups)
    needs = (
        (workspace.data_dir, scratch + products + _REST, "NIRFLOW_DATA_DIR"),
        (workspace.out, products, "--out"),
    )
    disks: dict[int, list[tuple[Path, int, str]]] = {}
    for folder, need, option in needs:
        disks.setdefault(folder.stat().st_dev, []).append((folder, need, option))
    warnings = []
    for folders in disks.values():
        folder, _, option = folders[0]
        free, need = free_bytes(folder), sum(need for _, need, _ in folders)
        if free is None:
            continue
        if folder == workspace.data_dir and free < need:
            free += scratch_size(workspace.scratch)  # it is used again, or removed if it is not
        if free < largest and free < (new := _largest_new(plan, workspace.store())):
            raise FullDiskError(
                f"The disk of {folder} has no room for a product: {size_text(new)} needed, {size_text(free)} free.",
                folder=folder,
                needed=space_for(plan, workspace),
                remedy=f"Free space there, or name a folder on another disk ({option}).",
            )
        if free < need:
            warnings.append(
                f"the disk of {folder} may become full: up to {size_text(need)} needed, {size_text(free)} free. Free "
                f"space there, or name a folder on another disk ({option})"
            )
    return Room(tuple(warnings), scarce)


def space_for(plan: NightPlan, workspace: Workspace) -> int:
    """Return the bytes that the products of a plan need that the store lacks, and at least those of the largest one.

    A product takes its size twice, in the store and in the folder of its night; to it come the planes between steps of
    the groups that are reduced at a time.
    """
    _, _, largest = _sizes(plan, 0)
    planes, products = [0], 0
    for recipe, one in _new(plan, workspace.store()):
        products += _size(recipe, one)
        if recipe.kind.is_stack:
            size = len(recipe.frames(one)) * _pixels(recipe.main(one).frames)
            planes.append(_scratch_bytes(workspace) * size)
    return 2 * max(products, largest) + sum(sorted(planes)[-AT_A_TIME:]) + _REST


def _scratch_bytes(workspace: Workspace) -> int:
    """Return the bytes of the planes between steps for a pixel of a science frame."""
    points = sum(bool(workspace.parameters.steps.at(point)) for point in POINTS)
    return _SCRATCH + points * _OWN_STEP


def _sizes(plan: NightPlan, scratch_bytes: int) -> tuple[list[int], int, int]:
    """Return the bytes of the planes between steps of each group, of all products, and of the largest product.

    ``scratch_bytes`` are those of a pixel of a science frame.
    """
    scratch, products = [], []
    for kind, recipe in RECIPES.items():
        for one in plan.of(kind):
            products.append(_size(recipe, one))
            if recipe.kind.is_stack:
                scratch.append(scratch_bytes * len(recipe.frames(one)) * _pixels(recipe.main(one).frames))
    return scratch, sum(products), max(products, default=0)


def _largest_new(plan: NightPlan, store: Store) -> int:
    """Return the bytes of the largest product for which the store has none of its kind from the same frames."""
    return max((_size(recipe, one) for recipe, one in _new(plan, store)), default=0)


def _new(plan: NightPlan, store: Store) -> Iterator[tuple[KindRecipe[Any], Any]]:
    """Yield the sets for which the store has no product of their kind from the same frames."""
    for kind, recipe in RECIPES.items():
        for one in plan.of(kind):
            sha256 = recipe.main(one).frames[0].sha256
            frame = store.frames.with_sha256s([sha256]).get(sha256)
            if frame is None or all(product.kind != kind for product in store.affected(frame)):
                yield recipe, one


def _size(recipe: KindRecipe[Any], one: Any) -> int:
    """Return the bytes of the product of a set."""
    return (_STACK if recipe.kind.is_stack else _CALIBRATION) * _pixels(recipe.main(one).frames)


def _pixels(frames: Sequence[RawFrame]) -> int:
    """Return the pixels of a frame of a group, from the size of its file: those of a part of a detector are fewer."""
    first = frames[0]
    rows, columns = first.facts.table.detector.shape
    with suppress(OSError):
        return min(rows * columns, first.path.stat().st_size // _LEAST_BYTES)
    return rows * columns
