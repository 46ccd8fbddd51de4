"""The flow that looks after the store and the record of runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from prefect import flow, get_client, runtime
from prefect.client.schemas.filters import FlowRunFilter
from prefect.states import Completed, State
from pydantic import BaseModel, ConfigDict, Field

from calib_store.curation.verify import GRACE, Finding, Verified, gc, verify
from deployments.deployed.attempts import end_steps_of_ended_runs
from deployments.deployed.common import store_of
from deployments.deployed.requests import HousekeepingRequest
from deployments.deployed.run_user import operator_of_run
from deployments.settings.all_settings import Settings
from imaging.errors import NirflowError
from tasks.support.artifacts import plain, publish_markdown
from tasks.support.best_effort import best_effort

logger = logging.getLogger(__name__)

_PAGE = 200


class DamagedStoreError(NirflowError):
    """Products whose files are missing or damaged."""


class KeptTooShortError(NirflowError):
    """An operator asked for runs to be forgotten that the settings keep."""


class Housekept(BaseModel):
    """What housekeeping found."""

    model_config = ConfigDict(frozen=True)

    checked: int = Field(default=0, description="products whose files were read")
    damaged: tuple[str, ...] = Field(
        default=(), description="products whose files were found missing or damaged"
    )
    noted: tuple[str, ...] = Field(default=(), description="products that were noted as damaged before")
    orphans: int = Field(default=0, description="files that no product refers to")
    orphan_bytes: int = 0
    runs_forgotten: int = Field(default=0, description="old runs that the Prefect server forgot")

    def verdict(self) -> str:
        """The line of the run where nothing is damaged."""
        return f"{self.checked} products checked, {self.orphans} files to delete, {self.runs_forgotten} runs forgotten."


@flow(name="housekeeping", flow_run_name="housekeeping")
def housekeeping(request: HousekeepingRequest = HousekeepingRequest()) -> State[Housekept]:
    """Verify every product's file, list what could be deleted, and have the Prefect server forget old runs.

    Nothing of the store is deleted or repaired: `nirflow cal verify --repair` and `nirflow cal gc` do that.

    Parameters
    ----------
    request
        What is to be done.

    Returns
    -------
    Housekept
        What was found and done.

    Raises
    ------
    KeptTooShortError
        Where an operator asks for runs to be forgotten earlier than the settings say; nothing was done.
    DamagedStoreError
        Where a product is damaged and not noted so yet: the run fails, so that somebody is told. The rest was done
        before.
    """
    settings = Settings()
    days = days_kept(request, settings, operator_of_run())
    store = store_of(settings)
    verified = verify(store) if request.verify else None
    # Where the files may not be at hand, what else is there is not idle.
    collect = request.collect and not (verified and verified.doubt)
    idle = gc(store, staging=settings.data_dir.expanduser() / "staging", grace=GRACE) if collect else ()
    findings = verified.findings if verified else ()
    end_steps_of_ended_runs()
    told = Housekept(
        checked=verified.checked if verified else 0,
        damaged=_told(findings, news=True),
        noted=_told(findings, news=False),
        orphans=len(idle),
        orphan_bytes=sum(one.size for one in idle),
        runs_forgotten=forget_runs(datetime.now(UTC) - timedelta(days=days)),
    )
    _publish(told, verified)
    if told.damaged:
        raise DamagedStoreError(
            f"{len(told.damaged)} products are missing or damaged: {'; '.join(told.damaged)}.",
            remedy=f"{verified.doubt} Mount the disk or correct NIRFLOW_OBJECTS_URL."
            if verified and verified.doubt
            else "nirflow cal verify --repair puts copies in their place, or has them made again.",
        )
    return Completed(message=told.verdict(), data=told)


def days_kept(request: HousekeepingRequest, settings: Settings, operator: str | None) -> int:
    """How long ended runs are kept, days.

    Raises
    ------
    KeptTooShortError
        Where an operator asks for less than the settings say: to delete the record of runs is for the owner.
    """
    least = settings.nightly.keep_runs_days
    days = request.keep_runs_days or least
    if operator is not None and days < least:
        raise KeptTooShortError(
            f"The operator {operator} asked for runs to be forgotten after {days} days; the settings keep them "
            f"{least} days.",
            remedy=f"Leave keep_runs_days empty, or ask for {least} or more. The owner may ask for less.",
        )
    return days


def _told(findings: Sequence[Finding], *, news: bool) -> tuple[str, ...]:
    return tuple(f"{f.product.name} ({f.product.id}): {f.condition}" for f in findings if f.news == news)


def forget_runs(before: datetime) -> int:
    """Have the Prefect server delete the flow runs that ended before a moment; how many."""
    forgotten = 0
    ended = FlowRunFilter.model_validate({"end_time": {"before_": before}})
    with get_client(sync_client=True) as client:
        while found := client.read_flow_runs(flow_run_filter=ended, limit=_PAGE):
            for run in found:
                client.delete_flow_run(run.id)
            forgotten += len(found)
    return forgotten


@best_effort("The summary in the Prefect UI")
def _publish(told: Housekept, verified: Verified | None) -> None:
    if not runtime.flow_run.id:
        return
    lines = [
        "# Housekeeping",
        f"- {told.checked} products read whole, {verified.size / 1e9 if verified else 0:.2f} GB",
        f"- {len(told.damaged)} missing or damaged",
        *(f"  - **{plain(text)}**" for text in told.damaged),
        *([f"- {len(told.noted)} noted as damaged before; they are not used"] if told.noted else []),
        *(f"  - {plain(text)}" for text in told.noted),
        f"- {told.orphans} files that nothing refers to, {told.orphan_bytes / 1e6:.1f} MB "
        "(`nirflow cal gc` deletes them)",
        f"- {told.runs_forgotten} old runs forgotten",
    ]
    publish_markdown("housekeeping", "\n".join(lines), "State of the store")
