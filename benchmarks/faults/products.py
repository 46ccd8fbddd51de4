"""Product files changed as other software, a disk or a user's script would, and added to a store."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from astropy.io import fits

from benchmarks.faults.situation import Check

if TYPE_CHECKING:
    from benchmarks.faults.laboratory import Done, Laboratory
    from benchmarks.faults.outcome import Outcome

#: Cards by which nirflow recognizes its own products.
_OWN_CARDS: Final = ("NFKEY", "NFVERS", "DARKKEY", "FLATKEY", "BPMKEY")
#: What DRAGONS writes.
DRAGONS: Final = {"PROCSOFT": "DRAGONS", "PROCSVER": "4.2.2"}


def file_of(outcome: Outcome, kind: str) -> Path:
    """Return the file of the only product of a kind."""
    return Path(outcome.products(kind)[0]["output"])


def changed(
    source: Path, target: Path, change: Callable[[fits.HDUList], object] | None = None, *,
    foreign: bool = False, checksum: bool = True, **cards: object,
) -> Path:  # fmt: skip
    """Return a copy of a product with changes; ``foreign`` removes what marks it as nirflow's own."""
    with fits.open(source, memmap=False) as hdus:
        for hdu in hdus:
            _ = hdu.data
        if foreign:
            for keyword in _OWN_CARDS:
                hdus[0].header.remove(keyword, ignore_missing=True)
            for name in ("LINEAGE", "HISTORY"):
                if name in hdus:
                    del hdus[name]
        for keyword, value in cards.items():
            card = keyword.replace("_", "-")
            if value is None:
                hdus[0].header.remove(card, ignore_missing=True)
            else:
                hdus[0].header[card] = value
        if change is not None:
            change(hdus)
        hdus.writeto(target, checksum=checksum)
    return target


def add(lab: Laboratory, store: Mapping[str, str], *files: Path) -> tuple[Done, dict[str, Any]]:
    """Add products to a store; return what was printed and the JSON."""
    done = lab.nirflow("cal", "add", *files, "--any-shape", "--json", env=store)
    try:
        found = json.loads(done.out)
    except ValueError:
        found = {}
    return done, found if isinstance(found, dict) else {}


def added(done: Done, found: Mapping[str, Any]) -> Check:
    """Check that a product was added without objection."""
    products = found.get("added", ())
    if not products:
        reasons = [one["reason"] for one in found.get("refused", ())]
        return Check(False, f"refused: {(reasons or [done.text.strip()])[0][:160]}")
    return Check(True, f"added as {products[0]['kind']} {products[0]['name']}")


def refused(done: Done, found: Mapping[str, Any], *terms: str) -> Check:
    """Check that a product was refused with a reason."""
    reasons = [one["reason"] for one in found.get("refused", ())]
    if found.get("added") or not reasons:
        return Check(False, f"accepted: {done.text.strip()[:120]}")
    return Check(all(term in reasons[0] for term in terms), f"refused: {reasons[0][:160]}")


def plain(done: Done) -> Check:
    """Check that no traceback was printed."""
    return Check(
        "Traceback (most recent call last)" not in done.text, f"traceback: {done.err.strip()[-120:]}"
    )


def shown(lab: Laboratory, store: Mapping[str, str], name: str) -> dict[str, Any]:
    """Return what ``nirflow cal show --json`` reports about a product."""
    done = lab.nirflow("cal", "show", name, "--no-preview", "--json", env=store)
    try:
        found = json.loads(done.out)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def scaled(factor: float) -> Callable[[fits.HDUList], None]:
    """Return a change that multiplies the values of a product."""

    def change(hdus: fits.HDUList) -> None:
        hdus["SCI"].data = (hdus["SCI"].data * factor).astype(np.float32)
        hdus["VAR"].data = (hdus["VAR"].data * factor**2).astype(np.float32)

    return change


def every_bit(hdus: fits.HDUList) -> None:
    """Mark every pixel as bad."""
    hdus["DQ"].data[:] = 1


def not_finite(hdus: fits.HDUList) -> None:
    """Make every seventh row NaN with a variance of 0."""
    hdus["SCI"].data[::7] = np.nan
    hdus["VAR"].data[:] = 0


def flip_a_byte(path: Path) -> None:
    """Change a byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.chmod(0o644)
    path.write_bytes(bytes(content))
