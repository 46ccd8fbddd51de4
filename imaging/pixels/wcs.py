"""The celestial WCS of an image: read from old or new keywords, checked, written with current keywords."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

from imaging.header import Header, text_of

#: Distortion keywords, which are kept unchanged with a WCS.
DISTORTION: Final = re.compile(r"(A|B|AP|BP)_(ORDER|\d_\d)|PV[12]_\d+")
#: The other keywords of a WCS.
WCS_KEYWORDS: Final = re.compile(
    r"WCSAXES|WCSDIM|RADECSYS|RADESYS|EQUINOX|(CTYPE|CRPIX|CRVAL|CUNIT|CDELT|CROTA)\d|(CD|PC)\d_\d|CD3_3"
    r"|LONPOLE|LATPOLE|MJDREF[IF]?"
)
#: Scales of cameras, arcsec per pixel, with a wide margin.
_SCALES: Final = (1e-4, 3600.0)
#: Area of a pixel over the product of its sides: 1 for a square, nearly 0 for a singular matrix.
_SQUARE: Final = 0.05
#: Degrees in the units that an axis may have.
_UNITS: Final = {"deg": 1.0, "arcmin": 1 / 60, "arcsec": 1 / 3600, "rad": math.degrees(1), "mas": 1 / 3.6e6}
_PAIRS: Final = tuple((i, j) for i in (1, 2) for j in (1, 2))
#: World coordinates as nearly all frames have them: wcslib need not be asked whether it can use them.
_USUAL: Final = ["RA---TAN", "DEC--TAN"]
_USUAL_FRAMES: Final = ("FK5", "ICRS")


def wcs_problem(header: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the celestial WCS of a header: empty for a valid one, None if it has none.

    Invalid are a value that is missing or not a number, a singular matrix, a scale that no camera has, and
    anything that wcslib refuses, such as two axes that do not belong together.
    """
    types = [str(header.get(f"CTYPE{i}") or "").strip() for i in (1, 2)]
    has_matrix = any(_mentions(header, f"CD{i}_{j}") for i, j in _PAIRS) or _mentions(header, "CDELT1")
    if not any(types) or not has_matrix:
        return None
    if not all(types):
        return f"CTYPE1 = {types[0]!r}, CTYPE2 = {types[1]!r}"
    for keyword, default in (("CRPIX1", 0.0), ("CRPIX2", 0.0), ("CRVAL1", None), ("CRVAL2", None)):
        if _number(header, keyword, default) is None:
            return _shown(header, keyword)
    for keyword in ("CUNIT1", "CUNIT2"):
        if _unit(header, keyword) not in _UNITS:
            return _shown(header, keyword)
    first, second = (_UNITS[_unit(header, f"CUNIT{i}")] for i in (1, 2))
    if types[1].startswith("DEC") and abs(_number(header, "CRVAL2") or 0.0) * second > 90.0:
        return _shown(header, "CRVAL2")
    matrix = _matrix(header)
    if isinstance(matrix, str):
        return _shown(header, matrix)
    a, b, c, d = (factor * one for row, factor in zip(matrix, (first, second), strict=True) for one in row)
    sides = math.hypot(a, b) * math.hypot(c, d)
    area = abs(a * d - b * c)
    if not (sides > 0 and area > _SQUARE * sides):
        names = "CDi_j" if any(f"CD{i}_{j}" in header for i, j in _PAIRS) else "CDELTi and PCi_j"
        return f"the matrix {names} = {a:g}, {b:g}, {c:g}, {d:g} is singular"
    scale = math.sqrt(area) * 3600.0
    if not _SCALES[0] <= scale <= _SCALES[1]:
        return f"its pixels would have {scale:.3g} arcsec"
    usual = types == _USUAL and str(header.get("RADESYS") or "FK5").strip() in _USUAL_FRAMES
    distorted = [name for name in header if DISTORTION.fullmatch(name)]
    return "" if usual and not distorted else _refused(header, types, distorted)


