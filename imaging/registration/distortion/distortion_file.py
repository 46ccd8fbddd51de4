"""The file of a distortion: its displacement at each pixel as an image, and its coefficients as tables.

SCI is how far a pixel is from where it would be without distortion, VAR its variance. DISTORTION has the coefficients
of what is added to x and y, by the powers of u and v, the distances from the middle of the frame in units of half its
longer side; only this table is read. INVERSE has those of what is added to positions without distortion to return to
the frame, for other software.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.errors import FrameError, GroupError
from imaging.header import Header
from imaging.pixels.image import Image
from imaging.products.header_cards import CardValue
from imaging.products.product_file import ProductFile, read_table
from imaging.products.product_tables import Table
from imaging.registration.distortion.camera_distortion import Distortion, distortion_terms, path_of
from imaging.registration.distortion.dithered_distortion import MeasuredDistortion
from imaging.registration.geometry import Affine

#: EXTNAMEs of the tables.
COEFFICIENTS: Final = "DISTORTION"
INVERSE: Final = "INVERSE"
#: Unit of the image.
UNIT: Final = "pixel"
#: Least variance of a displacement, px^2: that in the middle of the frame is 0 by definition.
_LEAST: Final = 1e-8
#: Highest order that is read, and largest displacement as a fraction of half a frame.
_HIGHEST: Final = 5
_LARGEST: Final = 0.02
#: Order of the inverse, positions along each axis that it is fitted to.
_INVERSE_ORDER: Final = 5
_GRID: Final = 41
_BAND: Final = 256
_REMEDY: Final = "Give a distortion made by nirflow reduce --only distortion, or make it again."


def displacement_image(found: MeasuredDistortion, primary: Header) -> Image:
    """Return the displacement of each pixel and its variance, px and px^2.

    Parameters
    ----------
    found
        The measured distortion.
    primary
        Primary header of the first frame.
    """
    distortion = found.distortion
    ny, nx = distortion.shape
    sci, var = np.empty((ny, nx), np.float32), np.empty((ny, nx), np.float32)
    n = len(distortion.x)
    of_x, of_y = found.covariance[:n, :n], found.covariance[n:, n:]
    for first in range(0, ny, _BAND):
        y, x = np.mgrid[first : min(first + _BAND, ny), :nx].astype(np.float64)
        powers = distortion.powers(x, y)
        sci[first : first + _BAND] = np.hypot(
            powers @ np.array(distortion.x), powers @ np.array(distortion.y)
        )
        variance = ((powers @ of_x) * powers).sum(axis=-1) + ((powers @ of_y) * powers).sum(axis=-1)
        var[first : first + _BAND] = np.maximum(variance / 2, _LEAST)
    header = Header([("BUNIT", UNIT, "Unit of the pixels")])
    return Image(sci, var, np.zeros((ny, nx), np.uint16), header, primary)


def distortion_tables(found: MeasuredDistortion) -> dict[str, Table]:
    """Return the tables of the coefficients and of the inverse, by EXTNAME."""
    distortion = found.distortion
    errors = np.sqrt(np.diag(found.covariance))
    n = len(distortion.x)
    powers = distortion_terms(distortion.order)
    rows = [
        (i, j, *values)
        for (i, j), *values in zip(powers, distortion.x, distortion.y, errors[:n], errors[n:], strict=True)
    ]
    layout = [
        ("power_u", "i4"),
        ("power_v", "i4"),
        ("x", "f8"),
        ("y", "f8"),
        ("x_error", "f8"),
        ("y_error", "f8"),
    ]
    meanings = {
        "power_u": "power of the distance from the middle along x",
        "power_v": "power of the distance from the middle along y",
        "x": "coefficient of what is added to x", "y": "coefficient of what is added to y",
        "x_error": "standard error of x", "y_error": "standard error of y",
    }  # fmt: skip
    units = dict.fromkeys(("x", "y", "x_error", "y_error"), "pix")
    of_inverse = np.array(_inverse_rows(distortion), layout[:4])
    return {
        COEFFICIENTS: Table(np.array(rows, layout), units, meanings),
        INVERSE: Table(
            of_inverse,
            {name: units[name] for name in ("x", "y")},
            {name: meanings[name] for name in of_inverse.dtype.names or ()},
        ),
    }


def _inverse_rows(distortion: Distortion) -> list[tuple[int, int, float, float]]:
    """Return powers of u and v, and coefficients of what is added to positions without distortion."""
    ny, nx = distortion.shape
    px, py = (a.ravel() for a in np.meshgrid(np.linspace(0, nx - 1, _GRID), np.linspace(0, ny - 1, _GRID)))
    x, y = distortion(px, py)
    u, v = (x - distortion.middle[0]) / distortion.half, (y - distortion.middle[1]) / distortion.half
    powers = [(total - q, q) for total in range(_INVERSE_ORDER + 1) for q in range(total + 1)]
    design = np.column_stack([u**i * v**j for i, j in powers])
    solution, *_ = np.linalg.lstsq(design, np.column_stack([px - x, py - y]), rcond=None)
    return [(i, j, float(a), float(b)) for (i, j), (a, b) in zip(powers, solution, strict=True)]


def distortion_cards(found: MeasuredDistortion, source: str) -> dict[str, tuple[CardValue, str]]:
    """Return the cards of the primary header.

    Parameters
    ----------
    found
        The measured distortion.
    source
        What the positions were compared with.
    """
    distortion = found.distortion
    return {
        "DISTFROM": (source, "Positions compared with"),
        "DISTORD": (distortion.order, "Order of the polynomial"),
        "DISTCENX": (distortion.middle[0] + 1, "Where u is 0 [px, from 1]"),
        "DISTCENY": (distortion.middle[1] + 1, "Where v is 0 [px, from 1]"),
        "DISTHALF": (distortion.half, "Where u or v is 1, from there [px]"),
        "DISTMAX": (distortion.largest, "Largest displacement [px]"),
        "DISTERR": (found.error, "Its standard error at the edge [px]"),
        "DISTRMS": (found.rms, "Residual of a star along one axis [px]"),
        "DISTGAIN": (found.gain, "Residuals without over those with it"),
        "DISTSTAR": (found.stars, "Stars in the fit"),
        "DISTFRAM": (found.frames, "Frames in the fit"),
    }


def read_distortion(path: Path) -> Distortion:
    """Read a distortion from its file.

    Raises
    ------
    FrameError
        If the file or its table cannot be read, lacks a column or a term, or has values that describe no distortion
        that has an inverse.
    """
    with ProductFile(path) as product:
        shape, primary = product.shape, product.primary
    table = read_table(path, COEFFICIENTS)
    if table is None:
        raise FrameError(
            path.name, "no distortion: it has no table DISTORTION with coefficients", remedy=_REMEDY
        )
    return _checked(path.name, table, shape, primary)


def _checked(name: str, table: NDArray[Any], shape: tuple[int, int], primary: Header) -> Distortion:
    columns = ("power_u", "power_v", "x", "y")
    found = {column.lower(): column for column in table.dtype.names or ()}
    if lacking := [column for column in columns if column not in found]:
        raise FrameError(
            name, f"the table DISTORTION has no column {', '.join(lacking)} (found "
            f"{', '.join(found) or 'none'})",
            remedy=_REMEDY,
        )  # fmt: skip
    terms = {
        (int(i), int(j)): (float(x), float(y))
        for i, j, x, y in zip(*(table[found[column]] for column in columns), strict=True)
    }
    highest = max((i + j for i, j in terms), default=0)
    expected = distortion_terms(highest)
    if not 2 <= highest <= _HIGHEST or sorted(terms) != sorted(expected) or len(terms) != len(table):
        raise FrameError(
            name, f"the table DISTORTION has {len(table)} rows with powers up to {highest}; expected are each term "
            "of the orders from 2 to the highest (at most 5), once", remedy=_REMEDY,
        )  # fmt: skip
    distortion = Distortion(
        shape, highest, tuple(terms[one][0] for one in expected), tuple(terms[one][1] for one in expected)
    )
    for keyword, value in (
        ("DISTCENX", distortion.middle[0] + 1), ("DISTCENY", distortion.middle[1] + 1), ("DISTHALF", distortion.half),
    ):  # fmt: skip
        stated = primary.get(keyword)
        if not isinstance(stated, (int, float)) or not math.isclose(stated, value, abs_tol=1e-3):
            raise FrameError(
                name, f"its coefficients are not those of a frame of {shape[0]} x {shape[1]} pixels",
                keyword=keyword, found=stated, expected=f"{value:g}", remedy=_REMEDY,
            )  # fmt: skip
    offset = distortion.largest
    if not offset <= _LARGEST * distortion.half:
        raise FrameError(
            name, f"displacements of up to {offset:.3g} px, expected at most {_LARGEST * distortion.half:.3g} px",
            remedy=_REMEDY,
        )  # fmt: skip
    try:
        path_of(Affine(), distortion)
    except GroupError as error:
        raise FrameError(name, error.message.rstrip("."), remedy=_REMEDY) from error
    return distortion
