"""A stack of raw frames of one configuration, read in bands of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from imaging.detrend.prepare import PrepareParameters, prepare
from imaging.errors import GroupError
from imaging.frames.alike import same_value
from imaging.frames.facts import FrameFacts
from imaging.header import Header
from imaging.pixels.bands import bands, rows_for
from imaging.pixels.combine import CombineParameters, median_factors
from imaging.pixels.noise import NoiseModel
from imaging.pixels.raw_pixels import without_data

#: Rows of a band, few enough for its data to stay in the processor's caches.
_ROWS: Final = 16
#: Bands, spread over the frame, used to measure levels and the pedestal before anything is combined.
_SAMPLE_BANDS: Final = 8
#: Maximum number of pixels, of all frames together, in that sample (16 MB of values); more only if a single
#: band has more.
_SAMPLE_PIXELS: Final = 4 * 1024**2
#: Bytes that a pixel of one frame takes in a band: raw as stored and as read, values, variances, quality.
_BYTES_PER_PIXEL: Final = 4 + 4 + 4 + 4 + 2
#: What `stacked_variance` uses, as recorded in products.
VARIANCE_FROM: Final = "read noise, rounding and the shot noise of the stacked level above the pedestal"


class RawFrame(Protocol):
    """The part of `imaging.io.raw_file.RawFile` that is used here."""

    @property
    def name(self) -> str:
        """File name."""

    @property
    def facts(self) -> FrameFacts:
        """Facts of the frame."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    def primary(self) -> Header:
        """Primary header."""

    @property
    def extension(self) -> Header:
        """Header of the image."""

    def rows(self, rows: slice | None = None) -> NDArray[Any]:
        """Return the ADU of some rows."""


def check_alike(
    raws: Sequence[RawFrame], what: str, *, least: int = 1, also: Sequence[str] = ()
) -> FrameFacts:
    """Return the facts that all frames share, of those that decide about a common dark, and some more.

    Parameters
    ----------
    raws
        The frames.
    what
        Their name in an error: "darks".
    least
        Minimum number of frames.
    also
        Further facts that must agree: ``filter_id``.

    Raises
    ------
    GroupError
        If there are too few frames, or some differ from the majority; the error gives their names and both
        values.
    """
    if len(raws) < least:
        named = ", ".join(raw.name for raw in raws) or "none"
        raise GroupError(
            f"{len(raws)} {what} ({named}), {least} are needed.",
            remedy="Add frames of the same configuration, or lower the parameter min_frames.",
        )
    table = raws[0].facts.table
    for field in ("instrument", *table.same["dark"], *also):
        values = [raw.facts.value(field) for raw in raws]
        usual, _ = Counter(values).most_common(1)[0]
        odd = [f"{raw.name} ({value})" for raw, value in zip(raws, values, strict=True)
               if not same_value(raw.facts, field, value, usual)]  # fmt: skip
        if odd:
            label, unit = table.label(field)
            named = unit or table.keyword(field)
            named = "" if named == field else f" ({named})"
            raise GroupError(
                f"{what} of more than one {label}{named}: {', '.join(odd)}; the other frames have {usual}.",
                remedy="Leave the odd frames out, or reduce them as a group of their own.",
            )
    shapes = {raw.shape for raw in raws}
    if len(shapes) > 1:
        listed = ", ".join(f"{raw.name} {raw.shape}" for raw in raws)
        raise GroupError(f"{what} of more than one shape: {listed}.", remedy="Leave the odd frames out.")
    return raws[0].facts


