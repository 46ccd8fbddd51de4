"""The nights of an instrument of which only the table is known: its bands, with plausible levels."""

from __future__ import annotations

from typing import Final

from imaging.instruments.instrument import Instrument
from imaging.simulator.plans.frame import BandDefaults
from imaging.simulator.plans.plan_model import Plan, Runs
from imaging.simulator.plans.table_headers import raw_headers

#: Levels of a band that is not in the list below, and wavelengths, Angstrom.
_WAVELENGTHS: Final = {"Y": 10200.0, "J": 12500.0, "H": 16500.0, "K": 22000.0}
#: Sky of those bands, e-/s/pixel.
_SKIES: Final = {"Y": 30.0, "J": 120.0, "H": 600.0, "K": 900.0}
_OTHER: Final = "J"
#: A science exposure reaches this level of its sky, electrons, as far as the limits of its time, s, allow.
_SCIENCE_LEVEL: Final = 8000.0
_SCIENCE_TIMES: Final = (5.0, 60.0)

RUNS: Final[Runs] = {
    "science": (("20260310", 60, 400, "08:10:00"),),
    "dark": (("20260310", 500, 100, "14:30:00"),),
    "short_dark": (("20260310", 700, 100, "15:40:00"),),
    "lamp_on": (("20260310", 800, 60, "16:20:00"),),
    "lamp_off": (("20260310", 880, 60, "16:50:00"),),
    "flat_dark": (("20260310", 960, 60, "17:20:00"),),
}


def plan_for(instrument: Instrument) -> Plan:
    """Return a plan for any instrument: its bands, runs of one night, headers from its table.

    Facts of which a detector's numbers depend have the first value that the table lists.
    """
    detector = instrument.detector
    setup: dict[str, str | int] = {}
    for mode in detector.modes:
        for fact, values in mode.when.items():
            if fact != "section" and not isinstance(values[0], float):
                setup.setdefault(fact, values[0])
    pairs = int(setup.pop("read_pairs", 1))
    bands = {}
    for name, band in instrument.bands.items():
        near = next((one for one in _SKIES if name.startswith(one)), _OTHER)
        sky = _SKIES[near]
        low, high = _SCIENCE_TIMES
        thermal = band.flat == "thermal"
        bands[name] = BandDefaults(
            filter_id=name, wavelength=_WAVELENGTHS[near],
            science_time=round(min(max(_SCIENCE_LEVEL / sky, low), high)),
            science_reads=pairs, flat_time=2.0 if thermal else 10.0, sky=sky, lamp=0.0 if thermal else 2500.0,
            thermal=11000.0 if thermal else 60.0,
        )  # fmt: skip
    return Plan(
        instrument=instrument.name,
        bands=bands,
        lamp_runs=RUNS,
        thermal_runs=RUNS,
        headers=raw_headers,
        setup=setup,
        defaults={"band": next(iter(bands)), "short_dark_reads": pairs, "flat_reads": pairs},
    )
