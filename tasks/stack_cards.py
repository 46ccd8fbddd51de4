"""Cards of a stack's header, from its figures."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from imaging.products.header_cards import CardValue
from imaging.products.product_tables import stamped
from imaging.stack.stack import StackMetrics
from tasks.sky import Persisting


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
        "NSKY": (metrics.sky_frames, "Fewest sky frames of a stacked frame"),
        "NPERSIST": (metrics.persistence, "Pixels of the frames flagged for persistence"),
        "PERSFRAC": (metrics.persistence_strength, "Measured over expected persistence"),
        "EXPSTART": (stamped(metrics.started), "UT start of the first exposure"),
        "EXPEND": (stamped(metrics.ended), "UT end of the last exposure"),
        "AIRMASS": (metrics.mean_airmass, "Mean airmass"),
    }
    return {keyword: (value, text) for keyword, (value, text) in cards.items() if value is not None}


def persistence_figures(frames: Sequence[Persisting]) -> dict[str, Any]:
    """Return the figures of a stack about persistence in its frames; none if no exposure before them matters."""
    if not frames:
        return {}
    measured = [one.strength for one in frames if one.strength is not None]
    return {
        "persistence": sum(one.pixels for one in frames),
        "persistence_strength": median(measured) if measured else None,
    }


def persistence_row(frame: Persisting | None) -> tuple[int, float, float]:
    """Return the columns of ALIGNMENT about persistence in a frame."""
    if frame is None:
        return 0, float("nan"), float("nan")
    strength, error = (float("nan") if v is None else v for v in (frame.strength, frame.error))
    return frame.pixels, strength, error
