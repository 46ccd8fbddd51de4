"""Checks that a product made elsewhere must pass to be accepted.

`nirflow cal add`, `--use FILE` and `nirflow cal import` all use them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from calib_store.exchange.ancestry import is_by_name, is_direct
from calib_store.model.records import InputRef
from calib_store.model.values import IN_PARAMETERS
from calib_store.store import Store
from calib_store.tables.products import with_ids
from imaging.calibrations.sanity import LIMITS, check_usable
from imaging.errors import FrameError
from imaging.frames.facts import FrameFacts
from imaging.instruments.instrument import Instrument
from imaging.instruments.sections import contains
from imaging.io.fitsfile import BLOCK
from imaging.kinds import KINDS, with_article
from imaging.listed import listed
from imaging.products.product_file import ProductFile

#: A frame or product whose configuration is known: its name, and its facts.
Known = tuple[str, FrameFacts]


@dataclass(frozen=True)
class Companions:
    """Raw frames (by sha256) and products (by id, with their kinds) that are added together with a product."""

    frames: Mapping[str, Known] = field(default_factory=dict)
    products: Mapping[UUID, tuple[str, Known]] = field(default_factory=dict)


_MOST_NAMED: Final = 3


def _agreement(kind: str, table: Instrument) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the facts in which a product must agree with all its frames, and those with at least one of them.

    Products of light may combine frames with different exposure times.
    """
    if not KINDS[kind].is_of_a_band or KINDS[kind].is_optional:
        return table.same[KINDS[kind].name], ()
    optics = table.same["flat"]
    others = tuple(name for name in table.same["dark"] if name not in optics)
    if KINDS[kind].is_calibration:
        return optics, others
    # A stack is on a grid of its own.
    return tuple(name for name in optics if name != "section"), tuple(n for n in others if n != "section")


def check_file(name: str, plain: Path) -> None:
    """Refuse a file that is not a complete FITS file.

    Raises
    ------
    FrameError
        If it is not.
    """
    size = plain.stat().st_size
    with plain.open("rb") as file:
        if size and file.read(6) != b"SIMPLE":
            raise FrameError(name, "not a FITS file", remedy="Give a processed file of nirflow or DRAGONS.")
    if size % BLOCK:  # an extension whose header is cut short would be overlooked
        raise FrameError(
            name, f"not a complete FITS file: {size} bytes, not a multiple of {BLOCK}",
            remedy="Fetch the file again: it is truncated or damaged.",
        )  # fmt: skip


def check_readable(path: Path, kind: str) -> None:
    """Refuse a product of our own that cannot be read again; only its headers are read.

    Every later run that meets its row in the store would fail.

    Raises
    ------
    FrameError
        If it is not complete, a keyword is missing or invalid, or it is of another kind than it was made as.
    """
    try:
        check_file(path.name, path)
        with ProductFile(path) as product:
            found = product.facts.product_kind
            lacking = [plane for plane in LIMITS[KINDS[kind].limits].planes if plane not in product]
    except FrameError as error:
        raise FrameError(
            path.name, f"was made but cannot be read again, so it was not kept: {error.problem}",
            keyword=error.keyword, found=error.found, expected=error.expected,
            remedy="Examine the header of its first frame, from which its cards come: nirflow inspect.",
        ) from error  # fmt: skip
    if found != kind or lacking:
        what = (
            f"without {', '.join(lacking)}"
            if lacking
            else f"as {with_article(found) if found else 'a raw frame'}"
        )
        raise FrameError(
            path.name, f"was made as {with_article(kind)} but reads back {what}, so it was not kept",
            remedy="Report this: it is a defect of nirflow.",
        )  # fmt: skip


