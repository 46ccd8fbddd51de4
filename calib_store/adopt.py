"""Products that were made elsewhere: ours from another store, or those of DRAGONS.

The header says what a file is (PROCDARK, PROCFLAT, BPMASK...) and what it serves, and a table of its what it
was made from. It is checked before it is accepted: every plane is there, whole and of one shape, and holds
values that such a plane can have.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib_store.ancestry import inputs_from
from calib_store.gate import verdict
from calib_store.products import NewProduct
from calib_store.records import InputRef, Product, recipe_key
from calib_store.store import Store
from imaging.dq import DQ
from imaging.errors import FrameError, StoreError
from imaging.facts import FrameFacts, facts_from_headers, plain_name
from imaging.fitsfile import BLOCK
from imaging.gate import GateParameters
from imaging.products import ProductFile, datasums
from imaging.unpack import unpack

logger = logging.getLogger(__name__)

#: Algorithm version of what was made elsewhere.
ADOPTED = "adopted"
#: Why a file that a user gives for one reduction serves others only where nothing else does.
GIVEN = "given for one reduction with --use"
#: Rows whose values are looked at, every so many.
_STEP = 4
#: Least fraction of the pixels that must hold a number.
_LEAST_FINITE = 0.5


@dataclass(frozen=True)
class _Checked:
    """What a file was found to be."""

    facts: FrameFacts
    published: bool
    own_key: str
    inputs: tuple[InputRef, ...]
    span: tuple[datetime, datetime]


def adopt(
    store: Store,
    path: Path,
    *,
    kind: str | None = None,
    shape: tuple[int, int] | None = None,
    author: str = "nirflow cal add",
    gate: GateParameters | None = None,
    provisional: str | None = None,
) -> Product:
    """Take a product's file into the store, as a candidate.

    The same content is one product: a copy of one that the store made itself is that one, whether its bytes
    are the same or its recipe and its planes are. Where the store's own file was lost or damaged, a copy of
    the same bytes takes its place. A bad pixel mask that the observatory published (OBSTYPE = BPM) holds
    from its date on; one that was made from flats, like any other product, for the days round its own.

    Parameters
    ----------
    store
        The store.
    path
        The file, plain or compressed (``.gz``, ``.bz2``).
    kind
        What it is, where its header does not tell.
    shape
        Rows and columns that a calibration must have; any without. A stack is as large as its dithers make it.
    author
        Who adds it.
    gate
        Limits of the comparison with a certified product.
    provisional
        Why it is to serve others only where nothing else does. A product that the store has already stays as it is,
        and is an ordinary one where nothing is given here.

    Raises
    ------
    StoreError
        Where the file is no product, or is something other than ``kind``.
    FrameError
        Where the file is damaged, or a keyword that the rules need is missing or makes no sense.
    """
    if not path.is_file():
        what = f"{path} is a folder." if path.is_dir() else f"There is no file {path}."
        raise StoreError(what, remedy="Give the path of a FITS file.")
    with tempfile.TemporaryDirectory(prefix="nirflow-adopt-") as folder:
        plain, sha256 = unpack(path, Path(folder))
        checked = _checked(store, path, plain, kind, shape)
        made = _kind(path, checked.facts.product_kind or None, kind)
        for known in _known(store, made, sha256, checked.own_key):
            if known.sha256 == sha256:
                known = store.find(known.recipe_key) or _repaired(store, known, plain, checked.facts, author)
                return store.confirm(known) if known.provisional == GIVEN and provisional is None else known
            whole = store.find(known.recipe_key)
            if (
                whole is not None
                and _serves_alike(store, whole, checked.facts)
                and datasums(store.file_of(whole)) == datasums(plain)
            ):
                return whole
        parameters = {"adopted": True, "kind": made}
        published = checked.published and made == "bpm"
        new = NewProduct(
            kind=made, name=plain_name(path.name), recipe_key=recipe_key(made, [sha256], parameters, ADOPTED),
            span=checked.span, facts=checked.facts, inputs=checked.inputs,
            parameters=parameters, metrics={}, algorithm_version=ADOPTED, author=author, published=published,
            provisional=provisional,
            gate=verdict(
                store, made, plain, checked.facts, gate or GateParameters(), published=published
            ),
        )  # fmt: skip
        return store.add(new, plain)


def _kind(path: Path, found: str | None, given: str | None) -> str:
    if found is not None and given is not None and found != given:
        raise StoreError(
            f"By its header {path.name} is {_article(found)}, not {_article(given)}.",
            remedy=f"Add it as {_article(found)}.",
        )
    made = found or given
    if made is None:
        raise StoreError(
            f"{path.name} does not say which product it is: no PROCDARK, PROCFLAT, BPMASK or PROCSCI.",
            remedy="Give a product of nirflow or DRAGONS, or say what it is with --kind.",
        )
    return made


def _article(kind: str) -> str:
    return f"{'an' if kind == 'image' else 'a'} {kind}"


def _known(store: Store, kind: str, sha256: str, key: str) -> list[Product]:
    """Products of the kind with a file of those bytes or made by that recipe; nirflow's own first."""
    found = {
        product.id: product
        for name in (sha256, key)
        if name
        for product in store.named(name)
        if product.kind == kind and name in (product.sha256, product.recipe_key)
    }
    return sorted(found.values(), key=lambda product: product.algorithm_version == ADOPTED)


