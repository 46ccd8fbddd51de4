"""The nights of FLAMINGOS-2: the tutorial's sets, with real names; the times of day follow the order of the numbers."""

from __future__ import annotations

from typing import Final

from imaging.simulator.plans.f2_headers import raw_headers
from imaging.simulator.plans.frame import BandDefaults
from imaging.simulator.plans.plan_model import Plan, Runs

#: Pixel scale of the real files' WCS and PIXSCALE card, arcsec.
SKY_SCALE: Final = 0.1792

#: The sky of Y and its lamp levels are those of public frames; the others are plausible, not measured.
BANDS: Final[dict[str, BandDefaults]] = {
    "Y": BandDefaults("Y_G0811", 10200.0, 120.0, 8, 20.0, 23.5, 1130.0, 37.0),
    "J": BandDefaults("J_G0802", 12550.0, 60.0, 8, 20.0, 100.0, 1130.0, 37.0),
    "H": BandDefaults("H_G0803", 16310.0, 15.0, 4, 20.0, 600.0, 1130.0, 60.0),
    "Ks": BandDefaults("Ks_G0804", 21570.0, 8.0, 4, 2.0, 800.0, 0.0, 11000.0),
    "K-red": BandDefaults("K-red_G0814", 23100.0, 5.0, 1, 2.0, 1400.0, 0.0, 11000.0),
}

_LAMP_NIGHT: Final[Runs] = {
    "science": (("20131121", 75, 200, "02:52:48"),),
    "dark": (
        ("20131120", 115, 6, "04:48:00"),
        ("20131121", 10, 1, "00:21:00"),
        ("20131122", 12, 1, "00:24:30"),
        ("20131122", 438, 200, "10:12:00"),
    ),
    "short_dark": (("20131121", 369, 60, "10:31:00"),),
    "lamp_on": (("20131129", 320, 60, "09:52:00"),),
    "lamp_off": (("20131126", 1111, 60, "10:40:00"),),
    "flat_dark": (("20131127", 20, 60, "10:40:00"),),
}
_K_NIGHT: Final[Runs] = {
    "science": (("20200104", 75, 400, "01:35:10"),),
    "dark": (("20200107", 49, 113, "10:05:00"),),
    "short_dark": (("20200107", 35, 7, "09:58:00"), ("20200111", 257, 60, "10:02:00")),
    "lamp_on": (),
    "lamp_off": (("20200108", 10, 60, "10:20:00"),),
    "flat_dark": (("20200108", 110, 60, "10:40:00"),),
}

PLAN: Final = Plan(
    instrument="F2",
    bands=BANDS,
    lamp_runs=_LAMP_NIGHT,
    thermal_runs=_K_NIGHT,
    headers=raw_headers,
    sky_scale=SKY_SCALE,
    cube=True,
)
