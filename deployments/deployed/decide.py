"""The flow with which users certify, reject and reinstate from the Prefect UI, as with `nirflow cal`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from uuid import UUID

from prefect import flow, get_client, runtime
from prefect.states import Completed, State

from calib_store.curation.certify import certify, changed_with, counting_again, reinstate, reject
from calib_store.curation.lookup import product_or_frame
from calib_store.model.product_nights import site_of
from calib_store.model.records import Frame, Product
from calib_store.store import Store
from calib_store.tables.status import status_text
from calib_store.user_name import user_name
from deployments.access.policy_bodies import AWAITING_RETRY
from deployments.deployed.common import name_of_run, store_of
from deployments.deployed.requests import DecisionRequest
from deployments.deployed.run_user import operator_of_run
from deployments.settings.all_settings import Settings
from imaging.errors import NirflowError
from imaging.listed import listed

_LISTED = 5


class RepeatedDecisionError(NirflowError):
    """A run of a decision that was retried."""


@flow(name="decide", flow_run_name=name_of_run("decide"))
def decide(request: DecisionRequest) -> State[None]:
    """Certify, reject or reinstate a product or a raw frame, in the name of the user who started the run.

    Parameters
    ----------
    request
        The decision, and its reason.

    Raises
    ------
    NirflowError
        If the store has no such product or refuses the decision, or if the run was retried, even when cancelled before
        it began: the user who retries need not be the one who decided.
    """
    if _is_retried():
        raise RepeatedDecisionError(
            "A decision cannot be made by retrying a run.",
            remedy="Check the history (nirflow cal show, or the store's pages), and start a new run of decide.",
        )
    return Completed(message=act(store_of(Settings()), request, author_of_run()))


def act(store: Store, request: DecisionRequest, author: str) -> str:
    """Carry out a decision, and return a message about its effect.

    Raises
    ------
    NirflowError
        As for the functions of `calib_store.curation.certify`.
    """
    if request.decision == "certify":
        product = store.get(request.product)
        start, end = request.validity_at(site_of(product.facts))
        done = certify(
            store, product, author=author, reason=request.reason, start=start, end=end,
            take_over=request.take_over, despite_gate=request.despite_gate,
        )  # fmt: skip
        changed = (done, *(changed_with(store, done) if request.take_over else ()))
        return " ".join(f"{one.name_and_id} is {status_text(one.status, one.validity)}." for one in changed)
    found = product_or_frame(store, request.product)
    if request.decision == "reject":
        reject(store, found, author=author, reason=request.reason)
        affected = [product for product in store.affected(found) if product.counts]
        again = f" Made with it: {_names(affected)}; reprocess makes them again." if affected else ""
        return f"{_label(found)} is rejected.{again}"
    after = reinstate(store, found, author=author, reason=request.reason)
    restored = counting_again(store, after)
    again = f" Restored, as superseded only because of it: {_names(restored)}." if restored else ""
    return f"{_label(found)} is {getattr(after, 'status', 'usable')} again.{again}"


def _is_retried() -> bool:
    """Return whether this run has begun or ended before, or was scheduled as a retry."""
    if (runtime.flow_run.run_count or 1) > 1:
        return True
    run = runtime.flow_run.id
    if not run:
        return False
    with get_client(sync_client=True) as client:
        states = client.read_flow_run_states(UUID(run))
    return any(state.is_final() or state.name == AWAITING_RETRY for state in states)


def author_of_run() -> str:
    """Return the user who started this run, as recorded by the server; else the pipeline's own user."""
    if operator := operator_of_run():
        return operator
    return os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")[0] or user_name()


def _label(what: Product | Frame) -> str:
    return what.name_and_id if isinstance(what, Product) else f"Raw frame {what.name} ({what.sha256[:12]})"


def _names(products: Iterable[Product]) -> str:
    return listed((one.name_and_id for one in products), _LISTED)
