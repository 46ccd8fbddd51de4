"""The flow for a night: darks, bad pixel mask, flats and science, in the order required by frames and
rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import flow

from flows.run.options import Options
from flows.run.report import NightReport
from flows.run.run import reduce_with
from tasks.support.step_runner import step_runner

__all__ = ["Options", "reduce_night"]


@flow(name="night", flow_run_name="night in {out}", task_runner=step_runner())
def reduce_night(
    paths: Sequence[str | Path], out: str | Path = "out", options: Options = Options()
) -> NightReport:
    """Reduce a night of raw imaging.

    The frames are grouped, the calibrations that they allow are built or found in the store, and every
    science group is reduced to a stack. One bad frame or group does not stop the others.

    Parameters
    ----------
    paths
        Raw frames: files, folders, globs; plain or compressed.
    out
        Folder for the products and their previews.
    options
        Bands, products wanted, parameters of the steps, calibrations named by the user.

    Returns
    -------
    NightReport
        Products with their quality figures, frames left out and failures with reasons, times.

    Raises
    ------
    NirflowError
        If a path does not exist, the output folder cannot be written to, or the store does not respond.

    Examples
    --------
    >>> from nirflow import services  # doctest: +SKIP
    >>> with services():  # doctest: +SKIP
    ...     report = reduce_night(["/data/2013-11-21"], "out", Options(bands=("Y",)))
    """
    return reduce_with(paths, out, options, "the night")
