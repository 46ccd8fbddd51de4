"""The flow that checks the store and deletes old runs from the Prefect server."""

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
from imaging.listed import counted
from imaging.machine import size_text
from tasks.support.artifacts import plain, publish_markdown
from tasks.support.best_effort import best_effort

logger = logging.getLogger(__name__)

_PAGE = 200


class DamagedStoreError(NirflowError):
    """A store with products whose files are missing or damaged."""


class KeptTooShortError(NirflowError):
    """A request of an operator to delete runs that the settings keep."""


class Housekept(BaseModel):
    """The findings of housekeeping."""

    model_config = ConfigDict(frozen=True)

    checked: int = Field(default=0, description="products whose files were read")
    damaged: tuple[str, ...] = Field(
        default=(), description="products whose files were found missing or damaged"
    )
    noted: tuple[str, ...] = Field(default=(), description="products already recorded as damaged")
    orphans: int = Field(default=0, description="files that no product refers to")
    orphan_bytes: int = 0
    runs_forgotten: int = Field(default=0, description="old runs deleted from the Prefect server")

    def verdict(self) -> str:
        """Return the message of a run that found no damage."""
        return f"{self.checked} products checked, {self.orphans} files to delete, {self.runs_forgotten} runs deleted."


@flow(name="housekeeping", flow_run_name="housekeeping")
def housekeeping(request: HousekeepingRequest = HousekeepingRequest()) -> State[Housekept]:
    """Verify every product's file, list files that could be deleted, and delete old runs from the Prefect server.

    Nothing in the store is deleted or repaired: `nirflow cal verify --repair` and `nirflow cal gc` do that.

    Parameters
    ----------
    request
        The checks to make.

    Returns
    -------
    Housekept
        The findings.

    Raises
    ------
    KeptTooShortError
        If an operator requests to delete runs earlier than the settings allow; nothing was done.
    DamagedStoreError
        If a product is newly found damaged: the run fails, so that a notification is sent. Everything else has been
        done before.
    """
    settings = Settings()
    days = days_kept(request, settings, operator_of_run())
    store = store_of(settings)
    verified = verify(store) if request.verify else None
    # If the disk with the files may not be mounted, the files found instead are not orphans.
    collect = request.collect and not (verified and verified.doubt)
    idle = gc(store, staging=settings.data_dir.expanduser() / "staging", grace=GRACE) if collect else ()
    findings = verified.findings if verified else ()
    end_steps_of_ended_runs()
    housekept = Housekept(
        checked=verified.checked if verified else 0,
        damaged=_texts(findings, news=True),
        noted=_texts(findings, news=False),
        orphans=len(idle),
        orphan_bytes=sum(one.size for one in idle),
        runs_forgotten=forget_runs(datetime.now(UTC) - timedelta(days=days)),
    )
    _publish(housekept, verified)
    if housekept.damaged:
        raise DamagedStoreError(
            f"{counted(len(housekept.damaged), 'product is', 'products are')} missing or damaged: "
            f"{'; '.join(housekept.damaged)}.",
            remedy=f"{verified.doubt} Mount the disk or correct NIRFLOW_OBJECTS_URL."
            if verified and verified.doubt
            else "nirflow cal verify --repair restores them from copies, or has them made again.",
        )
    return Completed(message=housekept.verdict(), data=housekept)


def days_kept(request: HousekeepingRequest, settings: Settings, operator: str | None) -> int:
    """Return how long ended runs are kept, days.

    Raises
    ------
    KeptTooShortError
        If an operator requests less than the settings allow: only the owner may delete runs earlier.
    """
    least = settings.nightly.keep_runs_days
    days = request.keep_runs_days or least
    if operator is not None and days < least:
        raise KeptTooShortError(
            f"The operator {operator} requested to delete runs after {days} days; the settings keep them {least} days.",
            remedy=f"Leave keep_runs_days empty, or set it to {least} or more. The owner may set less.",
        )
    return days


def _texts(findings: Sequence[Finding], *, news: bool) -> tuple[str, ...]:
    return tuple(f"{f.product.name} ({f.product.id}): {f.condition}" for f in findings if f.news == news)


def forget_runs(before: datetime) -> int:
    """Delete the flow runs that ended before a moment from the Prefect server, and return their number."""
    forgotten = 0
    ended = FlowRunFilter.model_validate({"end_time": {"before_": before}})
    with get_client(sync_client=True) as client:
        while found := client.read_flow_runs(flow_run_filter=ended, limit=_PAGE):
            for run in found:
                client.delete_flow_run(run.id)
            forgotten += len(found)
    return forgotten


@best_effort("The summary in the Prefect UI")
def _publish(housekept: Housekept, verified: Verified | None) -> None:
    if not runtime.flow_run.id:
        return
    lines = [
        "# Housekeeping",
        f"- {housekept.checked} products read in full, {size_text(verified.size if verified else 0)}",
        f"- {len(housekept.damaged)} missing or damaged",
        *(f"  - **{plain(text)}**" for text in housekept.damaged),
        *(
            [f"- {len(housekept.noted)} already recorded as damaged; they are not used"]
            if housekept.noted
            else []
        ),
        *(f"  - {plain(text)}" for text in housekept.noted),
        f"- {housekept.orphans} files that no product refers to, {size_text(housekept.orphan_bytes)} "
        "(`nirflow cal gc` deletes them)",
        f"- {housekept.runs_forgotten} old runs deleted",
    ]
    publish_markdown("housekeeping", "\n".join(lines), "State of the store")
