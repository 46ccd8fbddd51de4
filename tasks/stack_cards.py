"""Cards of a stack's header, from its figures."""

from __future__ import annotations

from imaging.products.header_cards import CardValue
from imaging.products.product_tables import stamped
from imaging.stack.stack import StackMetrics


def stack_cards(metrics: StackMetrics, reference: str) -> dict[str, CardValue | tuple[CardValue, str]]:
    """Return the cards of a stack whose frames are aligned to ``reference``; a figure that is unknown has none."""
    cards: dict[str, tuple[CardValue | None, str]] = {
        "REFFRAME": (reference, "Frame that the others are aligned to"),
        "REGERR": (metrics.registration, "Standard error of the registration [px]"),
        "NWEAK": (metrics.weakly_aligned or None, "Frames aligned without enough stars"),
        "NCORR": (metrics.noise_correlation, "Noise of large bins over that given by VAR"),
        "TEXPTIME": (metrics.total_exposure, "Total exposure [s]"),
        "EEXPTIME": (metrics.effective_exposure, "Effective exposure [s]"),
        "SCALEBY": (metrics.scaled_by, "What frames are scaled to the reference by"),
        "REFTRANS": (metrics.reference_transparency, "Transparency of REFFRAME over the clearest's"),
        "WEIGHTBY": (metrics.weighted_by, "Weights of the frames"),
        "BGRMS": (metrics.background_rms, "Pixel rms of the background [electron]"),
        "BGERR": (metrics.background_error, "Error of the background in apertures [electron]"),
        "BGADDED": (metrics.raised, "Level added to the stack [electron]"),
        "NSKY": (metrics.sky_frames, "Fewest sky frames of a stacked frame"),
        "SKYLOSSC": (metrics.lost_at_centre, "Extended source: share lost at its centre"),
        "SKYLOSS": (metrics.lost_in_halo, "Extended source: share lost in its halo"),
        "SKYTHROW": (metrics.needed_throw, "Distance of sky frames that it needs [arcsec]"),
        "EXPSTART": (stamped(metrics.started), "UT start of the first exposure"),
        "EXPEND": (stamped(metrics.ended), "UT end of the last exposure"),
        "AIRMASS": (metrics.mean_airmass, "Mean airmass"),
    }
    return {keyword: (value, text) for keyword, (value, text) in cards.items() if value is not None}
