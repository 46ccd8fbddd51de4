"""Products that were made elsewhere: nirflow's from another store, or those of DRAGONS.

The header records what a file is (PROCDARK, PROCFLAT, BPMASK...), what it serves, who made it and when; its tables
record its inputs. It is checked before it is accepted (`calib_store.exchange.acceptance`).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from calib_store.curation.compare import verdict
from calib_store.exchange.acceptance import check_content, check_file, check_planes, members
from calib_store.exchange.ancestry import inputs_from
from calib_store.exchange.recipe_check import ADOPTED, adopted_key, adopted_parameters
from calib_store.model.records import IMPORTED, InputRef, Product
from calib_store.store import Store
from calib_store.tables.products import NewProduct
from imaging.calibrations.compare import GateParameters
from imaging.errors import FrameError, StoreError
from imaging.frames.facts import FrameFacts, facts_from_headers
from imaging.frames.file_names import plain_name
from imaging.instruments.detector import WantedShape, wanted_shapes
from imaging.instruments.time_texts import parse_moment
from imaging.io.compressed import unpack
from imaging.kinds import KINDS, in_a_sentence, with_article
from imaging.products.origin import Origin
from imaging.products.product_file import ProductFile

logger = logging.getLogger(__name__)

#: Why a file that a user gives for one reduction serves others only as a last resort.
GIVEN = "given for one reduction with --use"


@dataclass(frozen=True)
class _Checked:
    """The results of checking a file."""

    kind: str
    facts: FrameFacts
    published: bool
    origin: Origin
    inputs: tuple[InputRef, ...]
    span: tuple[datetime, datetime]
    pixel_sums: Mapping[str, str]


def adopt(
    store: Store,
    path: Path,
    *,
    kind: str | None = None,
    shape: WantedShape = None,
    author: str = "nirflow cal add",
    gate: GateParameters | None = None,
    provisional: str | None = None,
) -> Product:
    """Add a product's file to the store, as a candidate.

    The same content is one product: a copy of a product that the store made itself is recognized as that product by
    its bytes, or by its recipe and planes. If the store's own file was lost or damaged, a copy with the same bytes
    replaces it. A bad pixel mask that the observatory published (OBSTYPE = BPM) is valid from its date on; one made
    from flats, like any other product, for the days around its own.

    Parameters
    ----------
    store
        The store.
    path
        The file, plain or compressed (``.gz``, ``.bz2``).
    kind
        Its kind, if its header does not have it.
    shape
        Rows and columns that a calibration must have, or those of its detector; default: any.
        The size of a stack depends on its dithers.
    author
        Who adds it.
    gate
        Limits of the comparison with a certified product.
    provisional
        Why it should serve others only as a last resort. A product that the store already has is unchanged, but becomes
        an ordinary one if this is omitted.

    Raises
    ------
    StoreError
        If the file is not a product, or not of ``kind``.
    FrameError
        If the file is damaged, a keyword that the rules need is missing or invalid, the pixels cannot serve
        (`imaging.calibrations.sanity`), or the configuration is not that of the inputs that the store knows.
    """
    if path.is_dir() or not path.exists():
        what = f"{path} is a folder." if path.is_dir() else f"There is no file {path}."
        raise StoreError(what, remedy="Give the path of a FITS file.")
    with tempfile.TemporaryDirectory(prefix="nirflow-adopt-") as folder:
        plain, sha256 = unpack(path, Path(folder))
        found = recognise(
            store, path.name, plain, sha256, kind=kind, shape=shape, author=author, gate=gate,
            provisional=provisional,
        )  # fmt: skip
        product = store.add(found, plain) if isinstance(found, NewProduct) else found
    vouched_for = provisional is None and product.provisional in (GIVEN, IMPORTED)
    return store.confirm(product) if vouched_for else product


def recognise(
    store: Store,
    name: str,
    plain: Path,
    sha256: str,
    *,
    kind: str | None = None,
    shape: WantedShape = None,
    author: str,
    gate: GateParameters | None = None,
    provisional: str | None = None,
) -> Product | NewProduct:
    """Check a product's file and identify its product; nothing is written.

    Parameters
    ----------
    name
        Its file name.
    plain, sha256
        The file, uncompressed, and its checksum.
    store, kind, shape, author, gate, provisional
        As for `adopt`.

    Returns
    -------
    Product or NewProduct
        The product of the store with that content, or the one to be added: a new product, or one of the store whose
        file was lost or damaged.

    Raises
    ------
    StoreError, FrameError
        As for `adopt`.
    """
    checked = _checked(store, name, plain, kind, shape)
    made = checked.kind
    for known in _known(store, made, sha256, checked.origin.key):
        whole = store.find(known.recipe_key)
        if known.sha256 == sha256:
            return whole or _again(known, checked.facts, author)
        if (
            whole is not None
            and _serves_alike(store, whole, checked.facts)
            and _pixel_sums(store.file_of(whole)) == checked.pixel_sums
        ):
            return whole
    published = checked.published and KINDS[made].published
    return NewProduct(
        kind=made, name=plain_name(name), recipe_key=adopted_key(made, sha256), span=checked.span,
        facts=checked.facts, inputs=checked.inputs, parameters=adopted_parameters(made), metrics={},
        algorithm_version=ADOPTED, author=author, published=published, provisional=provisional,
        software=checked.origin.software, made_at=_made_at(name, checked.origin),
        gate=verdict(
            store, made, plain, checked.facts, gate or GateParameters(), published=published
        ),
    )  # fmt: skip


def _made_at(name: str, origin: Origin) -> datetime | None:
    """Return when a product was made; None for a time in the future, which would take precedence until then."""
    if origin.made_at is not None and origin.made_at > datetime.now(UTC):
        logger.warning(
            "%s: made at %s, which is in the future; the current time is used", name, origin.made_at
        )
        return None
    return origin.made_at


def _pixel_sums(path: Path) -> dict[str, str]:
    with ProductFile(path) as product:
        return product.pixel_sums()


def _kind(name: str, found: str | None, given: str | None) -> str:
    if found is not None and given is not None and found != given:
        raise StoreError(
            f"According to its header, {name} is {with_article(found)}, not {with_article(given)}.",
            remedy=f"Add it as {with_article(found)}.",
        )
    made = found or given
    if made is None:
        raise StoreError(
            f"{name} does not name its kind of product: no {in_a_sentence(k.card for k in KINDS.values())}.",
            remedy="Give a product of nirflow or DRAGONS, or name its kind with --kind.",
        )
    return made


def _known(store: Store, kind: str, sha256: str, key: str) -> list[Product]:
    """Return products of the kind with a file of those bytes or made by that recipe; nirflow's own first."""
    found = {
        product.id: product
        for name in (sha256, key)
        if name
        for product in store.named(name)
        if product.kind == kind and name in (product.sha256, product.recipe_key)
    }
    return sorted(found.values(), key=lambda product: product.algorithm_version == ADOPTED)


