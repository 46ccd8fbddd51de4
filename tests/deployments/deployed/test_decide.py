"""Decisions about products by a run: the same as with the commands, in the name of the user."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from prefect import get_client
from prefect.flow_engine import run_flow
from prefect.states import AwaitingRetry, Cancelled, Scheduled, State
from pydantic import ValidationError

from calib_store.model.records import Frame, Product
from calib_store.store import Store
from deployments.access.policy_bodies import USER_LABEL
from deployments.deployed import decide as module
from deployments.deployed.decide import RepeatedDecisionError, act, decide
from deployments.deployed.requests import DecisionRequest
from deployments.settings.server_settings import ServerAddress
from imaging.errors import StoreError
from imaging.instruments.site import Site


def form(decision: str, product: str, **more: Any) -> DecisionRequest:
    return DecisionRequest.model_validate(
        {"decision": decision, "product": product, "reason": "looked at", **more}
    )


def frame_of(store: Store, name: str) -> Frame:
    found = store.frames.get(name)
    assert found is not None
    return found


def test_a_product_is_certified_by_its_rule(store: Store, add: Callable[..., Product]) -> None:
    dark = add()
    message = act(store, form("certify", dark.name), "ana")
    last = store.history(dark)[-1]
    assert (last.status, last.author, last.reason) == ("certified", "ana", "looked at")
    assert message.startswith(f"{dark.name_and_id} is certified for 2013-08-23")


def test_a_product_is_certified_for_nights_and_for_times(store: Store, add: Callable[..., Product]) -> None:
    one, two = add(), add("flat")
    act(store, form("certify", str(one.id), first_night="2013-11-21", last_night="2013-11-22"), "ana")
    assert store.get(one.id).validity == (
        datetime(2013, 11, 20, 17, tzinfo=UTC), datetime(2013, 11, 22, 17, tzinfo=UTC),
    )  # fmt: skip
    act(store, form("certify", str(two.id), valid_from="2013-11-21T03:00", valid_until="always"), "ana")
    assert store.get(two.id).validity == (datetime(2013, 11, 21, 3, tzinfo=UTC), None)


def test_neighbours_with_shortened_validity_are_named(store: Store, add: Callable[..., Product]) -> None:
    first, second = add(), add(hours=24 * 30)
    act(store, form("certify", str(first.id)), "ana")
    message = act(store, form("certify", str(second.id), take_over=True), "ana")
    assert first.name_and_id in message
    assert second.name_and_id in message


def test_products_and_frames_are_rejected_and_reinstated(store: Store, add: Callable[..., Product]) -> None:
    dark = add()
    message = act(store, form("reject", "raw0.fits"), "ana")
    assert message == (
        f"Raw frame raw0.fits ({frame_of(store, 'raw0.fits').sha256[:12]}) is rejected. "
        f"Made with it: {dark.name_and_id}; reprocess makes them again."
    )
    assert store.frames.history(frame_of(store, "raw0.fits"))[-1].author == "ana"
    assert act(store, form("reinstate", "raw0.fits"), "eva").endswith("is usable again.")
    assert act(store, form("reject", str(dark.id)), "ana") == f"{dark.name_and_id} is rejected."
    assert act(store, form("reinstate", str(dark.id)), "eva") == f"{dark.name_and_id} is candidate again."
    assert [change.author for change in store.history(dark)][1:] == ["ana", "eva"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"decision": "certify", "product": "a"}, "reason"),
        ({"decision": "certify", "product": "a", "reason": " "}, "needs a reason"),
        ({"decision": "supersede", "product": "a", "reason": "b"}, "'certify', 'reject' or 'reinstate'"),
        ({"decision": "certify", "product": "", "reason": "b"}, "at least 1 character"),
        (
            {"decision": "reject", "product": "a", "reason": "b", "take_over": True},
            "are only for the decision certify",
        ),
        (
            {"decision": "reject", "product": "a", "reason": "b", "valid_from": "always"},
            "are only for the decision certify",
        ),
        (
            {
                "decision": "certify",
                "product": "a",
                "reason": "b",
                "first_night": "2013-11-21",
                "valid_from": "always",
            },
            "nights of the validity or its times",
        ),
        (
            {"decision": "certify", "product": "a", "reason": "b", "last_night": "2013-11-21"},
            "needs a first night",
        ),
        ({"decision": "certify", "product": "a", "reason": "b", "author": "owner"}, "Extra inputs"),
    ],
)
def test_an_invalid_form_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DecisionRequest.model_validate(given)


def test_one_night_ends_at_the_next_one() -> None:
    one = form("certify", "a", first_night=date(2013, 11, 21))
    for site, hour in ((Site(), 14), (Site(utc_offset=-3.0), 17), (Site(utc_offset=10.0), 4)):
        begins = datetime(2013, 11, 20, hour, tzinfo=UTC)
        assert one.validity_at(site) == (begins, begins + timedelta(days=1))


@pytest.fixture
def run(
    prefect_server: ServerAddress, store: Store, monkeypatch: pytest.MonkeyPatch
) -> Callable[[DecisionRequest], Any]:
    """Run the flow on the test's store and return its final state."""
    monkeypatch.setattr(module, "store_of", lambda settings: store)
    return lambda request: decide(request, return_state=True)


