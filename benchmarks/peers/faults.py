"""Faults of single frames, each with a size: what is changed in a frame that was good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.frames import Camera, MemoryFrame, SetName
from imaging.usual import MAD_TO_SIGMA

#: Camera, set, size of the fault and random numbers to a frame with the fault.
Make = Callable[[Camera, SetName, float, np.random.Generator], MemoryFrame]
#: Width of the image of a bright star that persists, of the width of the detector.
_STAR: Final = 0.02
#: Channels of the readout.
_CHANNELS: Final = 32


@dataclass(frozen=True)
class Fault:
    """A fault of one frame of a set.

    Attributes
    ----------
    of
        The set.
    name
        What happened.
    unit
        Unit of the sizes; empty for a number.
    sizes
        Sizes that are tried, small to large.
    make
        The frame with the fault.
    """

    of: SetName
    name: str
    unit: str
    sizes: tuple[float, ...]
    make: Make


def _added(
    electrons: Callable[[int, float, np.random.Generator], NDArray[Any] | float], *, shot: bool = True
) -> Make:
    """Return a fault that adds light or an offset to the pixels; light has shot noise."""

    def make(camera: Camera, of: SetName, size: float, rng: np.random.Generator) -> MemoryFrame:
        frame = camera.frame(of)
        extra = np.broadcast_to(electrons(frame.shape[0], size, rng), frame.shape)
        noise = rng.poisson(extra) if shot and (extra >= 0).all() else extra
        return frame.changed(_rounded(frame, frame.adu * frame.facts.gain + noise))

    return make


def _rounded(frame: MemoryFrame, electrons: NDArray[Any]) -> NDArray[np.int32]:
    return np.asarray(np.rint(electrons / frame.facts.gain), np.int32)


def _axes(n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    axis = (np.arange(n) + 0.5) / n
    return axis[:, np.newaxis], axis[np.newaxis]


def _gradient(n: int, size: float, _: np.random.Generator) -> NDArray[Any]:
    return size * _axes(n)[1]


def _quadrant(n: int, size: float, rng: np.random.Generator) -> NDArray[Any]:
    y, x = _axes(n)
    return size * ((y < 0.5) ^ bool(rng.integers(2))) * ((x < 0.5) ^ bool(rng.integers(2)))


def _channel(n: int, size: float, rng: np.random.Generator) -> NDArray[Any]:
    return size * (np.floor(_axes(n)[1] * _CHANNELS) == rng.integers(_CHANNELS))


def _corner(n: int, size: float, _: np.random.Generator) -> NDArray[Any]:
    y, x = _axes(n)
    return size * np.exp(-np.hypot(x, y) / 0.15)


def _persistence(n: int, size: float, rng: np.random.Generator) -> NDArray[Any]:
    (y, x), (y0, x0) = _axes(n), rng.uniform(0.1, 0.9, 2)
    return size * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * (_STAR / 2.355) ** 2))


def _noisy(camera: Camera, of: SetName, size: float, rng: np.random.Generator) -> MemoryFrame:
    frame, other = camera.frame(of), camera.frame(of)
    electrons = frame.adu * frame.facts.gain
    off = electrons - other.adu * frame.facts.gain * (
        np.median(electrons) / np.median(other.adu) / frame.facts.gain
    )
    sigma = float(np.median(np.abs(off - np.median(off)))) * MAD_TO_SIGMA / np.sqrt(2)
    return frame.changed(
        _rounded(frame, electrons + rng.normal(0, sigma * np.sqrt(size**2 - 1), frame.shape))
    )


def _pick_up(camera: Camera, of: SetName, size: float, rng: np.random.Generator) -> MemoryFrame:
    frame = camera.frame(of)
    phase = np.arange(frame.adu.size).reshape(frame.shape) * 0.0531 + rng.uniform(0, 6)
    return frame.changed(_rounded(frame, frame.adu * frame.facts.gain + size * np.sin(phase)))


def _shifted(camera: Camera, of: SetName, size: float, _: np.random.Generator) -> MemoryFrame:
    frame = camera.frame(of)
    return frame.changed(np.roll(frame.adu, int(size), axis=(0, 1)))


def _unread(camera: Camera, of: SetName, size: float, _: np.random.Generator) -> MemoryFrame:
    frame = camera.frame(of)
    adu = frame.adu.copy()
    adu[round((1 - size) * len(adu)) :] = 0
    return frame.changed(adu)


def _other_exposure(camera: Camera, of: SetName, size: float, _: np.random.Generator) -> MemoryFrame:
    return camera.frame(of, seconds=size)


def _rays(camera: Camera, of: SetName, size: float, _: np.random.Generator) -> MemoryFrame:
    return camera.frame(of, rays=size)


def _light(camera: Camera, of: SetName, size: float, _: np.random.Generator) -> MemoryFrame:
    return camera.frame(of, light=size)


def _other_filter(camera: Camera, of: SetName, size: float, rng: np.random.Generator) -> MemoryFrame:
    def respond(response: NDArray[np.float32]) -> NDArray[np.float32]:
        y, x = _axes(len(response))
        smooth = np.cos(2.3 * x + 1) * np.cos(1.9 * y)
        grain = rng.standard_normal(response.shape)
        return (response * (1 + size * (smooth - smooth.mean() + 0.3 * grain))).astype(np.float32)

    return camera.frame(of, respond=respond)


def _slope(camera: Camera, of: SetName, size: float, _: np.random.Generator) -> MemoryFrame:
    return camera.frame(of, respond=lambda r: (r * (1 + size * (_axes(len(r))[1] - 0.5))).astype(np.float32))


def _lamp(camera: Camera, of: SetName, size: float, _: np.random.Generator) -> MemoryFrame:
    """Return a lamp-off with a part of the lamp's light."""
    defaults = camera.parameters["Y"].defaults
    return camera.frame(of, light=1 + size * defaults.lamp / defaults.thermal)


