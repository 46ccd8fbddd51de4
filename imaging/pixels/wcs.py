"""The celestial WCS of an image: read from old or new keywords, written with current keywords."""

from __future__ import annotations

import re
from typing import Any, Final

from astropy.io.fits import Header

#: Distortion keywords, which are kept unchanged with a WCS.
DISTORTION: Final = re.compile(r"(A|B|AP|BP)_(ORDER|\d_\d)|PV[12]_\d+")


def celestial_cards(header: Header) -> list[tuple[Any, ...]]:
    """Return the two celestial axes of a header's WCS with current keywords; empty without a WCS.

    RADECSYS becomes RADESYS, PC and CDELT become CD, a third axis is dropped.
    """
    if not all(str(header.get(f"CTYPE{i}", "")).strip() for i in (1, 2)):
        return []
    matrix = _cd_matrix(header)
    if matrix is None:
        return []
    frame = str(header.get("RADESYS", header.get("RADECSYS", "FK5"))).strip()
    cards: list[tuple[Any, ...]] = [("WCSAXES", 2, "Number of celestial axes"), ("WCSDIM", 2)]
    cards += [(f"CTYPE{i}", str(header[f"CTYPE{i}"]).strip()) for i in (1, 2)]
    for keyword in ("CRPIX", "CRVAL"):
        cards += [(f"{keyword}{i}", float(header.get(f"{keyword}{i}", 0.0))) for i in (1, 2)]
    cards += [(f"CUNIT{i}", str(header.get(f"CUNIT{i}", "deg")).strip()) for i in (1, 2)]
    cards += [(f"CD{i}_{j}", matrix[i - 1][j - 1]) for i in (1, 2) for j in (1, 2)]
    cards.append(("RADESYS", frame))
    if frame.startswith("FK"):
        cards.append(("EQUINOX", float(header.get("EQUINOX", 2000.0 if frame == "FK5" else 1950.0))))
    cards += [(card.keyword, card.value) for card in header.cards if DISTORTION.fullmatch(card.keyword)]
    return cards


def _cd_matrix(header: Header) -> list[list[float]] | None:
    pairs = [(i, j) for i in (1, 2) for j in (1, 2)]
    if any(f"CD{i}_{j}" in header for i, j in pairs):
        return [[float(header.get(f"CD{i}_{j}", 0.0)) for j in (1, 2)] for i in (1, 2)]
    if "CDELT1" not in header or "CDELT2" not in header:
        return None
    return [
        [float(header[f"CDELT{i}"]) * float(header.get(f"PC{i}_{j}", float(i == j))) for j in (1, 2)]
        for i in (1, 2)
    ]


def celestial_wcs(header: Header, shape: tuple[int, int] | None = None) -> Any:
    """Return the astropy WCS of an image header's two celestial axes, or None.

    ``shape`` (rows, columns) becomes the image shape of the WCS.
    """
    cards = celestial_cards(header)
    if not cards:
        return None
    from astropy.wcs import WCS

    wcs = WCS(Header(cards))
    wcs.array_shape = shape
    return wcs