def rows_per_band(n_frames: int, nx: int, *, memory: int, threads: int | None) -> int:
    """Return the rows of a band such that all bands being processed stay within three quarters of ``memory``."""
    per_row = n_frames * nx * _BYTES_PER_PIXEL
    return min(_ROWS, rows_for(memory * 3 // 4, per_row, threads=threads, least=1))


class RawStack:
    """Raw frames read band by band; every row of every frame once, a few twice if memory is scarce.

    Parameters
    ----------
    raws
        Frames of one configuration (`check_alike`).
    rows
        Rows of a band.
    memory
        Bytes; a quarter is for the raw rows of the sample, which are kept until they are combined. The values
        do not depend on it.
    sampled_for
        Number of frames that determines the sample's bands; default: that of ``raws``. Stacks of the same number
        have the same bands.
    """

    def __init__(
        self, raws: Sequence[RawFrame], *, rows: int, memory: int, sampled_for: int | None = None
    ) -> None:
        self.raws = list(raws)
        self._rows, self._memory, self._sampled_for = rows, memory, sampled_for
        self.facts = raws[0].facts
        self.shape = raws[0].shape
        # The sample does not depend on the memory, because the pedestal, and so every pixel, depends on the
        # sample. With many frames it has fewer rows, to take no more memory; the scatter is known equally
        # well.
        every = list(bands(self.shape[0], _ROWS))
        affordable = _SAMPLE_PIXELS // ((sampled_for or len(self.raws)) * _ROWS * self.shape[1])
        n_sample = max(1, min(_SAMPLE_BANDS, affordable, len(every)))
        chosen = (
            np.linspace(0, len(every) - 1, n_sample + 2)[1:-1] if len(every) > n_sample else range(len(every))
        )
        self.sample_bands = [every[int(k)] for k in chosen]
        room = memory // 4 // (len(self.raws) * _ROWS * self.shape[1] * 4)
        self._most_kept = room if rows == _ROWS else 0
        self._kept: dict[int, list[NDArray[Any]]] = {}

    def __len__(self) -> int:
        return len(self.raws)

    def only(self, chosen: Sequence[int]) -> RawStack:
        """Return a stack of some of the frames."""
        return RawStack(
            [self.raws[k] for k in chosen],
            rows=self._rows,
            memory=self._memory,
            sampled_for=self._sampled_for,
        )

    def sample(self) -> NDArray[np.float32]:
        """Return the electrons (not linearised) of the sample bands, float32 (n, pixels)."""
        nx = self.shape[1]
        sample = np.empty((len(self.raws), sum(b.stop - b.start for b in self.sample_bands) * nx), np.float32)
        end = 0
        for band in self.sample_bands:
            begin, end = end, end + (band.stop - band.start) * nx
            rows = [raw.rows(band) for raw in self.raws]
            for k, pixels in enumerate(rows):
                sample[k, begin:end] = pixels.ravel()
            lost = [
                without_data(pixels, raw.facts.readout) for pixels, raw in zip(rows, self.raws, strict=True)
            ]
            if any(one is not None for one in lost):
                _fill(sample[:, begin:end], lost)
            if len(self._kept) < self._most_kept:
                self._kept[band.start] = rows
        return np.multiply(sample, np.float32(self.facts.gain), out=sample)

    def prepared(
        self,
        band: slice,
        *,
        pedestal: float,
        linearise: bool,
        bpm: NDArray[Any] | None = None,
        parameters: PrepareParameters | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint16]]:
        """Return the values, variances and quality of one band, (n, rows, nx)."""
        kept = self._kept.pop(band.start, None)
        shape = (len(self.raws), band.stop - band.start, self.shape[1])
        out = np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint16)
        for k, raw in enumerate(self.raws):
            prepare(
                raw.rows(band) if kept is None else kept[k],
                raw.facts,
                bpm=None if bpm is None else bpm[band],
                pedestal=pedestal,
                linearise=linearise,
                parameters=parameters,
                out=(out[0][k], out[1][k], out[2][k]),
            )
        return out


def _fill(sample: NDArray[np.float32], lost: Sequence[NDArray[np.bool_] | None]) -> None:
    """Set pixels without data to the median of the other frames plus the frame's own residuals elsewhere.

    So neither level nor scatter of the sample depends on them.
    """
    gone = np.array([np.zeros(sample.shape[1], bool) if one is None else one.ravel() for one in lost])
    intact = ~gone.any(axis=0)
    middle = np.ma.median(np.ma.masked_array(sample[:, ~intact], gone[:, ~intact]), axis=0).filled(0)
    centre = np.median(sample[:, intact], axis=0) if intact.any() else np.zeros(0, np.float32)
    for values, holes in zip(sample, gone, strict=True):
        if holes.any():
            residuals = values[intact] - centre
            own = np.resize(residuals, int(holes.sum())) if residuals.size else np.float32(0)
            values[holes] = middle[holes[~intact]] + own


def stacked_variance(
    level: NDArray[np.float32],
    count: NDArray[np.uint16],
    model: NoiseModel,
    parameters: CombineParameters,
    *,
    linearised: bool,
) -> NDArray[np.float32]:
    """Return the variance of a mean or median of ``count`` equal frames at this stacked level; 0 where count is 0.

    Parameters
    ----------
    level, count
        Electrons of the stack and number of inputs combined, (rows, nx).
    model
        Noise of one frame.
    parameters
        Parameters of the combination: the median has a larger variance than the mean.
    linearised
        Whether the level is corrected for non-linearity.
    """
    n = int(count.max(initial=0))
    share = np.zeros(n + 1, np.float32)
    share[1:] = 1 / np.arange(1, n + 1)
    if parameters.operation == "median":
        share *= median_factors(n).astype(np.float32)
    return model.variance(level, linearised=linearised) * share[count]
