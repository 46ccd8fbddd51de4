"""Products as astropy's CCDData, for ccdproc, photutils and reproject."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from imaging.errors import FrameError
from imaging.pixels.dq import DQ, UNUSABLE
from imaging.products.astropy_hdus import plain_ccd, to_ccd
from imaging.products.product_file import read_product

if TYPE_CHECKING:
    from astropy.nddata import CCDData


#: All bits of a DQ plane.
_ALL_BITS: Final = 0xFFFF


def read_any_ccd(path: Path) -> CCDData:
    """Return a product, or the first image of any other FITS file, as CCDData.

    Parameters
    ----------
    path
        The file. An image of other software has the unit that its BUNIT states, otherwise electrons; it has no
        uncertainty and no mask unless CCDData finds its own (UNCERT, MASK).

    Raises
    ------
    FrameError
        If the file cannot be read.
    """
    try:
        ccd = plain_ccd(path)
    except (OSError, ValueError, TypeError) as error:
        raise FrameError(
            path.name, f"it cannot be read as an image: {error}",
            remedy="Write it as FITS: a product, or one image with BUNIT.",
        ) from error  # fmt: skip
    return to_ccd(read_product(path)) if ccd is None else ccd


def read_ccd(
    path: Path | str,
    *,
    uncertainty: Literal["variance", "std"] = "variance",
    ignore: int | str | Iterable[int | str] = (),
) -> CCDData:
    """Return a product (ours or DRAGONS') as CCDData with a mask of the unusable pixels only.

    Parameters
    ----------
    path
        The file.
    uncertainty
        ``variance`` as in the file; ``std`` for software that takes only standard deviations and ignores
        variances (photutils).
    ignore
        DQ bits that do not mask a pixel, by number or name (`imaging.pixels.dq.DQ`): ``"SATURATED"``, ``4``, or
        several, ``("OVERLAP", 64)``. Those of a measured pixel (non-linear) never do.

    Returns
    -------
    CCDData
        With unit, uncertainty, mask (unusable pixels), flags (all DQ bits), the celestial WCS, and the cards of
        both headers as meta.

    Raises
    ------
    ValueError
        If a name or number is not that of DQ bits.

    Notes
    -----
    ``CCDData.read(path, hdu="SCI", hdu_uncertainty="VAR", hdu_mask="DQ")`` also reads our products; its mask
    contains every pixel with any bit, including non-linear ones.
    """
    ignored = _bits(ignore)
    ccd = to_ccd(read_product(Path(path)))
    if ignored:
        from astropy.nddata import bitfield_to_boolean_mask

        measured = ~int(UNUSABLE) & _ALL_BITS
        ccd.mask = bitfield_to_boolean_mask(ccd.flags, ignore_flags=measured | ignored)
    if uncertainty == "std":
        from astropy.nddata import StdDevUncertainty

        ccd.uncertainty = ccd.uncertainty.represent_as(StdDevUncertainty)
    elif uncertainty != "variance":
        raise ValueError(f"uncertainty is variance or std, not {uncertainty!r}")
    return ccd


def _bits(names: int | str | Iterable[int | str]) -> int:
    """Return the sum of DQ bits, by number or name."""
    found = 0
    for one in (names,) if isinstance(names, (int, str)) else names:
        name = one.strip().upper() if isinstance(one, str) else ""
        if name in DQ.__members__:
            found |= int(DQ[name])
        elif not isinstance(one, str) and 0 <= one <= _ALL_BITS:
            found |= int(one)
        else:
            known = ", ".join(f"{bit.name} ({bit.value})" for bit in DQ)
            raise ValueError(f"{one!r} is not a bit of DQ; the bits are {known}")
    return found