def test_a_run_of_the_owner_is_in_the_name_in_the_password(
    run: Callable[[DecisionRequest], Any],
    store: Store,
    add: Callable[..., Product],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dark = add()
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "nirflow:x")
    state = run(form("certify", dark.name))
    assert state.is_completed()
    assert state.message.startswith(f"{dark.name_and_id} is certified")
    assert store.history(dark)[-1].author == "nirflow"


def test_a_run_of_an_operator_is_in_the_name_recorded_by_the_server(
    run: Callable[[DecisionRequest], Any],
    store: Store,
    add: Callable[..., Product],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dark = add()

    def act_as_recorded(*arguments: Any) -> str:
        with get_client(sync_client=True) as client:
            client.request(
                "PATCH", "/flow_runs/{id}/labels", path_params={"id": module.runtime.flow_run.id},
                json={USER_LABEL: "ana"},
            )  # fmt: skip
        return act(*arguments[:2], module.author_of_run())

    monkeypatch.setattr(module, "act", act_as_recorded)
    assert run(form("reject", dark.name)).is_completed()
    assert store.history(dark)[-1].author == "ana"


def test_a_retried_run_decides_nothing(
    run: Callable[[DecisionRequest], Any],
    store: Store,
    add: Callable[..., Product],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dark = add()
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT", "2")
    state = run(form("certify", dark.name))
    assert state.is_failed()
    with pytest.raises(RepeatedDecisionError):
        state.result()
    assert store.get(dark.id).status == "candidate"


@pytest.mark.parametrize("before", [[Scheduled(), Cancelled()], [Scheduled()]], ids=["cancelled", "to come"])
def test_a_run_retried_before_it_began_decides_nothing(
    run: Callable[[DecisionRequest], Any],
    store: Store,
    add: Callable[..., Product],
    before: list[State[Any]],
) -> None:
    """Its run count is one; the user who rescheduled it is not the one who started it."""
    dark = add()
    request = form("certify", dark.name)
    first, *later = before
    with get_client(sync_client=True) as client:
        made = client.create_flow_run(decide, parameters={"request": request}, state=first)
        for state in (*later, AwaitingRetry()):
            client.set_flow_run_state(made.id, state, force=True)
        made = client.read_flow_run(made.id)
    state = run_flow(decide, flow_run=made, parameters={"request": request}, return_type="state")
    assert state.is_failed()  # type: ignore[union-attr]
    with pytest.raises(RepeatedDecisionError):
        state.result()  # type: ignore[union-attr]
    assert store.get(dark.id).status == "candidate"


def test_a_decision_that_the_store_refuses_fails_the_run(
    run: Callable[[DecisionRequest], Any], store: Store
) -> None:
    state = run(form("certify", "nothing.fits"))
    assert state.is_failed()
    with pytest.raises(StoreError, match=r"no product 'nothing\.fits'"):
        state.result()