def _refused(header: Mapping[str, Any], types: list[str], distorted: list[str]) -> str:
    """Return why wcslib cannot use a WCS whose values are valid; empty if it can."""
    from astropy.wcs import WCS  # imported late: many runs need none

    cards = {keyword: value for keyword, value, *_ in _cards(header)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            centre = WCS(cards, fix=False).all_pix2world(0.0, 0.0, 0)
    except (ValueError, TypeError, RuntimeError):
        centre = (math.nan,)
    if all(math.isfinite(float(value)) for value in centre) and _are_celestial(types):
        return ""
    with_distortion = f", with the distortion {', '.join(distorted)}" if distorted else ""
    return f"CTYPE1 = {types[0]!r}, CTYPE2 = {types[1]!r}{with_distortion}"


def _are_celestial(types: list[str]) -> bool:
    """Return whether two axes are a longitude and a latitude."""
    return {kind.partition("-")[0][-3:] for kind in types} in ({"RA", "DEC"}, {"LON", "LAT"})


def with_valid_wcs(image: Header, primary: Header) -> Header:
    """Return the header of an image with a valid WCS, or with none.

    Parameters
    ----------
    image
        Header of the image extension.
    primary
        Primary header of the file: its WCS replaces an invalid one.

    Returns
    -------
    Header
        The same header if nothing is wrong with it; otherwise a note describes what was done.
    """
    problem = wcs_problem(image)
    if not problem:
        return image
    note = f"the world coordinates of the image are invalid ({problem})"
    kept = [card for card in image.cards if not _is_wcs(card.keyword)]
    if image is not primary and wcs_problem(primary) == "":
        kept += [card for card in primary.cards if _is_wcs(card.keyword)]
        note += "; those of the primary header are used"
    else:
        note += "; the telescope's offsets are used"
    return Header(kept, unreadable=image.unreadable, notes=(*image.notes, note))


def celestial_cards(header: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return the two celestial axes of a header's WCS with current keywords; empty without a valid WCS.

    RADECSYS becomes RADESYS, PC and CDELT become CD, a third axis is dropped.
    """
    return _cards(header) if wcs_problem(header) == "" else []


def _cards(header: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return the celestial axes of a header with valid values."""
    matrix = _matrix(header)
    assert not isinstance(matrix, str)
    frame = str(header.get("RADESYS") or header.get("RADECSYS") or "FK5").strip()
    cards: list[tuple[Any, ...]] = [("WCSAXES", 2, "Number of celestial axes"), ("WCSDIM", 2)]
    cards += [(f"CTYPE{i}", str(header[f"CTYPE{i}"]).strip()) for i in (1, 2)]
    for keyword in ("CRPIX", "CRVAL"):
        cards += [(f"{keyword}{i}", _number(header, f"{keyword}{i}", 0.0)) for i in (1, 2)]
    cards += [(f"CUNIT{i}", _unit(header, f"CUNIT{i}")) for i in (1, 2)]
    cards += [(f"CD{i}_{j}", matrix[i - 1][j - 1]) for i, j in _PAIRS]
    cards.append(("RADESYS", frame))
    if frame.startswith("FK"):
        usual = 2000.0 if frame == "FK5" else 1950.0
        equinox = _number(header, "EQUINOX")
        cards.append(("EQUINOX", usual if equinox is None else equinox))
    cards += [
        (name, value)
        for name, value in header.items()
        if DISTORTION.fullmatch(name) and isinstance(value, (int, float))
    ]
    return cards


def celestial_wcs(header: Mapping[str, Any], shape: tuple[int, int] | None = None) -> Any:
    """Return the astropy WCS of an image header's two celestial axes, or None.

    ``shape`` (rows, columns) becomes the image shape of the WCS.
    """
    cards = celestial_cards(header)
    if not cards:
        return None
    wcs = wcs_of({keyword: value for keyword, value, *_ in cards})
    wcs.array_shape = shape
    return wcs


def wcs_of(header: Mapping[str, Any]) -> Any:
    """Return the astropy WCS of a header that has nothing but a WCS."""
    from astropy.wcs import WCS  # imported late: many runs need none

    return WCS(dict(header))


def _unit(header: Mapping[str, Any], keyword: str) -> str:
    unit = str(header.get(keyword) or "deg").strip()
    return "deg" if unit.lower() in ("", "deg", "degree", "degrees") else unit


def _is_wcs(keyword: str) -> bool:
    return WCS_KEYWORDS.fullmatch(keyword) is not None or DISTORTION.fullmatch(keyword) is not None


def _mentions(header: Mapping[str, Any], keyword: str) -> bool:
    """Return whether a header has a card of that keyword, readable or not."""
    return keyword in header or text_of(header, keyword) is not None


def _matrix(header: Mapping[str, Any]) -> list[list[float]] | str:
    """Return the matrix, deg per pixel, or the keyword that is not a number."""
    if any(_mentions(header, f"CD{i}_{j}") for i, j in _PAIRS):
        rows = [[_number(header, f"CD{i}_{j}", 0.0) for j in (1, 2)] for i in (1, 2)]
        names = [[f"CD{i}_{j}" for j in (1, 2)] for i in (1, 2)]
    else:
        steps = [_number(header, f"CDELT{i}") for i in (1, 2)]
        turns = [[_number(header, f"PC{i}_{j}", float(i == j)) for j in (1, 2)] for i in (1, 2)]
        if _mentions(header, "CROTA2") and not any(_mentions(header, f"PC{i}_{j}") for i, j in _PAIRS):
            return _turned(header, steps)
        for i, step in enumerate(steps, start=1):
            if step is None:
                return f"CDELT{i}"
        names = [[f"PC{i}_{j}" for j in (1, 2)] for i in (1, 2)]
        rows = [
            [None if turn is None else float(step or 0.0) * turn for turn in row]
            for step, row in zip(steps, turns, strict=True)
        ]
    found: list[list[float]] = [[], []]
    for i, j in _PAIRS:
        value = rows[i - 1][j - 1]
        if value is None:
            return names[i - 1][j - 1]
        found[i - 1].append(value)
    return found


def _turned(header: Mapping[str, Any], steps: Sequence[float | None]) -> list[list[float]] | str:
    """Return the matrix of the old keywords CDELTi and CROTA2 (Calabretta & Greisen 2002, section 6.1)."""
    angle = _number(header, "CROTA2")
    for keyword, value in (("CDELT1", steps[0]), ("CDELT2", steps[1]), ("CROTA2", angle)):
        if value is None:
            return keyword
    assert steps[0] is not None
    assert steps[1] is not None
    assert angle is not None
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return [[steps[0] * cosine, -steps[1] * sine], [steps[0] * sine, steps[1] * cosine]]


def _number(header: Mapping[str, Any], keyword: str, default: float | None = None) -> float | None:
    """Return a finite number, also one written as a text; None if it is missing, unless there is a default."""
    if not _mentions(header, keyword):
        return default
    value = header.get(keyword)
    if isinstance(value, str):
        try:
            value = float(value.strip().lstrip("JB").replace(",", "."))
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def _shown(header: Mapping[str, Any], keyword: str) -> str:
    if not _mentions(header, keyword):
        return f"{keyword} is missing"
    text = text_of(header, keyword)
    return f"{keyword} = {text if text is not None else repr(header.get(keyword))}"
