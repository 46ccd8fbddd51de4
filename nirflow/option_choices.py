"""Words that options of the command line choose from, where an option may be repeated.

Enumerations because typer takes no repeated ``Literal``; here because the command line may import nothing
heavier to show its help.
"""

from __future__ import annotations

from enum import StrEnum


class Target(StrEnum):
    """A kind of product that a reduction can be limited to."""

    DARK = "dark"
    BPM = "bpm"
    FLAT = "flat"
    SCIENCE = "science"


class Calibration(StrEnum):
    """A kind of calibration that a user can name or do without."""

    DARK = "dark"
    FLAT = "flat"
    BPM = "bpm"