def _serves_alike(store: Store, product: Product, facts: FrameFacts) -> bool:
    """Return whether a file with these facts would serve the same frames as the product (an image serves none)."""
    rule = store.rules().named(product.rule) if product.rule is not None else None
    return rule is None or rule.first_difference(product.keys, facts) is None


def _again(product: Product, facts: FrameFacts, author: str) -> NewProduct:
    """Return a product whose file was lost or damaged, to be added again."""
    return NewProduct(
        kind=product.kind, name=product.name, recipe_key=product.recipe_key, span=product.span, facts=facts,
        inputs=(), parameters=product.parameters, metrics=product.metrics,
        algorithm_version=product.algorithm_version, author=author, flow_run_id=product.flow_run_id,
        published=product.published, software=product.software_version,
    )  # fmt: skip


def _checked(store: Store, name: str, plain: Path, kind: str | None, shape: WantedShape) -> _Checked:
    check_file(name, plain)
    with ProductFile(plain) as product:
        primary: Any = product.primary.copy()
        # A mask made from frames has a card for it; one that the observatory publishes does not.
        published = str(primary.get("OBSTYPE", "")).upper() == "BPM" and "NCOMBINE" not in primary
        facts = facts_from_headers(primary, product.header, name=name)
        made = _kind(name, facts.product_kind or None, kind)
        wanted = wanted_shapes(shape, facts.table.detector)
        if wanted is not None and product.shape not in wanted and KINDS[made].is_calibration:
            expected = " or ".join(map(str, wanted))
            raise FrameError(
                name, "the wrong shape for a calibration", keyword="NAXISn", found=product.shape, expected=expected,
                remedy="Give a product of the full detector. Subarrays and small simulated frames are "
                "accepted with --any-shape.",
            )  # fmt: skip
        check_planes(name, product)
        origin, inputs = Origin.of(primary), inputs_from(store, product)
        same = [
            (f"{one.name} ({one.short_id}), which has the same recipe", FrameFacts.model_validate(one.facts))
            for one in _known(store, made, "", origin.key)
        ]
        check_content(store, made, product, name, facts, inputs, same)
        sums = product.pixel_sums() if same else {}
    span = _span(store, name, primary, origin, made, facts, inputs)
    return _Checked(made, facts, published, origin, inputs, span, sums)


def _span(
    store: Store,
    name: str,
    primary: Mapping[str, Any],
    origin: Origin,
    kind: str,
    facts: FrameFacts,
    inputs: tuple[InputRef, ...],
) -> tuple[datetime, datetime]:
    """Return the beginning and end of the inputs' exposures.

    A product of nirflow records them; for another they come from the header and from frames that the store knows.
    """
    if not origin.is_own or "DATE-BEG" not in primary:
        exposures = [facts, *(its for _, its in members(store, kind, name, inputs) if not its.processed)]
        return min(one.started for one in exposures), max(one.ended for one in exposures)
    sides = []
    for keyword in ("DATE-BEG", "DATE-END"):
        value = primary.get(keyword)
        moment = parse_moment(value)
        if moment is None:
            raise FrameError(
                name,
                "a time that cannot be read",
                keyword=keyword,
                found=value,
                expected="2013-11-21T02:52:48.0",
                remedy="Copy the file again; its header was changed.",
            )
        sides.append(moment)
    return sides[0], sides[1]
