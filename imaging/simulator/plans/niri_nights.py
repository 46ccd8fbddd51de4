"""The nights of NIRI. Skies and lamp levels are plausible for its zero points, not measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from imaging.simulator.plans.any_table import RUNS
from imaging.simulator.plans.frame import BandDefaults, Card, PlannedFrame, Written
from imaging.simulator.plans.plan_model import Plan
from imaging.simulator.plans.table_headers import raw_headers

#: At the pixel scale of f/6. The skies are 15.9, 13.9 and 13.2 mag per square arcsec in J, H and K.
BANDS: Final[dict[str, BandDefaults]] = {
    "J": BandDefaults("J_G0202", 12500.0, 30.0, 1, 5.0, 280.0, 8000.0, 40.0),
    "H": BandDefaults("H_G0203", 16500.0, 15.0, 1, 5.0, 1900.0, 8000.0, 80.0),
    "K": BandDefaults("K_G0204", 22000.0, 10.0, 1, 5.0, 2000.0, 6000.0, 1500.0),
    "K(prime)": BandDefaults("Kprime_G0206", 21200.0, 10.0, 1, 5.0, 1900.0, 6000.0, 1200.0),
    "K(short)": BandDefaults("Kshort_G0205", 21500.0, 10.0, 1, 5.0, 1800.0, 6000.0, 1200.0),
    "Y": BandDefaults("Y_G0241", 10200.0, 60.0, 1, 5.0, 60.0, 8000.0, 30.0),
}
_F6_SCALE: Final = 0.1171


def _cards(night: Written, frame: PlannedFrame) -> Sequence[Card]:
    """Return cards that real headers have and no fact needs.

    The offsets on the sky are turned by 180 degrees minus the position angle, as in headers of all years.
    """
    p, q = frame.offset
    c, s = math.cos(math.radians(frame.rotation)), math.sin(math.radians(frame.rotation))
    return [
        ("OBSERVAT", "Gemini-North", "Observatory"),
        ("TELESCOP", "Gemini-North", "Gemini-North"),
        ("XOFFSET", p, "Telescope offset in x in arcsec"),
        ("YOFFSET", q, "Telescope offset in y in arcsec"),
        ("RAOFFSET", -p * c + q * s, "Telescope offset in RA in arcsec"),
        ("DECOFFSE", -p * s - q * c, "Telescope offset in DEC in arcsec"),
        ("RATRGOFF", 0.0, "Target offset in RA in arcsec"),
        ("DECTRGOF", 0.0, "Target offset in DEC in arcsec"),
        ("ARRAYTYP", "ALADDIN_II", "Array type"),
        ("WAVELENG", night.defaults.wavelength, "Effective wavelength [Angstrom]"),
        ("WINDCOVR", "open", "Window cover"),
        ("A_VSET", -1.872, "Vset detector bias voltage (post exposure)"),
    ]


PLAN: Final = Plan(
    instrument="NIRI",
    bands=BANDS,
    lamp_runs=RUNS,
    thermal_runs=RUNS,
    headers=raw_headers,
    cards=_cards,
    setup={
        "camera": "f6", "readout_mode": "Medium_Background", "well_depth": "Shallow", "detector": "47911",
        "focal_mask": "f6-cam_G5208", "ao_fold": "park-pos.",
    },
    linked={
        ("readout_mode", "Low_Background"): {"read_pairs": 16, "digital_averages": 16},
        ("readout_mode", "Medium_Background"): {"read_pairs": 1, "digital_averages": 16},
        ("readout_mode", "High_Background"): {"read_pairs": 1, "digital_averages": 1},
    },
    reference={"well_depth": -2.911},
    defaults={
        # The first frame of each set is left out.
        "band": "J", "n_science": 10, "n_darks": 11, "n_short_darks": 8, "n_lamp_on": 7, "n_lamp_off": 7,
        "unsettled": 300.0, "pattern_rms": 8.0, "seeing": 0.6, "dark_current": 0.25,
    },
    sky_scale_of_bands=_F6_SCALE,
    pixels="float32",
)  # fmt: skip
