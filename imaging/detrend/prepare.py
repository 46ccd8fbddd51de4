"""From raw ADU to electrons with variance and quality: the first step of every frame."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.detrend.detrend_kernels import rows_with
from imaging.detrend.prepare_kernels import prepare_rows
from imaging.frames.facts import FrameFacts
from imaging.parameters import StepParameters, parameter
from imaging.pixels.dq import DQ
from imaging.pixels.noise import NoiseModel
from imaging.pixels.raw_pixels import possible, unread

#: Bits that the kernel sets, in its order; the last one is for a good pixel.
_BITS: Final = np.array(
    [DQ.NON_LINEAR, DQ.SATURATED, DQ.NO_DATA, DQ.UNILLUMINATED, DQ.GOOD], dtype=np.uint16
)  # fmt: skip
_NO_BPM: Final = np.zeros((1, 1), np.uint16)
_NO_LIT: Final = np.ones((1, 1), np.uint8)


class PrepareParameters(StepParameters):
    """How raw frames are prepared."""

    linear_fraction: float | None = parameter(
        None,
        "a value above this is flagged as non-linear; default: that of the detector",
        unit="saturation",
        gt=0,
        le=1,
    )
    largest_island: int = parameter(
        10000,
        "an island of unsaturated pixels inside a saturated region counts as saturated up to this size: the core "
        "of a heavily saturated star reads low",
        unit="pixels",
        ge=0,
    )

    def for_frame(self, facts: FrameFacts) -> PrepareParameters:
        """Return the same with the detector's values for everything that was not given."""
        if self.linear_fraction is not None:
            return self
        return self.model_copy(update={"linear_fraction": facts.readout.linear_fraction})


def prepare(
    raw_rows: NDArray[Any],
    facts: FrameFacts,
    *,
    bpm: NDArray[Any] | None = None,
    pedestal: float = 0.0,
    illuminated: NDArray[Any] | None = None,
    linearise: bool = True,
    parameters: PrepareParameters | None = None,
    out: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint16]] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint16]]:
    """Prepare rows of a raw frame.

    Electrons are ADU x gain, corrected for non-linearity coadd by coadd. The variance is the shot noise of
    the corrected electrons above the pedestal, plus read noise and rounding, the latter two multiplied by the
    square of the correction's slope. (The charge in a pixel is Poisson; noise added after the pixel is
    stretched by the correction. Multiplying the total variance by the slope squared would overestimate the
    shot noise by up to 5 % below the linear limit.)

    Parameters
    ----------
    raw_rows
        ADU as stored, (rows, nx): integers of up to 32 bits, or floats; either byte order. Not changed.
    facts
        The frame's facts, which give gain, read noise and saturation.
    bpm
        DQ bits of the same rows (1 for a bad pixel), (rows, nx).
    pedestal
        Electrons of all coadds that have no shot noise.
    illuminated
        Non-zero inside the circle of light, (rows, nx). Not used for darks, which have no light.
    linearise
        Correct for non-linearity.
    parameters
        `PrepareParameters`.
    out
        Planes to fill and return instead of new ones.

    Returns
    -------
    sci, var : float32 (rows, nx)
        Electrons and electrons squared.
    dq : uint16 (rows, nx)
        The BPM's bits; non-linear, saturated, unilluminated; no data where the raw value is undefined, impossible or
        unread (`imaging.pixels.raw_pixels`); SCI is 0 there.

    Raises
    ------
    ValueError
        If ``bpm`` or ``illuminated`` has another shape than the rows.
    """
    parameters = parameters or PrepareParameters()
    shape = raw_rows.shape
    for name, plane in (("bpm", bpm), ("illuminated", illuminated)):
        if plane is not None and plane.shape != shape:
            raise ValueError(f"{name} has the shape {plane.shape}, the raw rows have {shape}.")
    lit = None if facts.kind == "dark" else illuminated
    model = NoiseModel.of(facts, pedestal)
    readout = facts.readout
    fraction = parameters.linear_fraction
    fraction = readout.linear_fraction if fraction is None else fraction
    sci, var, dq = out or (
        np.empty(shape, np.float32),
        np.empty(shape, np.float32),
        np.empty(shape, np.uint16),
    )
    prepare_rows(
        np.ascontiguousarray(raw_rows, dtype=np.float32 if raw_rows.dtype.kind == "f" else np.int32),
        _NO_BPM if bpm is None else np.ascontiguousarray(bpm, dtype=np.uint16),
        _NO_LIT if lit is None else np.ascontiguousarray(lit, dtype=np.uint8),
        bpm is not None,
        lit is not None,
        model.gain,
        float(facts.coadds),
        model.floor,
        float(pedestal),
        float(readout.saturation),
        fraction * readout.saturation,
        *possible(readout),
        linearise,
        *readout.nonlinearity,
        readout.time_scale,
        _BITS,
        sci,
        var,
        dq,
    )
    blocks = unread(raw_rows, readout)
    if blocks is not None:
        sci[blocks], var[blocks] = 0, model.floor
        dq[blocks] |= np.uint16(DQ.NO_DATA)
    return sci, var, dq


def saturated_islands(dq: NDArray[np.uint16], largest: int = 10000) -> NDArray[np.uint16] | None:
    """Return the saturated bits of unsaturated pixels that are enclosed by saturated ones.

    Parameters
    ----------
    dq
        Quality of a complete frame, (ny, nx). Not changed.
    largest
        Pixels of the largest island that is filled.

    Returns
    -------
    numpy.ndarray or None
        `DQ.SATURATED` in the islands and 0 elsewhere, uint16 (ny, nx), to be OR-ed into the quality; None
        without an island.
    """
    lit = rows_with(dq, np.uint16(DQ.SATURATED))
    if not lit.any():
        return None
    from scipy import ndimage  # late: few frames have saturated pixels, few runs prepare frames

    filled = None
    # Clusters do not reach across rows without a saturated pixel, so that few rows have to be labelled.
    for rows in _stretches(lit):
        saturated = (dq[rows] & np.uint16(DQ.SATURATED)) != 0
        # An island has one outer rim of four pixels or more, which touch at least at their corners.
        clusters, _ = ndimage.label(saturated, structure=np.ones((3, 3), int))
        sizes = np.bincount(clusters[saturated])
        for number, box in enumerate(ndimage.find_objects(clusters), start=1):
            if sizes[number] < 4:
                continue
            outside = clusters[box] != number
            holes = ndimage.binary_fill_holes(~outside) & outside
            if not holes.any():
                continue
            islands, _ = ndimage.label(holes)
            small = np.bincount(islands.ravel()) <= largest
            small[0] = False
            if filled is None:
                filled = np.zeros(dq.shape, np.uint16)
            filled[rows][box][small[islands] & ~saturated[box]] = DQ.SATURATED
    return filled if filled is not None and filled.any() else None


def _stretches(lit: NDArray[np.bool_]) -> list[slice]:
    """Return the stretches of consecutive true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], lit, [False]]).astype(np.int8)))
    return [slice(int(first), int(last)) for first, last in edges.reshape(-1, 2)]
