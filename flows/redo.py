"""What has to be made again because a product or a raw frame went bad, and only that."""

from __future__ import annotations

import getpass
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from calib_store.certify import identity
from calib_store.lookup import product_or_frame
from calib_store.records import Frame, Product
from calib_store.store import Store
from flows.plan import Target
from flows.report import Replaced
from imaging.errors import NirflowError
from tasks.references import LeftOut, ProductRef, RawFrame, Survey

logger = logging.getLogger(__name__)

_TARGETS: Final[dict[str, Target]] = {"dark": "dark", "bpm": "bpm", "flat": "flat", "image": "science"}


@dataclass(frozen=True)
class Redo:
    """Products to be made again.

    Attributes
    ----------
    cause
        The product or frame that went bad.
    products
        What was made with it, at whatever remove, each after those that it was made from.
    frames
        The raw frames that they were made from directly, by sha256.
    """

    cause: Product | Frame
    products: tuple[Product, ...]
    frames: dict[str, Frame]

    @property
    def targets(self) -> frozenset[Target]:
        """Kinds of the products."""
        return frozenset(_TARGETS[product.kind] for product in self.products if product.kind in _TARGETS)

    def paths(self) -> list[Path]:
        """A file of each frame, where one is still where it was seen."""
        there = (next((p for p in frame.paths if p.is_file()), None) for frame in self.frames.values())
        return [path for path in there if path is not None]

    def limited(self, survey: Survey) -> Survey:
        """The frames of a survey that take part; those that are nowhere are left out by name."""
        taken = tuple(frame for frame in survey.frames if frame.sha256 in self.frames)
        found = {frame.sha256 for frame in taken}
        absent = [
            LeftOut(
                name=frame.name,
                reason="its file is not where it was seen, or holds other bytes now",
                remedy="Name the folder that it is in: nirflow reduce FOLDER --affected-by ...",
            )
            for sha256, frame in self.frames.items()
            if sha256 not in found and frame.rejected is None and frame.quarantine is None
        ]
        told = [one for one in survey.left_out if self._concerns(one, survey.frames)]
        return Survey(frames=taken, left_out=(*told, *absent))

    def _concerns(self, one: LeftOut, frames: Sequence[RawFrame]) -> bool:
        names = {frame.name for frame in self.frames.values()}
        return any(name.startswith(tuple(names)) for name in one.name.split(", "))


def redo_of(store: Store, name: str) -> Redo:
    """Find out what a product or raw frame that went bad has spoilt.

    Raises
    ------
    NirflowError
        Where there is no such thing, nothing was made with it, or it is as good as ever: then all would be
        made the same again.
    """
    cause = product_or_frame(store, name)
    if isinstance(cause, Product):
        bad = not cause.counts
    else:
        bad = cause.rejected is not None or cause.quarantine is not None
    if not bad:
        raise NirflowError(
            f"{cause.name} is neither rejected nor superseded: what was made with it would be made the same again.",
            remedy=f"Reject it first: nirflow cal reject {name} --reason WHY",
        )
    products = tuple(p for p in store.affected(cause) if p.counts)
    if not products:
        raise NirflowError(
            f"Nothing that counts was made with {cause.name}.",
            remedy=f"See what was: nirflow cal affected {name}",
        )
    inputs = {ref.source for product in products for ref in store.inputs_of(product)}
    # What was left out before may be of use now, and the same frames are the same recipe.
    inputs.update(sha256 for product in products for sha256 in product.metrics.get("unused", ()))
    return Redo(cause, products, store.frames.with_sha256s(sorted(s for s in inputs if isinstance(s, str))))


def replace_old(store: Store, redo: Redo, made: Sequence[ProductRef]) -> tuple[Replaced, ...]:
    """Supersede the old products that have a new one in their place: the one that shares most of their exposures.

    Shared lamp-offs or darks are not enough: flats of several bands may have them in common.
    """
    exposures = {new.id: _exposures_of(store, store.get(new.uuid)) for new in made}
    replaced = []
    for affected in redo.products:
        mine = _exposures_of(store, affected)
        alike = [new for new in made if new.kind == affected.kind and mine & exposures[new.id]]
        new = max(alike, key=lambda one: len(mine & exposures[one.id]), default=None)
        old = store.get(affected.id)
        if new is None or new.uuid == old.id or not old.counts:
            continue  # not made again, made the same, or somebody spoke meanwhile
        reason = f"made again without {redo.cause.name}, as {new.told}"
        store.set_status(
            old,
            "superseded",
            author=getpass.getuser(),
            reason=reason,
            by=new.uuid,
            because=identity(redo.cause),
        )
        logger.info("%s (%s) is superseded: %s", old.name, old.id, reason)
        if old.status == "certified":
            logger.warning(
                "%s was certified, and %s is not: look at it, then nirflow cal certify %s",
                old.name, new.name, new.id[:8],
            )  # fmt: skip
        replaced.append(Replaced(old=old.told, new=new.told))
    return tuple(replaced)


def _exposures_of(store: Store, product: Product) -> set[str]:
    """The raw frames that a product is of: darks, light, or science; not those that were subtracted from it."""
    frames = [ref for ref in store.inputs_of(product) if isinstance(ref.source, str)]
    roles = [ref.role for ref in frames]
    own = "science" if "science" in roles else next(iter(roles), "")
    return {str(ref.source) for ref in frames if ref.role == own}
