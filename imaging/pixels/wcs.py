"""The celestial WCS of an image: read from a header as old or new as it may be, written in today's keywords."""

from __future__ import annotations

import re
from typing import Any, Final

from astropy.io.fits import Header

#: Distortions, which go with a WCS as they are.
DISTORTION: Final = re.compile(r"(A|B|AP|BP)_(ORDER|\d_\d)|PV[12]_\d+")


def celestial_cards(header: Header) -> list[tuple[Any, ...]]:
    """The two celestial axes of a header's WCS in today's keywords; empty where it has none.

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
    """The astropy WCS of an image header's two celestial axes, or None where it has none.

    ``shape`` (rows, columns) is what the WCS then says of its image.
    """
    cards = celestial_cards(header)
    if not cards:
        return None
    from astropy.wcs import WCS

    wcs = WCS(Header(cards))
    wcs.array_shape = shape
    return wcs
