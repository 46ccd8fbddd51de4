"""The products to make again because a product or a raw frame was rejected, and only those."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from calib_store.curation.certify import identity
from calib_store.curation.lookup import product_or_frame
from calib_store.model.records import Frame, InputRef, Product
from calib_store.store import Store
from calib_store.user_name import user_name
from flows.run.report import Kept, Replaced
from imaging.errors import NirflowError
from tasks.support.references import LeftOut, Note, ProductRef, Survey

logger = logging.getLogger(__name__)


class NothingAffectedError(NirflowError):
    """No product that counts was made with something bad: there was none, or they have been made again."""


@dataclass(frozen=True)
class Redo:
    """Products to make again.

    Attributes
    ----------
    cause
        The product or frame that was rejected or superseded.
    products
        The products made with it, directly or indirectly, each after those that it was made from.
    inputs
        The direct inputs of each of them.
    frames
        The raw frames among the inputs, by sha256.
    """

    cause: Product | Frame
    products: tuple[Product, ...]
    inputs: Mapping[UUID, tuple[InputRef, ...]]
    frames: Mapping[str, Frame]

    def paths(self) -> list[Path]:
        """Return a file for each frame that is still where it was seen."""
        there = (next((p for p in frame.paths if p.is_file()), None) for frame in self.frames.values())
        return [path for path in there if path is not None]

    def limited(self, survey: Survey) -> Survey:
        """Return the frames of a survey that are needed; those that were not found are listed as left out."""
        taken = tuple(frame for frame in survey.frames if frame.sha256 in self.frames)
        found = {frame.sha256 for frame in taken}
        absent = [
            LeftOut(
                name=frame.name,
                reason="its file is no longer where it was seen, or its content has changed",
                remedy="Name the folder that it is in: nirflow reduce FOLDER --affected-by ...",
            )
            for sha256, frame in self.frames.items()
            if sha256 not in found and is_usable(frame)
        ]
        reported = [one for one in survey.left_out if self._concerns(one)]
        notes = tuple(one for one in survey.notes if self._concerns(one))
        return Survey(frames=taken, left_out=(*reported, *absent), notes=notes)

    def _concerns(self, one: LeftOut | Note) -> bool:
        names = {frame.name for frame in self.frames.values()}
        return any(name.startswith(tuple(names)) for name in one.name.split(", "))


def is_usable(frame: Frame) -> bool:
    """Return whether a frame is neither rejected nor in quarantine."""
    return frame.rejected is None and frame.quarantine is None


def redo_of(store: Store, name: str) -> Redo:
    """Find the products made with a product or raw frame that was rejected or superseded.

    Raises
    ------
    NothingAffectedError
        If no product that counts was made with it.
    NirflowError
        If it does not exist, or is still valid: then everything would be made the same again.
    """
    cause = product_or_frame(store, name)
    bad = not (cause.counts if isinstance(cause, Product) else is_usable(cause))
    if not bad:
        raise NirflowError(
            f"{cause.name} is neither rejected nor superseded: what was made with it would be made the same again.",
            remedy=f"Reject it first: nirflow cal reject {name} --reason WHY",
        )
    products = tuple(p for p in store.affected(cause) if p.counts)
    if not products:
        raise NothingAffectedError(
            f"No valid product was made with {cause.name}.",
            remedy=f"To list all products made with it: nirflow cal affected {name}",
        )
    inputs = {product.id: _given(store, product) for product in products}
    return Redo(cause, products, inputs, store.frames.with_sha256s(_frames_among(inputs.values())))


def _given(store: Store, product: Product) -> tuple[InputRef, ...]:
    """Return a product's inputs in order of time, including frames that were left out, which may be usable
    now.
    """
    refs = store.inputs_of(product)
    roles = {ref.source: ref.role for ref in refs if isinstance(ref.source, str)}
    roles |= product.metrics.get("given_as", {})
    frames = store.frames.with_sha256s(roles)
    order = list(dict.fromkeys(roles[ref.source] for ref in refs if isinstance(ref.source, str)))

    def place(sha256: str) -> tuple[int, datetime, str]:
        facts, role = frames[sha256].facts, roles[sha256]
        started = facts.started if facts is not None else frames[sha256].added_at
        return order.index(role) if role in order else len(order), started, frames[sha256].name

    raw = [InputRef(roles[sha256], sha256) for sha256 in sorted(roles, key=place)]
    return (*raw, *(ref for ref in refs if not isinstance(ref.source, str)))


def replace_old(
    store: Store, redo: Redo, made: Iterable[tuple[Product, ProductRef]]
) -> tuple[tuple[Replaced, ...], tuple[Kept, ...]]:
    """Supersede old products by the new ones made in their place, if these contain their frames.

    Parameters
    ----------
    store
        The store.
    redo
        The products made again.
    made
        Each old product and the new one.

    Returns
    -------
    tuple
        The superseded products, and those kept because the new one lacks usable frames of the old one.
    """
    replaced, kept = [], []
    for affected, new in made:
        old = store.get(affected.id)
        if new.uuid == old.id or not old.counts:
            continue  # the same product, or its status has changed meanwhile
        better = store.get(new.uuid)
        lost = frames_lost(store, old, better)
        if lost or not better.counts:
            is_not = f"without {', '.join(lost)}" if lost else better.status
            kept.append(
                Kept(
                    old=old.name_and_id,
                    reason=f"{new.name_and_id}, made in its place, is {is_not}",
                    remedy=f"Compare them; to supersede it: nirflow cal supersede {old.short_id} --by {new.id[:8]}",
                )
            )
            continue
        _supersede(store, redo, old, new)
        replaced.append(Replaced(old=old.name_and_id, new=new.name_and_id))
    return tuple(replaced), tuple(kept)


def frames_lost(store: Store, old: Product, new: Product) -> tuple[str, ...]:
    """Return the names of the usable raw frames that ``old`` contains and ``new`` does not.

    A frame that was left out of a product is not contained in it.
    """
    contained = _contained(store, old)
    known = store.frames.with_sha256s(sorted({sha256 for _, sha256 in contained}))
    still = {(role, sha256) for role, sha256 in contained if is_usable(known[sha256])}
    return tuple(sorted({known[sha256].name for _, sha256 in still - _contained(store, new)}))


def _contained(store: Store, product: Product) -> set[tuple[str, str]]:
    refs = [(ref.role, ref.source) for ref in store.inputs_of(product) if isinstance(ref.source, str)]
    names = {sha256: frame.name for sha256, frame in store.frames.with_sha256s(s for _, s in refs).items()}
    without = {one["name"] for one in product.metrics.get("left_out", ())}
    return {(role, sha256) for role, sha256 in refs if names[sha256] not in without}


def _supersede(store: Store, redo: Redo, old: Product, new: ProductRef) -> None:
    reason = f"made again without {redo.cause.name}, as {new.name_and_id}"
    store.set_status(
        old, "superseded", author=user_name(), reason=reason, by=new.uuid, because=identity(redo.cause)
    )
    logger.info("%s (%s) is superseded: %s", old.name, old.id, reason)
    if old.status == "certified":
        logger.warning(
            "%s was certified, and %s is not: inspect it, then certify it: nirflow cal certify %s",
            old.name, new.name, new.id[:8],
        )  # fmt: skip


def _frames_among(inputs: Iterable[Sequence[InputRef]]) -> list[str]:
    return sorted({ref.source for refs in inputs for ref in refs if isinstance(ref.source, str)})
