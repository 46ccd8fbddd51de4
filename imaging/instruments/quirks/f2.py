"""What the table of FLAMINGOS-2 cannot express: which of two keywords is right, and the name of a long slit."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any, Final

from imaging.errors import FrameError

if TYPE_CHECKING:
    from imaging.instruments.keywords import Keywords

#: Before this date LNRS is sometimes wrong; the observed pairs (LNRS, NREADS) are listed below.
_LNRS_TRUSTED_FROM: Final = date(2015, 4, 1)
_LNRS_KNOWN_WRONG: Final = {(2, 4), (6, 8)}
_MOST_READS: Final = 1_000
#: Value of MASKNAME without a mask in the focal plane.
_NO_MASK: Final = ("None", "")
_OPEN_MASKS: Final = ("Open", "imaging")


def repaired(keys: Keywords, facts: dict[str, Any]) -> dict[str, Any]:
    """Take the number of reads from NREADS in early data, and the focal-plane mask from MASKNAME.

    Raises
    ------
    FrameError
        If LNRS and NREADS disagree and neither is known to be wrong.
    """
    facts["focal_mask"] = _mask(keys, facts["focal_mask"])
    if facts["kind"] != "bpm":
        day = facts["started"].date()
        facts["read_pairs"], facts["read_pairs_corrected"] = _read_pairs(keys, facts["read_pairs"], day)
    return facts


def _mask(keys: Keywords, mospos: str) -> str:
    if mospos == "Open":
        return "Open"
    mask = keys.text("MASKNAME", "")
    # The name of a long slit is in MOSPOS; MASKNAME is then None, which does not mean an open plane.
    return mospos if mask in _NO_MASK else "Open" if mask in _OPEN_MASKS else mask


def _read_pairs(keys: Keywords, lnrs: int, day: date) -> tuple[int, bool]:
    nreads = keys.count("NREADS", _MOST_READS) if "NREADS" in keys.header else lnrs
    if nreads == lnrs:
        return lnrs, False
    if day < _LNRS_TRUSTED_FROM and (lnrs, nreads) in _LNRS_KNOWN_WRONG:
        return nreads, True
    raise FrameError(
        keys.name, f"LNRS and NREADS = {nreads} disagree, so gain and read noise are unknown",
        keyword="LNRS", found=lnrs, expected="the value of NREADS",
        remedy="Find out which is right from the night log, correct the header or leave the file out.",
    )  # fmt: skip
