"""The record of a mosaic: the cards of its header, and the table STACKS."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

import numpy as np

from imaging.header import Header
from imaging.mosaic.mosaic import MosaicMetrics, MosaicResult
from imaging.products.header_cards import CardValue
from imaging.products.product_tables import Table, stamped
from tasks.mosaic.arrange_stacks import ArrangedStacks
from tasks.mosaic.choose_stacks import MosaicSet
from tasks.stack_record import Known, astrometry_cards, known_cards, photometry_cards

#: Cards of a stack that describe it alone: its frames, calibrations, figures and notes.
_OF_A_STACK: Final = re.compile(
    r"NFKEY|NCOMBINE|IMCMB\d+|NFOUT\d*|NFWARN\d|NFSTEP\d+|(DARK|FLAT|BPM)(IM|KEY)|REFFRAME|REGERR|NWEAK|NCORR"
    r"|[TE]EXPTIME|SCALEBY|REFTRANS|WEIGHTBY|BGRMS|BGERR|BGADDED|NSKY|SKYLOSSC?|SKYTHROW|XSRC\w+|NPERSIST|PERSFRAC"
    r"|MAG\w+|SKYMAG|AP(RADIUS|CORR|CORERR)|WCSFROM|AST\w+|EXPSTART|EXPEND|AIRMASS"
)
#: What the columns of STACKS are.
_COLUMNS: Final = {
    "name": "stack", "nights": "first and last night", "used": "in the mosaic", "exposure": "total exposure",
    "seeing": "FWHM of stars", "xi": "shift of its world coordinates East", "eta": "the same North",
    "turn": "their rotation", "rms": "residual of the stars in common", "stars": "stars in common",
    "factor": "applied factor", "factor_error": "its standard error", "weight": "where all its frames contribute",
    "level": "level subtracted [electron]", "level_error": "its standard error [electron]",
    "zero_point": "magnitude of one electron",
}  # fmt: skip


def without_cards_of_a_stack(primary: Header) -> Header:
    """Return the primary header of a stack without the cards that describe it alone."""
    return Header(card for card in primary.cards if not _OF_A_STACK.fullmatch(card.keyword))


def mosaic_cards(metrics: MosaicMetrics) -> dict[str, CardValue | tuple[CardValue, str]]:
    """Return the cards of a mosaic; a figure that is unknown has none."""
    cards: dict[str, Known] = {
        "REFSTACK": (metrics.reference, "Stack whose scale the mosaic has"),
        "REGRMS": (metrics.registration, "Residual of stars in common [arcsec]"),
        "NCORR": (metrics.noise_correlation, "Noise of large bins over that given by VAR"),
        "TEXPTIME": (metrics.total_exposure, "Sum of the stacks' exposures [s]"),
        "EXPDEEP": (metrics.deepest_exposure, "Deepest exposure of a pixel [s]"),
        "BGRMS": (metrics.background_rms, "Pixel rms of the background [electron]"),
        "BGERR": (metrics.background_error, "Error of the background in apertures [electron]"),
        "BGMATCH": (metrics.level_rms, "Rms of the levels that were matched [electron]"),
        **photometry_cards(metrics),
        **astrometry_cards(metrics),
        "EXPSTART": (stamped(metrics.started), "UT start of the first exposure"),
        "EXPEND": (stamped(metrics.ended), "UT end of the last exposure"),
        "AIRMASS": (metrics.mean_airmass, "Mean airmass"),
    }
    return known_cards(cards)


def stacks_table(
    group: MosaicSet,
    arranged: ArrangedStacks,
    result: MosaicResult,
    seeing: Mapping[str, float],
    exposure: Mapping[str, float],
) -> Table:
    """Return what was measured and applied of each stack; NaN if it was left out.

    Parameters
    ----------
    group, arranged, result
        The stacks, their arrangement, and the mosaic.
    seeing, exposure
        FWHM, px, and total exposure, s, of each stack.
    """
    placed = {one.name: (k, one) for k, one in enumerate(arranged.stacks)}
    rows = []
    for stack in group.stacks:
        nights = "/".join(f"{night}" for night in stack.nights)
        known = seeing.get(stack.name, math.nan), exposure.get(stack.name, math.nan)
        if stack.name not in placed:
            rows.append((stack.name, nights, False, known[1], known[0], *[math.nan] * 4, 0, *[math.nan] * 6))
            continue
        k, one = placed[stack.name]
        rows.append((
            stack.name, nights, True, known[1], known[0], one.xi, one.eta, math.degrees(one.turn),
            math.nan if one.rms is None else one.rms, one.stars, one.factor, one.factor_error,
            result.metrics.weights[one.name], float(result.levels.terms[k, 0]), float(result.levels.error[k]),
            math.nan if one.zero_point is None else one.zero_point,
        ))  # fmt: skip
    layout = [
        ("name", "U80"), ("nights", "U21"), ("used", "?"), ("exposure", "f8"), ("seeing", "f8"), ("xi", "f8"),
        ("eta", "f8"), ("turn", "f8"), ("rms", "f8"), ("stars", "i4"), ("factor", "f8"), ("factor_error", "f8"),
        ("weight", "f8"), ("level", "f8"), ("level_error", "f8"), ("zero_point", "f8"),
    ]  # fmt: skip
    units = dict.fromkeys(("xi", "eta", "rms"), "arcsec") | dict.fromkeys(
        ("factor_error", "zero_point"), "mag"
    )
    units |= {"exposure": "s", "seeing": "pix", "turn": "deg"}
    return Table(np.array(rows, layout), units, _COLUMNS)
