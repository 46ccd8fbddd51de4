"""The extended source of a stack that loses light to its own sky: figures, header cards and the warning."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.frames.facts import FrameFacts
from imaging.frames.pointing import moved_by
from imaging.pixels.wcs import celestial_wcs
from imaging.products.header_cards import CardValue
from imaging.registration.entries import AlignEntry
from imaging.registration.geometry import Grid
from imaging.sky.choice import SkyParameters
from imaging.sky.extended.contamination import Pointings
from imaging.sky.extended.frame_mesh import MESH, measure_stack, mesh_size
from imaging.sky.extended.lost_light import FEWEST, GroupMesh, LostLight, find_lost_light
from tasks.sky import SkyPass
from tasks.sky_group import level_of
from tasks.support.references import ScratchRef
from tasks.support.scratching import planes_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stacked:
    """A stack in which an extended source is searched for.

    Attributes
    ----------
    sci, dq, mask
        The stack, electrons, its quality, and 1 on its sources, (ny, nx).
    grid
        Its grid.
    entries, scales
        The stacked frames, and the factor of each, by name.
    """

    sci: NDArray[np.float32]
    dq: NDArray[np.uint16]
    mask: NDArray[np.uint8]
    grid: Grid
    entries: Sequence[AlignEntry]
    scales: Mapping[str, float]

    def meshes(
        self, names: Sequence[str], shifts: NDArray[np.float64], shape: tuple[int, ...]
    ) -> NDArray[np.float32]:
        """Return its blocks where some of its frames have theirs, scaled to the mean of these, electrons.

        Parameters
        ----------
        names, shifts
            The frames, and how far their stars are moved, pixels (y, x), (n, 2).
        shape
            Rows and columns of a frame.
        """
        scale = np.float32(np.mean([1.0 / self.scales[name] for name in names]))
        firsts = np.round(-shifts - np.array(self.grid.origin[::-1])).astype(int).tolist()
        return np.stack([
            scale * measure_stack(self.sci, self.dq, self.mask, first=(y, x), shape=shape) for y, x in firsts
        ])  # fmt: skip


@dataclass(frozen=True)
class ExtendedSource:
    """An extended source in a stack.

    Attributes
    ----------
    lost
        What it loses.
    x, y
        Its centre on the stack, pixels from 0.
    position
        Right ascension and declination, degrees; None without a WCS.
    pixel_scale
        Arcsec.
    limit
        Share of its light that it may lose.
    """

    lost: LostLight
    x: float
    y: float
    position: tuple[float, float] | None
    pixel_scale: float
    limit: float

    @property
    def throw(self) -> float:
        """Median distance of a frame from its sky frames that would do, or that of offset sky frames, arcsec."""
        if self.lost.factor is None:
            return self.lost.offset * self.pixel_scale
        return self.lost.factor * self.lost.dithers * self.pixel_scale

    @property
    def figures(self) -> dict[str, float]:
        """Figures of `imaging.stack.stack.StackMetrics`."""
        return {
            "lost_at_centre": self.lost.losses.centre,
            "lost_in_halo": self.lost.losses.halo,
            "needed_throw": self.throw,
        }

    def cards(self) -> dict[str, CardValue | tuple[CardValue, str]]:
        """Return where it is and how large, for the header of the stack."""
        cards: dict[str, CardValue | tuple[CardValue, str]] = {
            "XSRCX": (round(self.x + 1, 1), "Extended source: centre along x [px, from 1]"),
            "XSRCY": (round(self.y + 1, 1), "Extended source: centre along y [px, from 1]"),
            "XSRCSIZE": (round(self.lost.scale * self.pixel_scale, 2), "Its scale length [arcsec]"),
        }
        if self.position is not None:
            cards["XSRCRA"] = (round(self.position[0], 5), "Its right ascension [deg]")
            cards["XSRCDEC"] = (round(self.position[1], 5), "Its declination [deg]")
        return cards

    def warning(self) -> str:
        """Return what the user should know about it."""
        lost, scale = self.lost, self.pixel_scale
        where = f"x {self.x + 1:.0f}, y {self.y + 1:.0f}"
        if self.position is not None:
            where = f"RA {self.position[0]:.4f}, Dec {self.position[1]:.4f} ({where})"
        halo = f"{lost.halo:g} scale length{'' if lost.halo == 1 else 's'}"
        text = (
            f"an extended source at {where} with a scale length of {lost.scale * scale:.0f} arcsec loses "
            f"{100 * lost.losses.centre:.0f} % of its light at the centre and {100 * lost.losses.halo:.0f} % at {halo} "
            f"(limit {100 * self.limit:g} %, sky.loss), because its sky frames contain it: "
        )
        if lost.factor is None:
            return (
                text
                + f"no dithers on this detector would do; take frames of the sky at least {self.throw:.0f} arcsec away"
            )
        return (
            text
            + f"its frames are a median of {lost.dithers * scale:.0f} arcsec from their sky frames; dithers "
            f"{lost.factor:.1f} times as wide, a median of {self.throw:.0f} arcsec, would do"
        )


def find_extended_source(
    label: str,
    sky: SkyPass,
    stacked: Stacked,
    measured: Mapping[str, Mapping[str, Any]],
    facts: Mapping[str, FrameFacts],
    parameters: SkyParameters,
) -> ExtendedSource | None:
    """Return the extended source of a stack that loses more light than ``sky.loss``, and log it; None without any.

    Parameters
    ----------
    label
        Name of the group.
    sky
        Its sky-subtracted frames.
    stacked
        The stack of these.
    measured
        Figures of their detection, by name: ``rms``.
    facts
        Facts of all frames of the group, by name.
    """
    grid = stacked.grid
    entries = [
        e for e in stacked.entries if (frame := sky.frame(e.name)) is not None and MESH in planes_of(frame)
    ]
    frames = [frame for e in entries if (frame := sky.frame(e.name)) is not None]
    if len(entries) < FEWEST or not any(sky.skies.get(e.name) for e in entries):
        return None
    shape = planes_of(frames[0]).shape("sci")
    size = mesh_size(shape)
    pointings = _pointings(entries, sky, facts, shape, size)
    found = find_lost_light(
        GroupMesh(
            frames=np.stack([planes_of(frame).rows(MESH) for frame in frames]),
            pointings=pointings,
            size=size,
            level=float(np.median([level_of(frame) for frame in frames])),
            noise=_noise(frames, measured),
            stack=stacked.meshes([e.name for e in entries], pointings.shifts[: len(entries)] * size, shape),
        ),
        limit=parameters.loss,
        clip=parameters.high,
    )
    if found is None:
        return None
    first = grid.place(entries[0].transform)
    x, y = (float(one) for one in first(np.array(found.x), np.array(found.y)))
    wcs = celestial_wcs(grid.header, grid.shape)
    ra, dec = (None, None) if wcs is None else (float(one) for one in wcs.all_pix2world(x, y, 0))
    source = ExtendedSource(
        lost=found,
        x=x,
        y=y,
        position=None if ra is None or dec is None else (ra, dec),
        pixel_scale=frames[0].frame.facts.readout.pixel_scale,
        limit=parameters.loss,
    )
    logger.warning("%s: %s", label, source.warning())
    return source


def _pointings(
    entries: Sequence[AlignEntry],
    sky: SkyPass,
    facts: Mapping[str, FrameFacts],
    shape: tuple[int, ...],
    size: int,
) -> Pointings:
    """Return where stacked frames and their sky frames point: by the alignment, and by the telescope's offsets.

    Offsets count from the frame that the others are aligned to, or the stacked frame nearest to it.
    """
    names = [e.name for e in entries]
    others = sorted({one for name in names for one in sky.skies.get(name, ()) if one not in names})
    middle = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    moved = np.array([np.array(e.transform.inverse()(middle[0], middle[1]), float) - middle for e in entries])
    nearest = int(np.argmin(np.hypot(*moved.T)))
    origin = np.array(moved_by(facts[names[nearest]])) - moved[nearest]
    by_offsets = [np.array(moved_by(facts[name])) - origin for name in others]
    shifts = np.array([*moved, *by_offsets])[:, ::-1] / size
    every = [*names, *others]
    chosen = np.array([[one in sky.skies.get(name, ()) for one in every] for name in names])
    return Pointings(shifts, chosen)


def _noise(frames: Sequence[ScratchRef], measured: Mapping[str, Mapping[str, Any]]) -> float:
    """Return the usual noise of a pixel, electrons; that of the photons where none is known."""
    known = [float(rms) for frame in frames if (rms := measured.get(frame.name, {}).get("rms"))]
    level = float(np.median([level_of(frame) for frame in frames]))
    return float(np.median(known)) if known else max(level, 1.0) ** 0.5
