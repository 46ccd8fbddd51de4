"""The table of nights: what disturbs each, and what is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from imaging.simulator.parameters import NightParameters

camera = NightParameters().camera

#: What is judged: the stack by the floor; a large galaxy; or that a bad night is reported and the rest goes on.
Judged = Literal["floor", "galaxy", "bad"]
#: Parts of a night's raw frames that are changed after they were made.
Edit = Literal["all bad", "sky frames of another filter", "a mask that leaves nothing"]


@dataclass(frozen=True)
class SkyNight:
    """One row of the table.

    Attributes
    ----------
    name
        Shown in the table.
    settings
        Parameters of the simulation, at full size.
    judged, disturbances
        What is judged, and how many disturbances come together.
    frames
        Frames that the stack has to use; None: any number.
    message
        A pattern that a message has to have; empty: none is expected.
    silent
        A pattern that no message may have.
    edit
        What is changed in the raw frames.
    by_eye
        Figures that are reported but not judged, since the night has too few stars for them.
    background
        Whether the level of the empty background is judged too: where stars are few or crowded.
    """

    name: str
    settings: Mapping[str, Any]
    judged: Judged = "floor"
    disturbances: int = 1
    frames: int | None = 9
    message: str = ""
    silent: str = r"extended|galaxy"
    edit: Edit | None = None
    by_eye: frozenset[str] = field(default_factory=frozenset)
    background: bool = False


SEEING: Final = {"seeing_course": (0.55, 1.3)}
CLOUDS: Final = {"transparency_course": (1.0, 0.5)}
UNSTABLE: Final = {"sky_swing": 0.3, "sky_tilt": 0.04, "sky_wave": 0.02}
STRIPES: Final = {"channel_rms": 8.0, "row_rms": 3.0}
#: Also of what the brightest stars exceed the full well by: the hardest case.
PERSISTENCE: Final = {"persistence": 0.004, "persistence_limit": 2e6}
PROBE: Final = {"probe": 0.35}
GALAXY: Final = {"galaxy": 0.5, "galaxy_scale": 33.0}
NO_STARS: Final = {"n_bright": 0, "n_saturated": 0, "n_stars": 0}
#: Figures of stars.
STARS: Final = frozenset({"scatter / floor", "flux bias", "pull", "faint / VAR", "stars measured"})

NIGHTS: Final = (
    SkyNight("calm", {}),
    SkyNight("seeing 0.55 to 1.3 arcsec", SEEING),
    SkyNight("clouds, transparency 1.0 to 0.5", CLOUDS),
    SkyNight("unstable sky", UNSTABLE),
    SkyNight("stripes", STRIPES),
    SkyNight("stripes in quadrants", STRIPES | {"channel_layout": "quadrants"}),
    SkyNight("persistence", PERSISTENCE),
    SkyNight("guide probe", PROBE, message=r"probe|vignett|shadow"),
    SkyNight("guide probe, with the field", PROBE | {"probe_path": "field"}, message=r"probe|vignett|shadow"),
    SkyNight(
        "galaxy, dither 20 arcsec", GALAXY | {"dither": 20.0}, "galaxy", message=r"extended|galaxy", silent=""
    ),
    SkyNight(
        "galaxy, dither 150 arcsec", GALAXY | {"dither": 150.0}, "galaxy", silent="extended source", frames=None
    ),
    SkyNight(
        "galaxy, offset sky", GALAXY | {"sky_offset": 420.0, "n_science": 18}, "galaxy", silent="extended source",
        frames=9,
    ),
    SkyNight("turned by 1.5 deg half-way", {"turn": 1.5}),
    SkyNight("satellite trail", {"trail": 3}),
    SkyNight("12 stars", NO_STARS | {"n_bright": 12}, by_eye=STARS, background=True),
    SkyNight("20000 stars", {"n_stars": 20000}, background=True),
    SkyNight("no stars", NO_STARS, by_eye=STARS, background=True, message=r"star|WCS|header"),
    SkyNight("aborted exposure", {"aborted": 4}, frames=None, message=r"S20131121S0079"),
    SkyNight("half a frame unread", {"half_unread": 4}, frames=None, message=r"S20131121S0079"),
    SkyNight("guiding lost", {"unguided": 4}, frames=None, message=r"S20131121S0079"),
    SkyNight("a quadrant off", {"quadrant_off": 4}, frames=None, message=r"S20131121S0079"),
    SkyNight("seeing, clouds, unstable sky", SEEING | CLOUDS | UNSTABLE, disturbances=3),
    SkyNight("stripes, persistence", STRIPES | PERSISTENCE, disturbances=2),
    SkyNight(
        "probe, unstable sky, turned", PROBE | UNSTABLE | {"turn": 1.5}, disturbances=3,
        message=r"probe|vignett|shadow",
    ),
    SkyNight("all cloudy", {"transparency_course": (0.05, 0.02)}, "bad", message=r"transparency|star|cloud"),
    SkyNight("all bad", {}, "bad", message=r"RAWGEMQA|quality|BAD", edit="all bad"),
    SkyNight(
        "galaxy filling the detector", {"galaxy": 1.0, "galaxy_scale": 200.0}, "bad", silent="",
        message=r"extended|galaxy",
    ),
    SkyNight(
        "sky frames of another filter", {"sky_offset": 420.0, "n_science": 12}, "bad", message=r"filter|sky",
        edit="sky frames of another filter",
    ),
    SkyNight(
        "a mask that leaves nothing", {}, "bad", message=r"mask|good pixel|bpm", edit="a mask that leaves nothing"
    ),
)  # fmt: skip


def parameters_of(night: SkyNight, seed: int, size: int) -> NightParameters:
    """Return the parameters of a night: a J night of 9 x 60 s with many stars of every brightness.

    Lengths on the sky and numbers of stars given in the table are those of the full array; the general number of
    stars decreases more slowly than its area, so that a small array has some to measure. The distance of sky frames
    stays: what counts as another field (`groups.sky_offset`) does not depend on the array.
    """
    scale = size / camera.shape[0]
    settings = dict(night.settings)
    for name in ("galaxy_scale", "dither"):
        if name in settings:
            settings[name] *= scale
    if "n_stars" in settings and settings["n_stars"] > 100:
        settings["n_stars"] = round(settings["n_stars"] * scale**2)
    usual = {
        "n_stars": round(1200 * scale**1.5),
        "n_faint": 0,
        "n_galaxies": 0,
        "n_saturated": max(1, round(4 * scale)),
    }
    return NightParameters(**({
        "band": "J", "sky": 90.0, "seeing": 0.75, "size": size, "seed": seed, "science_time": 60.0,
    } | usual | settings))  # fmt: skip
