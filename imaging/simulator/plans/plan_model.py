"""What the simulator knows of an instrument beyond its table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from astropy.io import fits

from imaging.simulator.plans.frame import BandDefaults, Card, PlannedFrame, Role, Written

#: A run of file numbers of one set: day, first number, length, UT of the first exposure.
Run = tuple[str, int, int, str]
#: The runs of each set.
Runs = Mapping[Role, Sequence[Run]]
Headers = tuple[fits.Header, fits.Header]


@dataclass(frozen=True)
class Plan:
    """The plan of an instrument's nights.

    Attributes
    ----------
    instrument
        Name of its table.
    bands
        The bands' own values by the name of the band; the first is the default.
    lamp_runs, thermal_runs
        File numbers and times of the sets, where flats are lamp-ons minus lamp-offs and where they are lamp-offs minus
        darks.
    headers
        Writes the primary header and that of the image.
    cards
        Returns cards beyond those that the table has; for `headers` that are written from the table.
    setup
        Facts of all frames, with their usual values.
    linked
        For a fact and its value: other facts that follow from it, as the read pairs from a read mode.
    reference
        Of a number that stands for a level: what the table subtracts from it.
    defaults
        Parameters of the night whose defaults differ from those of the model.
    sky_scale
        Pixel scale of the world coordinates, arcsec; None: that of the table.
    sky_scale_of_bands
        Pixel scale for which the bands' skies are given, arcsec; None: they do not depend on it.
    cube
        Images have a third axis of length 1.
    pixels
        Type of the pixels in the files.
    """

    instrument: str
    bands: Mapping[str, BandDefaults]
    lamp_runs: Runs
    thermal_runs: Runs
    headers: Callable[[Plan, Written, PlannedFrame], Headers]
    cards: Callable[[Written, PlannedFrame], Sequence[Card]] = lambda night, frame: ()
    setup: Mapping[str, str | int] = field(default_factory=dict)
    linked: Mapping[tuple[str, str], Mapping[str, str | int]] = field(default_factory=dict)
    reference: Mapping[str, float] = field(default_factory=dict)
    defaults: Mapping[str, object] = field(default_factory=dict)
    sky_scale: float | None = None
    sky_scale_of_bands: float | None = None
    cube: bool = False
    pixels: str = "int32"