#: All faults of the detection curves.
FAULTS: Final = (
    Fault("darks", "light leak", "e-", (5, 10, 15, 22, 30, 60, 200, 500), _added(lambda n, s, r: s)),
    Fault("darks", "gradient of light", "e-", (10, 20, 30, 40, 60), _added(_gradient)),
    Fault("darks", "leak in a corner", "e-", (20, 40, 60, 100, 200), _added(_corner)),
    Fault("darks", "quadrant offset", "e-", (5, 10, 15, 20, 30, 50), _added(_quadrant, shot=False)),
    Fault("darks", "channel offset", "e-", (10, 20, 30, 40, 60), _added(_channel, shot=False)),
    Fault("darks", "noise", "x", (1.1, 1.2, 1.3, 1.5, 2.0), _noisy),
    Fault("darks", "pick-up", "e-", (3, 6, 9, 15, 30), _pick_up),
    Fault("darks", "true exposure (header: 120 s)", "s", (110, 100, 90, 60, 2), _other_exposure),
    Fault("darks", "shift", "px", (1, 8), _shifted),
    Fault("darks", "top not read", "%", (0.02, 0.05, 0.1, 0.2, 0.41), _unread),
    Fault("darks", "persistent star", "e-", (200, 1000, 5000), _added(_persistence)),
    Fault("darks", "cosmic rays", "x", (10, 30, 100), _rays),
    Fault("short darks", "light leak", "e-", (5, 10, 15, 22, 30, 60), _added(lambda n, s, r: s)),
    Fault("short darks", "shift", "px", (1, 8), _shifted),
    Fault("lamp-ons", "light", "%", (0.9, 0.8, 0.7, 0.5, 0.0), _light),
    Fault("lamp-ons", "too bright", "x", (1.1, 1.3, 2.0, 8.0), _light),
    Fault("lamp-ons", "slope", "%", (0.01, 0.02, 0.03, 0.04, 0.06), _slope),
    Fault("lamp-ons", "another filter", "%", (0.005, 0.01, 0.015, 0.02, 0.03, 0.1), _other_filter),
    Fault("lamp-ons", "noise", "x", (1.2, 1.5, 2.0, 3.0), _noisy),
    Fault("lamp-ons", "shift", "px", (1, 8), _shifted),
    Fault("lamp-ons", "top not read", "%", (0.02, 0.05, 0.1, 0.2, 0.41), _unread),
    Fault("lamp-offs", "lamp still on", "%", (0.001, 0.003, 0.01, 0.03, 1.0), _lamp),
    Fault("thermal lamp-offs", "another filter", "%", (0.005, 0.01, 0.02, 0.03, 0.1), _other_filter),
)
