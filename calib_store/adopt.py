"""Products that were made elsewhere: ours from another store, or those of DRAGONS.

The header says what a file is (PROCDARK, PROCFLAT, BPMASK...) and what it serves. It is checked before it
is accepted: the planes are there, read whole and agree in shape.
"""

from __future__ import annotations

import bz2
import gzip
import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calib_store.objects import file_sha256
from calib_store.records import Product, recipe_key
from calib_store.rules import first_difference, rule_named
from calib_store.store import Store
from imaging.errors import FrameError, StoreError
from imaging.facts import FrameFacts, facts_from_headers, plain_name

if TYPE_CHECKING:
    from astropy.io.fits import HDUList

logger = logging.getLogger(__name__)

_FITS_BLOCK = 2880
_PLANES = ("SCI", "VAR", "DQ")
_OPENERS: dict[str, Callable[[Path], gzip.GzipFile | bz2.BZ2File]] = {
    ".gz": gzip.GzipFile,
    ".bz2": bz2.BZ2File,
}


def adopt(
    store: Store,
    path: Path,
    *,
    kind: str | None = None,
    shape: tuple[int, int] | None = None,
    author: str = "nirflow cal add",
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
        Rows and columns that it must have; any without.
    author
        Who adds it.

    Raises
    ------
    StoreError
        Where the file is no product, is damaged, or is something other than ``kind``.
    FrameError
        Where a keyword that the rules need is missing or makes no sense.
    """
    with tempfile.TemporaryDirectory(prefix="nirflow-adopt-") as folder:
        plain = _unpacked(path, Path(folder))
        facts, static, own_key = _checked(path, plain, shape)
        found = facts.product_kind or None
        if found is not None and kind is not None and found != kind:
            raise StoreError(
                f"{path.name} is a {found}, not a {kind}, by its header.", remedy=f"Add it as a {found}."
            )
        made = found or kind
        if made is None:
            raise StoreError(
                f"{path.name} does not say which product it is: no PROCDARK, PROCFLAT, BPMASK or PROCSCI.",
                remedy="Give a product of nirflow or DRAGONS, or say what it is with --kind.",
            )
        sha256 = file_sha256(plain)
        for known in store.known(made, sha256=sha256, recipe_key=own_key):
            if known.sha256 == sha256:
                return store.find(known.recipe_key) or _repaired(store, known, plain, facts, author)
            whole = store.find(known.recipe_key)
            if whole is not None and _serves_alike(whole, facts) and _same_planes(whole.path, plain):
                return whole
        parameters = {"adopted": True, "kind": made}
        key = recipe_key(made, [sha256], parameters, "adopted")
        return store.add_product(
            made, plain, name=plain_name(path.name), facts=facts, span=(facts.started, facts.ended),
            inputs=(), parameters=parameters, metrics={}, recipe_key=key, algorithm_version="adopted",
            static=static and made == "bpm", author=author,
        )  # fmt: skip


def _repaired(store: Store, product: Product, plain: Path, facts: FrameFacts, author: str) -> Product:
    """A product whose file was lost or damaged, with ``plain``, which has the same bytes, as its file."""
    return store.add_product(
        product.kind, plain, name=product.name, facts=facts, span=product.span, inputs=(),
        parameters=product.parameters, metrics=product.metrics, recipe_key=product.recipe_key,
        algorithm_version=product.algorithm_version, flow_run_id=product.flow_run_id, author=author,
    )  # fmt: skip


def _serves_alike(product: Product, facts: FrameFacts) -> bool:
    """Whether a file with these facts would serve the same frames as the product (an image serves none)."""
    return product.rule is None or first_difference(rule_named(product.rule), product.keys, facts) is None


def _same_planes(one: Path, other: Path) -> bool:
    """Whether two whole products have the same pixels; what their headers say of dates may differ."""
    import numpy as np
    from astropy.io import fits

    with fits.open(one, memmap=False) as ours, fits.open(other, memmap=False) as theirs:
        mine, its = ({hdu.name: hdu for hdu in hdus if hdu.name in _PLANES} for hdus in (ours, theirs))
        return mine.keys() == its.keys() and all(
            np.array_equal(mine[name].data, its[name].data, equal_nan=name != "DQ") for name in mine
        )


def _unpacked(path: Path, folder: Path) -> Path:
    if not path.is_file():
        raise StoreError(f"There is no file {path}.", remedy="Give the path of a FITS file.")
    opener = _OPENERS.get(path.suffix)
    if opener is None:
        return path
    plain = folder / "plain.fits"
    try:
        with opener(path) as source, plain.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    except (OSError, EOFError) as error:
        raise StoreError(
            f"{path.name} cannot be unpacked: {error}.",
            remedy="Fetch the file again: it is cut short or damaged.",
        ) from error
    return plain


def _checked(path: Path, plain: Path, shape: tuple[int, int] | None) -> tuple[FrameFacts, bool, str]:
    """Facts of a product's file, whether it is a published mask, and the recipe key if it is nirflow's."""
    from astropy.io import fits
    from astropy.io.fits.verify import VerifyWarning
    from astropy.utils.exceptions import AstropyUserWarning

    remedy = "Fetch the file again: it is cut short or damaged."
    size = plain.stat().st_size
    if size == 0 or size % _FITS_BLOCK:  # astropy overlooks an extension whose header is cut short
        raise StoreError(
            f"{path.name} is not a whole FITS file: {size} bytes, no multiple of {_FITS_BLOCK}.",
            remedy=remedy,
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", AstropyUserWarning)  # "file may have been truncated"
            warnings.simplefilter("ignore", VerifyWarning)
            with fits.open(plain, memmap=False) as hdus:
                primary = dict(hdus[0].header)
                extension = _planes(path, hdus, shape)
    except (OSError, AstropyUserWarning, ValueError, TypeError) as error:
        raise StoreError(f"{path.name} is not a whole FITS file: {error}.", remedy=remedy) from error
    # A mask that somebody made of frames says so; one that the observatory publishes does not.
    published = str(primary.get("OBSTYPE", "")).upper() == "BPM" and "NCOMBINE" not in primary
    if published and "UTSTART" not in primary and "T" not in str(primary.get("DATE-OBS", "")):
        primary["UTSTART"] = "00:00:00"  # a published mask has a date only
    return facts_from_headers(primary, extension, name=path.name), published, str(primary.get("NFKEY", ""))


def _planes(path: Path, hdus: HDUList, shape: tuple[int, int] | None) -> dict[str, Any]:
    """Header of the main plane, after every plane was read and compared in shape."""
    planes = {hdu.name: hdu for hdu in hdus if hdu.name in _PLANES and hdu.is_image}
    main = planes.get("SCI", planes.get("DQ"))
    if main is None or ("SCI" not in planes and "BPMASK" not in hdus[0].header):
        found = ", ".join(hdu.name or "unnamed" for hdu in hdus[1:]) or "none"
        raise FrameError(
            path.name, "not a product: there is no extension SCI", keyword="EXTNAME", found=found,
            expected="SCI", remedy="Give a processed file; raw frames are given to `nirflow reduce`.",
        )  # fmt: skip
    wanted = shape or main.shape
    for name, hdu in planes.items():
        if hdu.data is None or hdu.data.ndim != 2 or hdu.data.shape != tuple(wanted):
            raise FrameError(
                path.name, f"plane {name} has the wrong shape", keyword="NAXISn", found=hdu.shape,
                expected=tuple(wanted), remedy="Give a product of the whole detector.",
            )  # fmt: skip
    return dict(main.header)