def check_planes(name: str, product: ProductFile) -> None:
    """Refuse planes that are missing, damaged, or of different shapes.

    Raises
    ------
    FrameError
        For such a plane.
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
            remedy="Fetch the file again: it is damaged. If the pixels were changed on purpose, the DATASUM is "
            "outdated; write a copy with new checksums with astropy: "
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
    companions: Companions | None = None,
) -> None:
    """Refuse a product that cannot serve as a calibration, or that contradicts its header or inputs.

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
        Facts of the configuration that it would serve.
    inputs
        What it was made from: inputs that the store knows must have the same configuration.
    known
        Other frames and products with the configuration of the product.
    companions
        Frames and products that are added together with it.

    Raises
    ------
    FrameError
        With the plane or the keyword, the value found, the value expected, and a remedy.
    """
    check_usable(kind, product, name)
    every, one = _agreement(kind, facts.table)
    for other in known:
        _check_facts(name, facts, [other], (*every, *one), ())
    _check_facts(name, facts, members(store, kind, name, inputs, companions), every, one)


def members(
    store: Store, kind: str, name: str, inputs: Sequence[InputRef], companions: Companions | None = None
) -> list[Known]:
    """Return the frames and products that a product combines, as far as the store knows them.

    Those in ``companions``, which are added together with it, count as known.

    Raises
    ------
    FrameError
        If frames are known by their checksums and all of them are of another kind.
    """
    direct = [ref for ref in inputs if is_direct(ref) and ref.role not in IN_PARAMETERS]
    shas = {ref.source: ref for ref in direct if isinstance(ref.source, str)}
    companions = companions or Companions()
    noted = {sha256: one for sha256, one in companions.frames.items() if sha256 in shas}
    for sha256, frame in store.frames.with_sha256s(shas).items():  # frames known here come first
        noted.pop(sha256, None)
        if frame.facts is not None:
            noted[sha256] = frame.name, frame.facts
    noted = dict(sorted(noted.items(), key=lambda one: one[1][0]))
    frames = list(noted.values())
    proven = [one for sha256, one in noted.items() if not is_by_name(shas[sha256])]
    ids = [ref.source for ref in direct if isinstance(ref.source, UUID)]
    alike = (kind, *KINDS[kind].made_of)
    products = [
        (product.name, FrameFacts.model_validate(product.facts))
        for product in store.database.read(lambda connection: with_ids(connection, ids))
        if product.kind in alike
    ]
    together = [companions.products[one] for one in ids if one in companions.products]
    products += [
        one for its, one in together if its in alike and one[0] not in {name for name, _ in products}
    ]
    kinds: tuple[str, ...] = KINDS[kind].frames or KINDS[kind].made_of
    found = [(other, facts) for other, facts in frames if facts.kind in kinds]
    if proven and not found and not products:
        origins = listed((other for other, _ in proven), _MOST_NAMED)
        raise FrameError(
            name, f"a {kind} made from {origins}, of the kind {proven[0][1].kind}, "
            f"expected {' or '.join(kinds)}",
            remedy="Add the file as its actual kind (--kind), or give another one.",
        )  # fmt: skip
    return found + products


def _check_facts(
    name: str, facts: FrameFacts, known: Sequence[Known], every: Sequence[str], one: Sequence[str]
) -> None:
    for fact in (*every, *one):
        value = facts.value(fact)
        off = facts.table.tolerance.get(fact, 0.0)
        if fact == "section":  # a part may be cut out of a product
            other = [(who, its) for who, its in known if not contains(its.section, facts.section)]
        else:
            other = [(who, its) for who, its in known if not _same(value, its.value(fact), off)]
        if not other or (fact in one and len(other) < len(known)):
            continue
        expected = other[0][1].value(fact)
        origins = listed((who for who, _ in other), _MOST_NAMED)
        raise FrameError(
            name, "the configuration is not that of its inputs", keyword=facts.table.keyword(fact),
            found=value, expected=f"{expected!r} as in {origins}",
            remedy="Correct the header to that of the inputs, or give the file as it was made.",
        )  # fmt: skip


def _same(one: Any, other: Any, off: float) -> bool:
    return bool(abs(one - other) <= off) if off else bool(one == other)
