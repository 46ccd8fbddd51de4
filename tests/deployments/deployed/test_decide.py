"""Decisions about products by a run: the same as the commands make, in the name of who asked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
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


def asked(decision: str, product: str, **more: Any) -> DecisionRequest:
    return DecisionRequest.model_validate(
        {"decision": decision, "product": product, "reason": "looked at", **more}
    )


def frame_of(store: Store, name: str) -> Frame:
    found = store.frames.get(name)
    assert found is not None
    return found


def test_a_product_is_certified_by_its_rule(store: Store, add: Callable[..., Product]) -> None:
    dark = add()
    told = act(store, asked("certify", dark.name), "ana")
    last = store.history(dark)[-1]
    assert (last.status, last.author, last.reason) == ("certified", "ana", "looked at")
    assert told.startswith(f"{dark.name_and_id} is certified for 2013-08-23")


def test_it_is_certified_for_nights_and_for_times(store: Store, add: Callable[..., Product]) -> None:
    one, two = add(), add("flat")
    act(store, asked("certify", str(one.id), first_night="2013-11-21", last_night="2013-11-22"), "ana")
    assert store.get(one.id).validity == (
        datetime(2013, 11, 20, 14, tzinfo=UTC), datetime(2013, 11, 22, 14, tzinfo=UTC),
    )  # fmt: skip
    act(store, asked("certify", str(two.id), valid_from="2013-11-21T03:00", valid_until="always"), "ana")
    assert store.get(two.id).validity == (datetime(2013, 11, 21, 3, tzinfo=UTC), None)


def test_neighbours_that_give_time_are_named(store: Store, add: Callable[..., Product]) -> None:
    first, second = add(), add(hours=24 * 30)
    act(store, asked("certify", str(first.id)), "ana")
    told = act(store, asked("certify", str(second.id), take_over=True), "ana")
    assert first.name_and_id in told
    assert second.name_and_id in told


def test_products_and_frames_are_rejected_and_reinstated(store: Store, add: Callable[..., Product]) -> None:
    dark = add()
    told = act(store, asked("reject", "raw0.fits"), "ana")
    assert told == (
        f"Raw frame raw0.fits ({frame_of(store, 'raw0.fits').sha256[:12]}) is rejected. "
        f"Made with it: {dark.name_and_id}; reprocess makes that again."
    )
    assert store.frames.history(frame_of(store, "raw0.fits"))[-1].author == "ana"
    assert act(store, asked("reinstate", "raw0.fits"), "eva").endswith("is usable again.")
    assert act(store, asked("reject", str(dark.id)), "ana") == f"{dark.name_and_id} is rejected."
    assert act(store, asked("reinstate", str(dark.id)), "eva") == f"{dark.name_and_id} is candidate again."
    assert [change.author for change in store.history(dark)][1:] == ["ana", "eva"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"decision": "certify", "product": "a"}, "reason"),
        ({"decision": "certify", "product": "a", "reason": " "}, "needs a reason"),
        ({"decision": "supersede", "product": "a", "reason": "b"}, "'certify', 'reject' or 'reinstate'"),
        ({"decision": "certify", "product": "", "reason": "b"}, "at least 1 character"),
        ({"decision": "reject", "product": "a", "reason": "b", "take_over": True}, "go with certifying only"),
        (
            {"decision": "reject", "product": "a", "reason": "b", "valid_from": "always"},
            "go with certifying only",
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
            "needs a first one",
        ),
        ({"decision": "certify", "product": "a", "reason": "b", "author": "owner"}, "Extra inputs"),
    ],
)
def test_a_wrong_form_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        DecisionRequest.model_validate(given)


def test_one_night_ends_at_the_next_one() -> None:
    one = asked("certify", "a", first_night=date(2013, 11, 21))
    assert one.validity == (datetime(2013, 11, 20, 14, tzinfo=UTC), datetime(2013, 11, 21, 14, tzinfo=UTC))


@pytest.fixture
def run(
    prefect_server: ServerAddress, store: Store, monkeypatch: pytest.MonkeyPatch
) -> Callable[[DecisionRequest], Any]:
    """Run the flow on the test's store; its final state."""
    monkeypatch.setattr(module, "store_of", lambda settings: store)
    return lambda request: decide(request, return_state=True)


def test_the_owner_s_run_is_in_the_name_of_the_password(
    run: Callable[[DecisionRequest], Any],
    store: Store,
    add: Callable[..., Product],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dark = add()
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "nirflow:x")
    state = run(asked("certify", dark.name))
    assert state.is_completed()
    assert state.message.startswith(f"{dark.name_and_id} is certified")
    assert store.history(dark)[-1].author == "nirflow"


def test_an_operator_s_run_is_in_the_name_that_the_server_noted(
    run: Callable[[DecisionRequest], Any],
    store: Store,
    add: Callable[..., Product],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dark = add()

    def act_as_noted(*arguments: Any) -> str:
        with get_client(sync_client=True) as client:
            client.request(
                "PATCH", "/flow_runs/{id}/labels", path_params={"id": module.runtime.flow_run.id},
                json={USER_LABEL: "ana"},
            )  # fmt: skip
        return act(*arguments[:2], module.author_of_run())

    monkeypatch.setattr(module, "act", act_as_noted)
    assert run(asked("reject", dark.name)).is_completed()
    assert store.history(dark)[-1].author == "ana"


def test_a_run_that_is_tried_again_decides_nothing(
    run: Callable[[DecisionRequest], Any],
    store: Store,
    add: Callable[..., Product],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dark = add()
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT", "2")
    state = run(asked("certify", dark.name))
    assert state.is_failed()
    with pytest.raises(RepeatedDecisionError):
        state.result()
    assert store.get(dark.id).status == "candidate"


@pytest.mark.parametrize("before", [[Scheduled(), Cancelled()], [Scheduled()]], ids=["cancelled", "to come"])
def test_a_run_that_is_tried_again_before_it_began_decides_nothing(
    run: Callable[[DecisionRequest], Any],
    store: Store,
    add: Callable[..., Product],
    before: list[State[Any]],
) -> None:
    """Its count of runs is one; who put it forward is not who asked for it."""
    dark = add()
    request = asked("certify", dark.name)
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


def test_what_the_store_refuses_fails_the_run(run: Callable[[DecisionRequest], Any], store: Store) -> None:
    state = run(asked("certify", "nothing.fits"))
    assert state.is_failed()
    with pytest.raises(StoreError, match=r"no product 'nothing\.fits'"):
        state.result()
