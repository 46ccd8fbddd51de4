"""What a product that was made elsewhere says of its own making, as inputs in this store.

A product of nirflow carries the table LINEAGE: every ancestor with the sha256 of its bytes. One of DRAGONS
carries PROVENANCE (file name and md5 of each file that went in), or at least the names in IMCMBnnn. What of
this the store has is tied to its own frames and products; the rest stays as names and checksums.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from astropy.io.fits import Header

from calib_store.objects import SHA256
from calib_store.records import Foreign, InputRef
from calib_store.store import Store
from imaging.errors import NirflowError
from imaging.facts import plain_name
from imaging.products import read_table
from imaging.unpack import compression, open_stream, reading

#: What the primitives of DRAGONS that apply a calibration apply; every other one combines its inputs.
_ROLES = {"darkCorrect": "dark", "flatCorrect": "flat", "addDQ": "bpm"}
_CHUNK = 1 << 20


def inputs_from(store: Store, file: Path, primary: Header) -> tuple[InputRef, ...]:
    """What a product's file says that it was made from.

    Parameters
    ----------
    store
        Where the inputs may be.
    file
        The product, plain.
    primary
        Its primary header.
    """
    lineage = read_table(file, "LINEAGE")
    if lineage is not None and len(lineage):
        return _from_lineage(store, [{n: str(row[n]) for n in lineage.dtype.names or ()} for row in lineage])
    provenance = read_table(file, "PROVENANCE")
    if provenance is not None and len(provenance):
        return _from_provenance(store, provenance)
    names = [str(primary[keyword]) for keyword in sorted(primary) if keyword.startswith("IMCMB")]
    return tuple(InputRef("input, by name", _named(store, name)) for name in dict.fromkeys(names))


def _from_lineage(store: Store, rows: Sequence[Mapping[str, str]]) -> tuple[InputRef, ...]:
    """Direct inputs; of those that the store does not have, what they were made from as well."""
    own = rows[0]["step"]
    known = store.frames.with_sha256s({row["sha256"] for row in rows})
    tied: dict[str, InputRef] = {}
    there: set[str] = {own}  # products whose own inputs need no telling here
    for row in rows:
        sha256, name = row["sha256"], row["file"]
        if row["step"] != own and row["step"] in there:
            continue
        role = row["role"] if row["step"] == own else f"{row['role']} of {row['step']}"
        if not SHA256.fullmatch(sha256):  # of what was made elsewhere: another checksum, or its name alone
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


def _from_provenance(store: Store, rows: Any) -> tuple[InputRef, ...]:
    tied: dict[tuple[str, str], InputRef] = {}
    for row in rows:
        name, md5 = plain_name(str(row["filename"]).strip()), str(row["md5"]).strip().lower()
        role = _ROLES.get(str(row["provenance_added_by"]).strip(), "input")
        if (name, md5) in tied:
            continue
        tied[name, md5] = InputRef(role, _checked(store, name, md5) if md5 else _named(store, name))
    return tuple(tied.values())


def _checked(store: Store, name: str, md5: str) -> Any:
    """The frame or product of that name whose file has that md5; otherwise name and md5."""
    for frame in store.frames.named(name):
        if any(md5 in _md5_sums(path) for path in frame.paths if path.is_file()):
            return frame.sha256
    for product in store.named(name):
        try:
            if md5 in _md5_sums(store.file_of(product)):
                return product.id
        except NirflowError:  # its file is damaged: then it is not the one
            continue
    return Foreign(name, f"md5:{md5}")


def _named(store: Store, name: str) -> Any:
    """The one frame or product of a name; otherwise the name."""
    name = plain_name(name)
    found: list[Any] = [frame.sha256 for frame in store.frames.named(name) if frame.name == name]
    found += [product.id for product in store.named(name) if product.name == name]
    return found[0] if len(found) == 1 else Foreign(name)


def _md5_sums(path: Path) -> set[str]:
    """Of a file as it is, and of what it holds where it is packed."""
    sums = set()
    with reading(path):
        with path.open("rb", buffering=0) as file:
            sums.add(_md5(iter(lambda: file.read(_CHUNK), b"")))
        if compression(path) in (".gz", ".bz2"):
            with open_stream(path) as stream:
                sums.add(_md5(iter(lambda: stream.read(_CHUNK), b"")))
    return sums


def _md5(chunks: Iterable[bytes]) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
