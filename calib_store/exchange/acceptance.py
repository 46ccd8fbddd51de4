"""The door of the store for products that were made elsewhere: what a file must be to come in.

`nirflow cal add`, `--use FILE` and `nirflow cal import` all come through here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from calib_store.exchange.ancestry import is_by_name, is_direct
from calib_store.model.records import InputRef
from calib_store.store import Store
from calib_store.tables.products import with_ids
from imaging.calibrations.sanity import check_usable
from imaging.errors import FrameError
from imaging.frames.facts import FrameFacts
from imaging.instruments.instrument import Instrument
from imaging.io.fitsfile import BLOCK
from imaging.kinds import KINDS
from imaging.products.product_file import ProductFile

#: A thing whose configuration is known: its name, and its facts.
Known = tuple[str, FrameFacts]


@dataclass(frozen=True)
class Beside:
    """Raw frames (by sha256) and products (by id, with their kinds) that are to come in together with a product."""

    frames: Mapping[str, Known] = field(default_factory=dict)
    products: Mapping[UUID, tuple[str, Known]] = field(default_factory=dict)


_MOST_NAMED: Final = 3


def _agreement(kind: str, table: Instrument) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the facts in which a product agrees with each of its frames, and those in which with one of them at least.

    Of a product of light, frames of several exposure times may be combined.
    """
    if kind == "dark":
        return table.same["dark"], ()
    if kind == "bpm":
        return table.same["bpm"], ()
    optics = table.same["flat"]
    return optics, tuple(name for name in table.same["dark"] if name not in optics)


def check_file(name: str, plain: Path) -> None:
    """Refuse what is no complete FITS file.

    Raises
    ------
    FrameError
        Where it is none.
    """
    size = plain.stat().st_size
    with plain.open("rb") as file:
        if size and file.read(6) != b"SIMPLE":
            raise FrameError(name, "no FITS file", remedy="Give a processed file of nirflow or DRAGONS.")
    if size % BLOCK:  # an extension whose header is cut short would be overlooked
        raise FrameError(
            name, f"not a whole FITS file: {size} bytes, no multiple of {BLOCK}",
            remedy="Fetch the file again: it is cut short or damaged.",
        )  # fmt: skip


def check_planes(name: str, product: ProductFile) -> None:
    """Refuse planes that are missing, damaged, or of different shapes.

    Raises
    ------
    FrameError
        With the plane.
    """
    planes = [plane for plane in ("SCI", "VAR", "DQ") if plane in product]
    if "SCI" not in product and "BPMASK" not in product.primary:
        raise FrameError(
            name, "not a product: there is no extension SCI", keyword="EXTNAME",
            found=", ".join(one or "unnamed" for one in product.planes) or "none", expected="SCI",
            remedy="Give a processed file; raw frames are given to `nirflow reduce`.",
        )  # fmt: skip
    for plane in planes:
        if product.shape_of(plane) != product.shape:
            raise FrameError(
                name, f"plane {plane} has the wrong shape", keyword="NAXISn",
                found=product.shape_of(plane), expected=product.shape,
                remedy="Make the product again: its planes do not belong together.",
            )  # fmt: skip
    if damaged := [plane for plane in product.damaged_planes() if plane in planes]:
        raise FrameError(
            name, f"the pixels of {', '.join(damaged)} do not add up to the DATASUM in the header",
            remedy="Fetch the file again: it is damaged. If the pixels were changed on purpose, the DATASUM is that "
            "of before; write a copy with new ones by astropy: "
            "fits.open(FILE).writeto(COPY, checksum=True).",
        )  # fmt: skip


def check_content(
    store: Store,
    kind: str,
    product: ProductFile,
    name: str,
    facts: FrameFacts,
    inputs: Sequence[InputRef],
    known: Iterable[Known] = (),
    *,
    beside: Beside | None = None,
) -> None:
    """Refuse a product that cannot serve, or not what its header names.

    Parameters
    ----------
    store
        The store.
    kind
        Kind of the product.
    product
        Its file.
    name
        Its file name.
    facts
        What it would serve.
    inputs
        What it was made from: those that the store knows must have the same configuration.
    known
        What else has the configuration of the product.
    beside
        What comes in together with it.

    Raises
    ------
    FrameError
        With the plane or the keyword, the value found, the value expected, and a remedy.
    """
    check_usable(kind, product, name)
    every, one = _agreement(kind, facts.table)
    for other in known:
        _check_facts(name, facts, [other], (*every, *one), ())
    _check_facts(name, facts, members(store, kind, name, inputs, beside), every, one)


def members(
    store: Store, kind: str, name: str, inputs: Sequence[InputRef], beside: Beside | None = None
) -> list[Known]:
    """Return the frames and products that a product is a combination of, as far as the store knows them.

    Or as far as they come in together with it, in ``beside``.

    Raises
    ------
    FrameError
        Where frames are known by their checksums and all of them are of another kind.
    """
    direct = [ref for ref in inputs if is_direct(ref)]
    shas = {ref.source: ref for ref in direct if isinstance(ref.source, str)}
    beside = beside or Beside()
    noted = {sha256: one for sha256, one in beside.frames.items() if sha256 in shas}
    for sha256, frame in store.frames.with_sha256s(shas).items():  # what is known here comes first
        noted.pop(sha256, None)
        if frame.facts is not None:
            noted[sha256] = frame.name, frame.facts
    noted = dict(sorted(noted.items(), key=lambda one: one[1][0]))
    frames = list(noted.values())
    proven = [one for sha256, one in noted.items() if not is_by_name(shas[sha256])]
    ids = [ref.source for ref in direct if isinstance(ref.source, UUID)]
    products = [
        (product.name, FrameFacts.model_validate(product.facts))
        for product in store.database.read(lambda connection: with_ids(connection, ids))
        if product.kind == kind
    ]
    together = [beside.products[one] for one in ids if one in beside.products]
    products += [one for its, one in together if its == kind and one[0] not in {name for name, _ in products}]
    kinds = KINDS[kind].frames
    found = [(other, facts) for other, facts in frames if facts.kind in kinds]
    if proven and not found and not products:
        raise FrameError(
            name, f"a {kind} made from {_some([other for other, _ in proven])}, of the kind {proven[0][1].kind}, "
            f"expected {' or '.join(kinds)}",
            remedy="Add the file as what it is (--kind), or give another one.",
        )  # fmt: skip
    return found + products


def _check_facts(
    name: str, facts: FrameFacts, known: Sequence[Known], every: Sequence[str], one: Sequence[str]
) -> None:
    for fact in (*every, *one):
        value = facts.value(fact)
        off = facts.table.tolerance.get(fact, 0.0)
        other = [(who, its) for who, its in known if not _same(value, its.value(fact), off)]
        if not other or (fact in one and len(other) < len(known)):
            continue
        expected = other[0][1].value(fact)
        raise FrameError(
            name, "the configuration is not that of what it was made from", keyword=facts.table.keyword(fact),
            found=value, expected=f"{expected!r} as in {_some([who for who, _ in other])}",
            remedy="Correct the header to that of the inputs, or give the file as it was made.",
        )  # fmt: skip


def _same(one: Any, other: Any, off: float) -> bool:
    return bool(abs(one - other) <= off) if off else bool(one == other)


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
