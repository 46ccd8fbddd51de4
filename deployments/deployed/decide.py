"""The flow by which users certify, reject and reinstate from the Prefect UI, as `nirflow cal` does."""

from __future__ import annotations

import getpass
import os
from typing import Any
from uuid import UUID

from prefect import flow, get_client, runtime
from prefect.states import Completed, State

from calib_store.curation.certify import certify, changed_with, counting_again, reinstate, reject
from calib_store.curation.lookup import product_or_frame
from calib_store.model.records import Frame, Product
from calib_store.store import Store
from calib_store.tables.status import status_text
from deployments.access.policy_bodies import AWAITING_RETRY
from deployments.deployed.common import store_of
from deployments.deployed.requests import DecisionRequest
from deployments.deployed.run_user import operator_of_run
from deployments.settings.all_settings import Settings
from imaging.errors import NirflowError

_LISTED = 5


class RepeatedDecisionError(NirflowError):
    """A run of a decision that was tried again."""


def _name() -> str:
    request: Any = runtime.flow_run.parameters["request"]
    asked = request if isinstance(request, DecisionRequest) else DecisionRequest.model_validate(request)
    return f"{asked.decision} {asked.product}"


@flow(name="decide", flow_run_name=_name)
def decide(request: DecisionRequest) -> State[None]:
    """Certify, reject or reinstate a product or a raw frame, as the user who asked for the run.

    Parameters
    ----------
    request
        What is decided, and why.

    Raises
    ------
    NirflowError
        Where the store has no such product, or cannot do it; and where the run was tried again, also after it was
        cancelled before it began: who tries again is not always who decided.
    """
    if _is_retried():
        raise RepeatedDecisionError(
            "A decision is not made by trying a run again.",
            remedy="See its history (nirflow cal show, or the store's pages), and ask for a new run of decide.",
        )
    return Completed(message=act(store_of(Settings()), request, author_of_run()))


def act(store: Store, request: DecisionRequest, author: str) -> str:
    """Do what was decided; what came of it.

    Raises
    ------
    NirflowError
        As the functions of `calib_store.curation.certify` do.
    """
    if request.decision == "certify":
        start, end = request.validity
        done = certify(
            store, store.get(request.product), author=author, reason=request.reason, start=start, end=end,
            take_over=request.take_over, despite_gate=request.despite_gate,
        )  # fmt: skip
        changed = (done, *(changed_with(store, done) if request.take_over else ()))
        return " ".join(f"{one.name_and_id} is {status_text(one.status, one.validity)}." for one in changed)
    found = product_or_frame(store, request.product)
    if request.decision == "reject":
        reject(store, found, author=author, reason=request.reason)
        hit = [product for product in store.affected(found) if product.counts]
        again = f" Made with it: {_listed(hit)}; reprocess makes that again." if hit else ""
        return f"{_label(found)} is rejected.{again}"
    after = reinstate(store, found, author=author, reason=request.reason)
    back = counting_again(store, after)
    again = f" Superseded because of it, and counts again: {_listed(back)}." if back else ""
    return f"{_label(found)} is {getattr(after, 'status', 'usable')} again.{again}"


def _is_retried() -> bool:
    """Whether this run began before, ended before, or was put forward as one that is tried again."""
    if (runtime.flow_run.run_count or 1) > 1:
        return True
    run = runtime.flow_run.id
    if not run:
        return False
    with get_client(sync_client=True) as client:
        states = client.read_flow_run_states(UUID(run))
    return any(state.is_final() or state.name == AWAITING_RETRY for state in states)


def author_of_run() -> str:
    """Who asked for this run: the user that the server noted, else the pipeline's own."""
    if operator := operator_of_run():
        return operator
    return os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")[0] or getpass.getuser()


def _label(what: Product | Frame) -> str:
    return what.name_and_id if isinstance(what, Product) else f"Raw frame {what.name} ({what.sha256[:12]})"


def _listed(products: list[Product] | tuple[Product, ...]) -> str:
    return ", ".join(one.name_and_id for one in products[:_LISTED]) + (
        ", ..." if len(products) > _LISTED else ""
    )
