"""Rows and magnitudes that a survey's own flags exclude.

2MASS: ph_qual and cc_flg, one character for each of J, H and Ks, gal_contam and mp_flg (Skrutskie et al. 2006, AJ 131,
1163, and the explanatory supplement, section II.2). VHS and UKIDSS: mergedClass, the error bits of each band, and the
seam between frame sets (Hambly et al. 2008, MNRAS 384, 637). Gaia: RUWE (Lindegren et al. 2021, A&A 649, A2).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.reference_catalogue.catalogue_columns import Columns
from imaging.reference_catalogue.reference_stars import BANDS

Mask = NDArray[np.bool_]
#: Qualities of a magnitude of 2MASS that is a detection with an error.
_DETECTED: Final = frozenset("ABCD")
_TWOMASS_BANDS: Final = ("J", "H", "Ks")
#: Classes of VHS and UKIDSS that are stars or probable stars.
_STARS: Final = (-1.0, -2.0)
#: Error bits from here on are more than information about deblending or the sky.
_WORST_BITS: Final = 256
#: Least probability that an object of UKIDSS without a class is a star.
_LEAST_STAR: Final = 0.9
#: RUWE above which the motion of a source is not that of a single star.
_MOST_RUWE: Final = 1.4


def excluded_rows(columns: Columns) -> dict[str, Mask]:
    """Return the rows that flags exclude, by reason; a mask of shape (rows,) for each."""
    found: dict[str, Mask] = {}
    if "extended" in columns:
        found["extended or part of an extended source"] = _more_than(columns, "extended", 0)
    if "moving" in columns:
        found["minor planet"] = _more_than(columns, "moving", 0)
    if "class" in columns:
        found["not a star"] = ~np.isin(columns.numbers("class"), _STARS)
    elif "star" in columns:
        found["not a star"] = ~(columns.numbers("star") >= _LEAST_STAR)
    if "seam" in columns:
        seam = columns.numbers("seam")
        same = columns.numbers("frame_set") == seam if "frame_set" in columns else seam <= 0
        found["second entry of a source"] = ~((seam <= 0) | same)
    if "ruwe" in columns:
        found[f"RUWE above {_MOST_RUWE}"] = _more_than(columns, "ruwe", _MOST_RUWE)
    if "duplicated" in columns:
        found["duplicated source"] = np.array(
            [text.lower() in ("true", "1") for text in columns.texts("duplicated")]
        )
    return found


def excluded_magnitudes(columns: Columns) -> dict[str, Mask]:
    """Return the magnitudes that flags exclude, by band; a mask of shape (rows,) for each."""
    found: dict[str, Mask] = {}
    if "quality" in columns:
        letters = [text.upper().ljust(3) for text in columns.texts("quality")]
        for i, band in enumerate(_TWOMASS_BANDS):
            found[band] = np.array([text[i] not in _DETECTED for text in letters])
    if "confusion" in columns:
        digits = [text.zfill(3) for text in columns.texts("confusion")]  # CSV reads 000 as the number 0
        for i, band in enumerate(_TWOMASS_BANDS):
            confused = np.array([text[i] != "0" for text in digits])
            found[band] = found[band] | confused if band in found else confused
    for band in BANDS:
        if f"{band}_bits" in columns:
            found[band] = _more_than(columns, f"{band}_bits", _WORST_BITS - 1)
    return found


def _more_than(columns: Columns, role: str, limit: float) -> Mask:
    values = columns.numbers(role)
    return np.isfinite(values) & (values > limit)