def _serves_alike(store: Store, product: Product, facts: FrameFacts) -> bool:
    """Whether a file with these facts would serve the same frames as the product (an image serves none)."""
    rule = store.rules().named(product.rule) if product.rule is not None else None
    return rule is None or rule.first_difference(product.keys, facts) is None


def _repaired(store: Store, product: Product, plain: Path, facts: FrameFacts, author: str) -> Product:
    """A product whose file was lost or damaged, with ``plain``, which has the same bytes, as its file."""
    same = NewProduct(
        kind=product.kind, name=product.name, recipe_key=product.recipe_key, span=product.span, facts=facts,
        inputs=(), parameters=product.parameters, metrics=product.metrics,
        algorithm_version=product.algorithm_version, author=author, flow_run_id=product.flow_run_id,
        published=product.published, software=product.software_version,
    )  # fmt: skip
    return store.add(same, plain)


def _checked(
    store: Store, path: Path, plain: Path, kind: str | None, shape: tuple[int, int] | None
) -> _Checked:
    size = plain.stat().st_size
    with plain.open("rb") as file:
        if size and file.read(6) != b"SIMPLE":
            raise FrameError(path.name, "no FITS file", remedy="Give a processed file of nirflow or DRAGONS.")
    if size % BLOCK:  # an extension whose header is cut short would be overlooked
        raise FrameError(
            path.name, f"not a whole FITS file: {size} bytes, no multiple of {BLOCK}",
            remedy="Fetch the file again: it is cut short or damaged.",
        )  # fmt: skip
    with ProductFile(plain) as product:
        _check_planes(path.name, product)
        primary: Any = product.primary.copy()
        # A mask that somebody made of frames says so; one that the observatory publishes does not.
        published = str(primary.get("OBSTYPE", "")).upper() == "BPM" and "NCOMBINE" not in primary
        facts = facts_from_headers(primary, product.header, name=path.name)
        if shape is not None and product.shape != shape and (facts.product_kind or kind) != "image":
            raise FrameError(
                path.name, "the wrong shape for a calibration", keyword="NAXISn", found=product.shape, expected=shape,
                remedy="Give a product of the whole detector. Parts, and those of small simulated frames, are "
                "taken with --any-shape.",
            )  # fmt: skip
    inputs = inputs_from(store, plain, primary)
    return _Checked(facts, published, str(primary.get("NFKEY", "")), inputs, _span(path.name, primary, facts))


def _span(name: str, primary: Mapping[str, Any], facts: FrameFacts) -> tuple[datetime, datetime]:
    """Beginning and end of the inputs' exposures, where a product of ours says so; else those of its first input."""
    if "NFKEY" not in primary or "DATE-BEG" not in primary:
        return facts.started, facts.ended
    sides = []
    for keyword in ("DATE-BEG", "DATE-END"):
        value = primary.get(keyword)
        try:
            sides.append(datetime.fromisoformat(str(value)).replace(tzinfo=UTC))
        except ValueError:
            raise FrameError(
                name,
                "a time that cannot be read",
                keyword=keyword,
                found=value,
                expected="2013-11-21T02:52:48.0",
                remedy="Copy the file again; its header was changed.",
            ) from None
    return sides[0], sides[1]


def _check_planes(name: str, product: ProductFile) -> None:
    """Every plane is there, whole, of the same shape, and holds what it may."""
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
            remedy="Fetch the file again: it is damaged; or, if it was changed on purpose, write it with new "
            "checksums (astropy: writeto(..., checksum=True)).",
        )  # fmt: skip
    good: NDArray[np.bool_] | None = None
    if "DQ" in planes:
        good = (_sample(product, "DQ") & np.uint16(DQ.NO_DATA | DQ.BAD_PIXEL)) == 0
    if "SCI" in planes and np.isfinite(_sample(product, "SCI")).mean() < _LEAST_FINITE:
        raise FrameError(
            name, "most pixels of SCI are no numbers", remedy="Make the product again; it holds nothing."
        )
    if "VAR" in planes:
        var = _sample(product, "VAR")
        wrong = ~(var >= 0) if good is None else ~(var >= 0) & good
        if wrong.any():
            raise FrameError(
                name, f"VAR is negative or no number in {int(wrong.sum())} of the {wrong.size} pixels looked at",
                remedy="Make the product again; its variances cannot be used.",
            )  # fmt: skip


def _sample(product: ProductFile, plane: str) -> NDArray[Any]:
    return product.rows(plane)[::_STEP]
