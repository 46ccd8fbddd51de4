"""Situations of the store that are about files: calibrations that must not be accepted, and damaged ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits

from benchmarks.faults import products
from benchmarks.faults.products import file_of, plain, refused
from benchmarks.faults.situation import Check, Situation

if TYPE_CHECKING:
    from benchmarks.faults.laboratory import Laboratory


def _refused(
    kind: str,
    change: Callable[[fits.HDUList], object] | None = None,
    *,
    foreign: bool = True,
    **cards: object,
) -> Callable[[Laboratory, Path], Sequence[Check]]:
    """Return a trial: a changed product of a kind is refused."""

    def trial(lab: Laboratory, folder: Path) -> Sequence[Check]:
        source = file_of(lab.untouched, kind)
        wrong = products.changed(source, folder / f"wrong_{kind}.fits", change, foreign=foreign, **cards)
        done, found = products.add(lab, lab.untouched.store, wrong)
        return (plain(done), refused(done, found))

    return trial


def _zeros(hdus: fits.HDUList) -> None:
    hdus["SCI"].data[:] = np.float32(0)


def _superseded_by_damaged(lab: Laboratory, folder: Path) -> Sequence[Check]:
    """Supersede a certified dark by one whose file was damaged."""
    store = lab.store()
    night = lab.copy("damaged")
    first = lab.reduce(night, "first", "--only", "dark", env=store, score=False)
    second = lab.reduce(night, "second", "--only", "dark", "--set", "dark.high=1.5", env=store, score=False)
    if not first.products("dark") or not second.products("dark"):
        return (first.clean(), second.clean(), Check(False, second.failure))
    good, bad = (one.products("dark")[0]["id"] for one in (first, second))
    certified = lab.nirflow("cal", "certify", good, "--author", "faults", env=store)
    place = json.loads(lab.nirflow("cal", "show", bad, "--no-preview", "--json", env=store).out)["file"][
        "place"
    ]
    products.flip_a_byte(Path(place))
    done = lab.nirflow(
        "cal", "supersede", good, "--by", bad, "--author", "faults", "--reason", "trial", env=store
    )
    listed = lab.nirflow("cal", "list", "--kind", "dark", "--json", env=store)
    keeps = any(one["id"] == good and one["status"] == "certified" for one in json.loads(listed.out or "[]"))
    return (
        plain(certified), plain(done),
        Check(done.code != 0 and keeps, f"exit code {done.code}: {done.err.strip()[:140]}"),
    )  # fmt: skip


def _damaged_calibration(lab: Laboratory, folder: Path) -> Sequence[Check]:
    """Damage the stored flat and dark, and reduce again: both are made again, not used."""
    store = lab.store()
    night = lab.copy("damaged-again")
    first = lab.reduce(night, "first", env=store, score=False)
    for kind in ("dark", "flat"):
        shown = lab.nirflow("cal", "show", first.products(kind)[0]["id"], "--no-preview", "--json", env=store)
        products.flip_a_byte(Path(json.loads(shown.out)["file"]["place"]))
    again = lab.reduce(night, "again", "--set", "stack.high=5", env=store)
    return (again.clean(), again.right_figures(), again.same_pixels("dark", "flat"))


def _one(
    name: str, given: str, right: str, trial: Callable[[Laboratory, Path], Sequence[Check]]
) -> Situation:
    return Situation(name, "store", given, right, trial=trial)


SITUATIONS: tuple[Situation, ...] = (
    _one("flat-of-zeros", "a flat of zeros, added", "refused", _refused("flat", _zeros)),
    _one("negative-flat", "a flat times -1, added", "refused", _refused("flat", products.scaled(-1))),
    _one("unnormalized-flat", "a flat times 22000, added", "refused", _refused("flat", products.scaled(22000))),
    _one("flat-of-bad-pixels", "a flat that is bad everywhere, added", "refused", _refused("flat", products.every_bit)),
    _one("dark-without-values", "a dark with NaN and no variance, added", "refused",
         _refused("dark", products.not_finite)),
    _one("exposure-time-changed", "our dark with EXPTIME edited, added", "refused: its frames have another",
         _refused("dark", None, foreign=False, EXPTIME=60.0)),
    _one("superseded-by-damaged", "a certified dark superseded by a damaged one", "refused; the certified one stays",
         _superseded_by_damaged),
    _one("damaged-calibrations", "stored calibrations with a changed byte", "made again, never used",
         _damaged_calibration),
)  # fmt: skip
