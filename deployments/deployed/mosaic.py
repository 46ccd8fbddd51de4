"""The flow that combines the stacks of several nights or pointings, started by a user."""

from __future__ import annotations

from prefect import flow
from prefect.states import State

from deployments.deployed.cluster import steps_on
from deployments.deployed.common import ended, name_of_run, options_of, write_pages
from deployments.deployed.disk_space import again_with_space
from deployments.deployed.log import info_logged
from deployments.deployed.requests import MosaicRequest
from deployments.settings.all_settings import Settings
from flows.mosaic import StackSelection, combine_with
from flows.page.lists.mosaic_rows import FOLDER
from flows.run.report import NightReport
from tasks.support.step_runner import step_runner


@flow(name="mosaic", flow_run_name=name_of_run("mosaic"), task_runner=step_runner())
@again_with_space
def mosaic(request: MosaicRequest) -> State[NightReport]:
    """Combine the stacks of a target or an observation into one image for each band.

    Parameters
    ----------
    request
        The field, and limits on nights and bands.

    Returns
    -------
    NightReport
        The mosaics, with their previews in the folder ``mosaics`` next to those of the nights.

    Raises
    ------
    NirflowError
        If there are fewer than two stacks of the field in each band.
    """
    settings = Settings()
    selection = StackSelection(
        target=request.target.strip(),
        observation=request.observation.strip(),
        first=request.first,
        last=request.last,
    )
    options = options_of(settings, bands=request.bands, parameters=request.parameters)
    with info_logged(), steps_on(settings):
        report = combine_with(selection, settings.nights / FOLDER, options)
    write_pages(settings, ())
    return ended(report)
