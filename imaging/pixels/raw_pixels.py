"""The pixels of a raw frame at its first reading: which have no data, and whether the values can be a measurement.

No data have pixels that are undefined (not finite, BLANK), impossible (far outside of what the detector can give), or
unread: in a run of one value along a row, longer than noise allows. `unread` is also what the preparation of a frame
uses to set `DQ.NO_DATA`, so that a figure here and the flags in a product mean the same pixels.

Not detectable from one raw frame are rows shifted within it (`imaging.detrend.rows_in_place` finds them by the flat),
and wrong values with the noise of right ones.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.frames.pixel_state import PixelState
from imaging.instruments.detector import Persistence, Readout
from imaging.pixels.bands import bands
from imaging.pixels.bright_pixels import BrightCollector, BrightPixels
from imaging.usual import MAD_TO_SIGMA

#: Rows read at a time.
_BAND: Final = 256
#: Pixels of the shortest run that counts as unread, and the chance of one in a row of noise.
_SHORTEST_RUN: Final = 32
_CHANCE: Final = 1e-16
#: Values are possible from this many saturations to that many: a difference of reads may be a little negative. Too high
#: values are flagged as saturated; the upper limit is for those that no readout gives.
_LOWEST, _HIGHEST = -0.5, 100.0
#: Rows and columns between the pixels of the sample.
_STEP: Final = 8
#: Columns or rows on each side of the border of two quadrants that are compared.
_STRIP: Final = 4
#: Offset of unsigned 16-bit integers (FITS standard 4.0, section 4.4.2.5), and how well it has to be met.
_BZERO: Final = 32768
_BZERO_ERROR: Final = 0.15
#: A frame whose values vary this many times less from pixel to pixel with swapped bytes has swapped bytes.
_SWAPPED: Final = 64
#: Scatter of neighbours, ADU, below which the bytes cannot be swapped: noise of 1 ADU would be 256.
_NOISY: Final = 200
#: Scatter of differences of neighbours over that of the values, and of the median absolute value over sigma.
_DIFFERENCES: Final = MAD_TO_SIGMA / math.sqrt(2)


@dataclass(frozen=True)
class Measured:
    """The result of reading all pixels.

    Attributes
    ----------
    state
        The figures to keep.
    one_value
        The value of all pixels, if they have the same.
    swapped
        The values are plausible only with their bytes in the other order.
    offset
        By how much all values are too high or low because of a wrong BZERO; 0 if they are not.
    bright
        The pixels that leave persistence; None if the detector's persistence is unknown.
    """

    state: PixelState
    one_value: float | None
    swapped: bool
    offset: int
    bright: BrightPixels | None = None


@dataclass
class _Sums:
    not_finite: int = 0
    no_data: int = 0
    saturated: int = 0
    lowest: float = math.inf
    highest: float = -math.inf
    digest: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=16))
    sample: list[NDArray[Any]] = field(default_factory=list)
    lines: list[NDArray[Any]] = field(default_factory=list)


def possible(readout: Readout) -> tuple[float, float]:
    """Return the lowest and the highest value that a pixel can have, ADU."""
    return _LOWEST * readout.saturation, _HIGHEST * readout.saturation


def run_length(readout: Readout) -> int:
    """Return the pixels of the shortest run of one value that noise cannot explain, along a row."""
    return _run_length(round(readout.read_noise / readout.gain, 2))


@cache
def _run_length(sigma: float) -> int:
    edges = (
        [math.erf((k - 0.5) / (sigma * math.sqrt(2))) for k in range(-40, 42)] if sigma > 0 else [0.0, 2.0]
    )
    equal = sum(((b - a) / 2) ** 2 for a, b in pairwise(edges))
    if equal <= 0:
        return _SHORTEST_RUN
    longest = 1 << 20
    return (
        longest
        if equal >= 1
        else max(_SHORTEST_RUN, min(longest, math.ceil(math.log(_CHANCE) / math.log(equal))))
    )


def unread(rows: NDArray[Any], readout: Readout) -> NDArray[np.bool_] | None:
    """Return which pixels were not read out: those in runs of one value along a row, below saturation.

    A row-wise rule, so that a band of rows gives the same as the frame. Channels and quadrants are wider than the
    shortest run.

    Parameters
    ----------
    rows
        Raw values, (n, nx).
    readout
        Noise and saturation of the frame.

    Returns
    -------
    numpy.ndarray or None
        Bool (n, nx); None without such a pixel.
    """
    length = run_length(readout)
    if rows.shape[1] < length:
        return None
    # A run contains eight equal pixels of every eighth of its length; few rows have them by chance.
    some = rows[:, :: length // 8]
    same = some[:, 1:] == some[:, :-1]
    same = same[:, 1:] & same[:, :-1]
    same = same[:, 2:] & same[:, :-2]
    same = same[:, 3:] & same[:, :-3]
    candidates = np.flatnonzero(same.any(axis=1))
    if not candidates.size:
        return None
    lines = rows[candidates]
    equal = np.zeros((len(lines), rows.shape[1] + 1), np.int8)
    equal[:, 1:-1] = lines[:, 1:] == lines[:, :-1]
    turns = np.diff(equal, axis=1)
    row, first = np.nonzero(turns == 1)
    _, last = np.nonzero(turns == -1)  # in the same order: each run has one beginning and one end
    long = (last - first >= length - 1) & (lines[row, first] < readout.saturation)
    if not long.any():
        return None
    mask = np.zeros(rows.shape, bool)
    for line, begin, end in zip(candidates[row[long]], first[long], last[long], strict=True):
        mask[line, begin : end + 1] = True
    return mask


def without_data(rows: NDArray[Any], readout: Readout) -> NDArray[np.bool_] | None:
    """Return which pixels are undefined, impossible or unread; None without such a pixel."""
    bad = unread(rows, readout)
    low, high = possible(readout)
    # NaN fails both comparisons.
    if not (rows.min() >= low and rows.max() <= high):
        outside = ~((rows >= low) & (rows <= high))
        bad = outside if bad is None else bad | outside
    return bad


def measure(
    read: Callable[[slice], NDArray[Any]],
    shape: tuple[int, int],
    readout: Readout,
    persistence: Persistence | None = None,
) -> Measured:
    """Read all pixels of a raw frame once, and measure them.

    Parameters
    ----------
    read
        Returns rows as stored, in native byte order, undefined ones as NaN.
    shape
        Rows and columns.
    readout
        The detector's numbers for the frame.
    persistence
        The persistence of the detector, for `Measured.bright`.
    """
    sums = _Sums()
    collector = None if persistence is None else BrightCollector(shape, readout, persistence)
    for band in bands(shape[0], _BAND):
        rows = read(band)
        bad = _take(sums, rows, readout)
        if collector is not None:
            collector.take(band.start, rows, bad)
    total = shape[0] * shape[1]
    sample = np.concatenate(sums.sample)
    lines = np.concatenate(sums.lines)
    level, noise = _level_and_noise(sample, lines)
    bright = (
        None if collector is None else collector.found(read, lambda rows: without_data(rows, readout), level)
    )
    state = PixelState(
        checksum=sums.digest.hexdigest(),
        level=round(level, 3),
        noise=round(noise, 3),
        no_data=sums.no_data / total,
        saturated=sums.saturated / total,
        steps=_steps(read, shape, readout),
        bright=None if bright is None else len(bright.pixels),
        bright_from=None if persistence is None else persistence.threshold,
    )
    return Measured(
        state,
        one_value=sums.lowest if sums.lowest == sums.highest and not sums.not_finite else None,
        swapped=(noise > _NOISY or lines.dtype.kind == "f") and _is_swapped(lines, readout),
        offset=_offset(level, noise, sums.lowest, readout),
        bright=bright,
    )


def _take(sums: _Sums, rows: NDArray[Any], readout: Readout) -> NDArray[np.bool_] | None:
    """Add a band of rows to the sums, and return its pixels without data."""
    sums.digest.update(_sum_of(rows))
    bad = without_data(rows, readout)
    finite = rows
    if rows.dtype.kind == "f" and not np.isfinite(rows.sum(dtype=np.float64)):
        finite = rows[np.isfinite(rows)]
        sums.not_finite += rows.size - finite.size
    if finite.size:
        lowest, highest = float(finite.min()), float(finite.max())
        sums.lowest, sums.highest = min(sums.lowest, lowest), max(sums.highest, highest)
        if highest >= readout.saturation:
            sums.saturated += int(np.count_nonzero(finite >= readout.saturation))
    if bad is not None:
        sums.no_data += int(np.count_nonzero(bad))
    # Copies: a view would keep the band in memory.
    sums.lines.append(rows[:: 8 * _STEP].copy())
    sums.sample.append(rows[::_STEP, ::_STEP].ravel())
    return bad


def _sum_of(rows: NDArray[Any]) -> bytes:
    """Return sums over the stored bytes of each row of a band: they differ for other values and for another order."""
    flat = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)
    words = flat.view(np.uint64) if flat.shape[1] % 8 == 0 else flat
    sums = np.add.reduce(words, axis=1, dtype=np.uint64)
    return sums.tobytes() + np.add.reduce(words[:, ::2], axis=1, dtype=np.uint64).tobytes()


def _level_and_noise(sample: NDArray[Any], lines: NDArray[Any]) -> tuple[float, float]:
    """Return the median of the pixels and the robust scatter of neighbours, ADU; 0 without a finite value."""
    values = sample.astype(np.float64)
    values = values[np.isfinite(values)]
    with np.errstate(invalid="ignore"):  # infinities
        differences = np.abs(np.diff(lines.astype(np.float64), axis=1))
    differences = differences[np.isfinite(differences)]
    level = float(np.median(values)) if values.size else 0.0
    noise = _DIFFERENCES * float(np.median(differences)) if differences.size else 0.0
    return level, noise


def _steps(
    read: Callable[[slice], NDArray[Any]], shape: tuple[int, int], readout: Readout
) -> tuple[float | None, ...]:
    """Return the median steps across the borders of the quadrants, ADU; empty for a frame that is too small.

    None for a border without data on one of its sides.
    """
    ny, nx = shape
    if min(ny, nx) < 16 * _STRIP:
        return ()

    def values(rows: slice) -> NDArray[np.float64]:
        pixels = read(rows)
        bad = without_data(pixels, readout)
        return pixels.astype(np.float64) if bad is None else np.where(bad, np.nan, pixels)

    y, x = ny // 2, nx // 2
    across = values(slice(y - _STRIP, y + _STRIP))
    upward = across[_STRIP:].mean(axis=0) - across[:_STRIP].mean(axis=0)
    rows = [values(slice(k, k + 1))[0, x - _STRIP : x + _STRIP] for k in range(0, ny, max(1, ny // 128))]
    strip = np.array(rows)
    rightward = strip[:, _STRIP:].mean(axis=1) - strip[:, :_STRIP].mean(axis=1)
    half = len(rows) // 2
    return tuple(_median(part) for part in (upward[:x], upward[x:], rightward[:half], rightward[half:]))


def _median(values: NDArray[np.float64]) -> float | None:
    """Return the median of the finite values; None if most are not."""
    finite = values[np.isfinite(values)]
    return round(float(np.median(finite)), 2) if 2 * finite.size > values.size else None


def _is_swapped(lines: NDArray[Any], readout: Readout) -> bool:
    """Return whether neighbours agree only if the bytes of each value are swapped."""
    if lines.dtype.itemsize == 1:
        return False
    unsigned = lines.dtype.kind == "u"
    offset = lines.dtype.type(1 << (8 * lines.dtype.itemsize - 1)) if unsigned else None
    stored = lines ^ offset if offset is not None else lines
    swapped = stored.byteswap()
    swapped = swapped ^ offset if offset is not None else swapped
    if lines.dtype.kind == "f":
        return (
            float(_sane(lines, readout).mean()) < 0.7
            and float(_sane(lines.byteswap(), readout).mean()) > 0.95
        )
    with np.errstate(all="ignore"):
        ours, theirs = (_typical_difference(one.astype(np.float64)) for one in (lines, swapped))
        low, high = possible(readout)
        inside = float(np.mean((swapped >= low) & (swapped <= high)))
    return inside > 0.9 and _SWAPPED * max(theirs, 1.0) < ours


def _sane(lines: NDArray[Any], readout: Readout) -> NDArray[np.bool_]:
    """Return which floats have the size of a measurement in ADU, or are 0."""
    size = np.abs(lines.astype(np.float64))
    return np.asarray((size == 0) | ((size > 1e-3) & (size < possible(readout)[1])))


def _typical_difference(lines: NDArray[np.float64]) -> float:
    """Return the median difference of neighbours; infinite if most are not finite."""
    with np.errstate(invalid="ignore"):
        differences = np.abs(np.diff(lines, axis=1))
    differences[~np.isfinite(differences)] = np.inf
    return float(np.median(differences))


def _offset(level: float, noise: float, lowest: float, readout: Readout) -> int:
    """Return 32768 or -32768 if all values are off by it.

    No readout has a median that far below 0. Too high values lack the photon noise that their level implies.
    """
    if level < -_BZERO / 4:
        return -_BZERO
    light = readout.gain * noise**2  # the level that has this noise
    too_high = lowest > _BZERO / 2 and abs(level - light - _BZERO) < _BZERO_ERROR * _BZERO
    return _BZERO if too_high else 0
