"""The master dark: the mean of darks of one configuration, with rejection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imaging.calibrations.peer_headers import unlike_headers
from imaging.calibrations.peers import OddFrame, PeerParameters, agreeing, check_dim
from imaging.calibrations.raw_stack import (
    VARIANCE_FROM,
    RawFrame,
    RawStack,
    check_alike,
    rows_per_band,
    stacked_variance,
)
from imaging.figures import Metrics, figure, share
from imaging.parameters import parameter
from imaging.pixels.bands import DEFAULT_MEMORY, run_bands
from imaging.pixels.columns import column_pattern
from imaging.pixels.combine import CombineParameters, combine
from imaging.pixels.image import ELECTRON, Image
from imaging.pixels.noise import NoiseModel, Pedestal, measure_pedestal

#: Version of the algorithm: raise it when pixels or figures change for the same frames and parameters.
VERSION = 3


class DarkParameters(PeerParameters, CombineParameters):
    """How a master dark is made."""

    # At 3 sigma a clip of a few equal frames costs 5 % of their information, at 4 sigma nearly none.
    low: float = parameter(4.0, "rejection threshold below the median", unit="sigma", gt=0)
    high: float = parameter(4.0, "rejection threshold above the median", unit="sigma", gt=0)
    pool_variance: bool = parameter(True, CombineParameters.model_fields["pool_variance"].description or "")
    min_frames: int = parameter(3, "fewest darks", ge=1)
    linearise: bool = parameter(True, "correct for non-linearity, as the frames that it is subtracted from")
    pedestal: float | None = parameter(
        None, "electrons of a frame without shot noise; measured from the darks if not given", unit="electron"
    )
    hot_limit: float = parameter(
        3050.0, "pixels above this are counted as hot in the metrics", unit="electron"
    )


class DarkMetrics(Metrics):
    """Figures of a master dark. Electrons are those of all coadds."""

    n_frames: int = figure("darks combined", "darks")
    level: float = figure(
        "median of the master (of every fourth row)", "level", unit="electron", headline=True, history=True
    )
    noise: float = figure(
        "median of the master's stated standard deviation",
        "noise",
        unit="electron",
        headline=True,
        history=True,
    )
    scatter: float = figure(
        "standard deviation of a typical pixel from dark to dark", "scatter, dark to dark", unit="electron"
    )
    read_noise: float = figure(
        "read noise of the read mode, which is part of the scatter",
        "read noise",
        unit="electron",
        history=True,
    )
    pedestal: Pedestal = figure(
        "part of the level that has no shot noise, as measured", "pedestal",
        unit="electron", error="pedestal_uncertainty", headline=True, history=True,
    )  # fmt: skip
    drift: float = figure("highest minus lowest level of the darks", "drift", unit="electron")
    column_pattern: float = figure(
        "rms over columns of the pedestal's differences, no shot noise", "column pattern", unit="electron"
    )
    n_hot: int = figure("pixels above hot_limit", "hot", shown_in="px", history=True)
    rejected: float = share("fraction of the input pixels that were rejected", "rejected")
    variance_from: str = figure("what the variance plane was computed from")


@dataclass(frozen=True)
class DarkResult:
    """A master dark.

    Parameters
    ----------
    image
        Electrons; the header has the pedestal as PEDESTAL.
    metrics
        Its figures.
    pedestal
        Electrons of one frame without shot noise.
    warnings
        What the user should know.
    left_out
        Darks that differ from the others and are not part of the master.
    doubts
        The warnings for which a user has to judge the master: no majority of the darks agrees, or too many were
        left out.
    """

    image: Image
    metrics: DarkMetrics
    pedestal: float
    warnings: tuple[str, ...] = ()
    left_out: tuple[OddFrame, ...] = ()
    doubts: tuple[str, ...] = ()


def make_dark(
    raws: Sequence[RawFrame],
    parameters: DarkParameters | None = None,
    *,
    what: str = "darks",
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
) -> DarkResult:
    """Combine darks into a master.

    A dark that differs from the others (`imaging.calibrations.peers`) is left out.

    The variance of a pixel is that of one dark at the *stacked* level (read noise, rounding, shot noise of
    the signal above the pedestal) over the number of darks combined. With each dark's own counts it would
    follow their noise, and with the pedestal's electrons it would be twice too large. Where columns differ by
    an offset of the readout (`imaging.pixels.columns`), each has its own pedestal, in VAR as in the rejection.

    Parameters
    ----------
    raws
        Darks of one exposure time, read mode, number of coadds and detector section.
    parameters
        `DarkParameters`.
    what
        Name of the darks in messages.
    threads
        Threads; default: one per core.
    memory
        Bytes that the bands being processed may take.

    Returns
    -------
    DarkResult
        The master, its metrics and the pedestal.

    Raises
    ------
    GroupError
        If there are too few darks or they do not match; the error names those that differ.
    """
    parameters = parameters or DarkParameters()
    facts, given = check_alike(raws, what, least=parameters.min_frames), raws
    ny, nx = raws[0].shape
    rows = rows_per_band(len(raws), nx, memory=memory, threads=threads)
    stack = RawStack(raws, rows=rows, memory=memory)
    sample = stack.sample()
    check = check_dim(what, stack, sample, parameters)
    agreed = agreeing(what, stack, sample, check, parameters, parameters.min_frames)
    stack, raws = agreed.stack, agreed.stack.raws
    levels = np.median(agreed.sample[:, ::8], axis=1)
    sample = agreed.levelled
    measured = measure_pedestal(sample, NoiseModel.of(facts))
    pattern = column_pattern(sample.reshape(len(raws), -1, nx))
    left_out, doubts = agreed.odd, agreed.doubts
    del sample, agreed
    pedestal = measured.value if parameters.pedestal is None else parameters.pedestal
    model = NoiseModel.of(facts, pedestal)
    sci, var = np.empty((ny, nx), np.float32), np.empty((ny, nx), np.float32)
    dq = np.empty((ny, nx), np.uint16)
    combined = np.zeros(ny, np.int64)

    def work(band: slice) -> None:
        planes = stack.prepared(band, pedestal=pedestal, linearise=parameters.linearise)
        if pattern.any():
            planes[1][:] = model.variance(planes[0] - pattern, linearised=parameters.linearise)
        master = combine(*planes, parameters)
        sci[band], dq[band] = master.sci, master.dq
        var[band] = stacked_variance(
            master.sci - pattern, master.count, model, parameters, linearised=parameters.linearise
        )
        combined[band] = master.count.sum(axis=1, dtype=np.int64)

    run_bands(work, ny, rows_per_band=rows, threads=threads)
    metrics = DarkMetrics(
        n_frames=len(raws),
        level=float(np.median(sci[::4])),
        scatter=measured.scatter,
        read_noise=facts.read_noise,
        noise=float(np.sqrt(np.median(var[::4]))),
        drift=float(np.ptp(levels)),
        column_pattern=float(pattern.std()),
        n_hot=int(np.count_nonzero(sci > parameters.hot_limit)),
        rejected=1 - float(combined.sum()) / (len(raws) * ny * nx),
        pedestal=measured,
        variance_from=VARIANCE_FROM,
    )
    header, primary = raws[0].extension.copy(), raws[0].primary.copy()
    header["BUNIT"] = (ELECTRON, "unit of the values")
    header["PEDESTAL"] = (round(pedestal, 3), "[electron] of one frame, no shot noise")
    warnings = doubts + unlike_headers(what, given)
    if measured.problem and parameters.pedestal is None:
        warnings += (f"pedestal: {measured.problem}",)
    return DarkResult(Image(sci, var, dq, header, primary), metrics, pedestal, warnings, left_out, doubts)
