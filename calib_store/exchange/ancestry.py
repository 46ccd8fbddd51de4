"""The inputs of a product that was made elsewhere, as inputs in this store.

A product of nirflow has the table LINEAGE: every ancestor with the sha256 of its bytes. Other software copies that
table from a calibration to products made with it, so it counts only for the product that it names. A product of DRAGONS
has PROVENANCE (file name and md5 of each input file) and the names of the combined frames in IMCMBnnn. Inputs that the
store has are linked to its own frames and products; the others are kept as names and checksums.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from calib_store.files.objects import SHA256
from calib_store.model.records import Foreign, InputRef, Product
from calib_store.store import Store
from imaging.errors import NirflowError
from imaging.frames.file_names import plain_name
from imaging.header import Header
from imaging.io.compressed import STREAMS, compression, open_stream, reading
from imaging.io.limits import opened
from imaging.kinds import CALIBRATIONS
from imaging.products.origin import NIRFLOW, LineageLabel, Origin
from imaging.products.product_file import ProductFile, read_table

#: Calibrations applied by primitives of DRAGONS; every other primitive combines its inputs.
_ROLES = {primitive: kind.name for kind in CALIBRATIONS for primitive in kind.primitives}
#: Keywords that name the calibrations that were applied.
_APPLIED = {kind.applied_card: kind.name for kind in CALIBRATIONS}
#: Between the role of an ancestor and the input that was made from it.
_OF = " of "
#: Follows the role of an input that was found only by its name.
_BY_NAME = ", by name"
_CHUNK = 1 << 20


def inputs_from(store: Store, product: ProductFile) -> tuple[InputRef, ...]:
    """Return the inputs that a product's file records.

    Parameters
    ----------
    store
        Where the inputs may be.
    product
        The product, open.
    """
    primary, origin = product.primary, Origin.of(product.primary)
    lineage = _rows(product, "LINEAGE")
    label = LineageLabel.of(product.table_header("LINEAGE") or {})
    if lineage and label.belongs_to(origin):
        return _from_lineage(store, lineage, lineage[0]["step"])
    provenance = _rows(product, "PROVENANCE")
    found: list[InputRef] = []
    if lineage and not origin.is_own:
        found += _carried(store, lineage, label)
        # These rows came with the LINEAGE table: they belong to the same product.
        provenance = [row for row in provenance if row["provenance_added_by"] != NIRFLOW]
    found += _from_provenance(store, provenance)
    there = {plain_name(row["filename"]) for row in provenance}
    there |= {lineage[0]["step"], label.product} if lineage else set()
    for role, name in _names(primary):
        if plain_name(name) not in there:
            found.append(InputRef(f"{role}{_BY_NAME}", _named(store, name)))
    once: dict[str, InputRef] = {}
    for ref in found:
        once.setdefault(str(ref.source), ref)
    return tuple(once.values())


def is_direct(ref: InputRef) -> bool:
    """Return whether an input went into the product itself, not into one of its inputs."""
    return _OF not in ref.role


def is_by_name(ref: InputRef) -> bool:
    """Return whether an input was found only by its name, without a checksum."""
    return ref.role.endswith(_BY_NAME)


def _rows(product: ProductFile, extname: str) -> list[dict[str, str]]:
    table = read_table(product.path, extname)
    if table is None:
        return []
    return [{name: str(row[name]).strip() for name in table.dtype.names or ()} for row in table]


def _names(primary: Header) -> Iterator[tuple[str, str]]:
    """Yield roles and names of the inputs that the primary header names."""
    for keyword in sorted(primary):
        if keyword.startswith("IMCMB") and str(primary[keyword]).strip():
            yield "input", str(primary[keyword]).strip()
    for keyword, role in _APPLIED.items():
        if name := str(primary.get(keyword, "")).strip():
            yield role, name


def _carried(store: Store, rows: Sequence[Mapping[str, str]], label: LineageLabel) -> list[InputRef]:
    """Return the product whose LINEAGE table was copied; if it is not in this store, also its ancestors."""
    step = rows[0]["step"]
    product = (store.known(label.key) if label.key else None) or _made_from(store, step, rows)
    if product is not None:
        return [InputRef(product.kind, product.id)]
    return [InputRef(f"input{_BY_NAME}", Foreign(label.product or step)), *_from_lineage(store, rows, None)]


def _made_from(store: Store, name: str, rows: Sequence[Mapping[str, str]]) -> Product | None:
    """Return the product of that name that was made from exactly the inputs that the rows name."""
    wanted = {row["sha256"] for row in rows if row["step"] == name}
    for product in store.named(name):
        if product.name != name:
            continue
        if {_sha256(store, ref) for ref in store.inputs_of(product) if is_direct(ref)} == wanted:
            return product
    return None


def _sha256(store: Store, ref: InputRef) -> str:
    """Return the sha256 of an input in the form of a LINEAGE table."""
    if isinstance(ref.source, Foreign):
        return ref.source.checksum.removeprefix("sha256:")
    return store.get(ref.source).sha256 if isinstance(ref.source, UUID) else ref.source


def _from_lineage(store: Store, rows: Sequence[Mapping[str, str]], own: str | None) -> tuple[InputRef, ...]:
    """Return inputs of the product ``own``; of those that the store does not have, what they were made from as well."""
    known = store.frames.with_sha256s({row["sha256"] for row in rows})
    tied: dict[str, InputRef] = {}
    there: set[str] = set()  # products in the store, which already has their inputs
    for row in rows:
        sha256, name = row["sha256"], row["file"]
        if row["step"] != own and row["step"] in there:
            continue
        role = row["role"] if row["step"] == own else f"{row['role']}{_OF}{row['step']}"
        if not SHA256.fullmatch(sha256):  # made elsewhere: a different checksum, or only its name
            tied.setdefault(f"{name} {sha256}", InputRef(role, Foreign(name, sha256)))
            continue
        if sha256 in known:
            tied.setdefault(sha256, InputRef(role, sha256))
            continue
        same = [product for product in store.named(sha256) if product.sha256 == sha256]
        if same:
            there.add(name)
            tied.setdefault(sha256, InputRef(role, same[0].id))
        else:
            tied.setdefault(sha256, InputRef(role, Foreign(name, f"sha256:{sha256}")))
    return tuple(tied.values())


def _from_provenance(store: Store, rows: Sequence[Mapping[str, str]]) -> tuple[InputRef, ...]:
    tied: dict[tuple[str, str], InputRef] = {}
    for row in rows:
        name, md5 = plain_name(row["filename"]), row["md5"].lower()
        role = _ROLES.get(row["provenance_added_by"], "input")
        if (name, md5) in tied:
            continue
        tied[name, md5] = InputRef(role, _checked(store, name, md5) if md5 else _named(store, name))
    return tuple(tied.values())


def _checked(store: Store, name: str, md5: str) -> Any:
    """Return the frame or product of that name whose file has that md5, or else name and md5."""
    for frame in store.frames.named(name):
        if any(md5 in _md5_sums(path) for path in frame.paths if path.is_file()):
            return frame.sha256
    for product in store.named(name):
        try:
            if md5 in _md5_sums(store.file_of(product)):
                return product.id
        except NirflowError:  # its file is damaged, so it is no match
            continue
    return Foreign(name, f"md5:{md5}")


def _named(store: Store, name: str) -> Any:
    """Return the frame or product of a unique name, or else the name."""
    name = plain_name(name)
    found: list[Any] = [frame.sha256 for frame in store.frames.named(name) if frame.name == name]
    found += [product.id for product in store.named(name) if product.name == name]
    return found[0] if len(found) == 1 else Foreign(name)


def _md5_sums(path: Path) -> set[str]:
    """Return the md5 of a file and, if it is compressed, of its contents."""
    sums = set()
    with reading(path):
        with opened(path) as file:
            sums.add(_md5(iter(lambda: file.read(_CHUNK), b"")))
        if compression(path) in STREAMS:
            with open_stream(path) as stream:
                sums.add(_md5(iter(lambda: stream.read(_CHUNK), b"")))
    return sums


def _md5(chunks: Iterable[bytes]) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
