"""The Prefect server after registration, and the runs that are started there.

There is no worker, so the runs stay scheduled. The session's server is shared: everything made here is deleted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import Any, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from jsonschema import ValidationError as SchemaError
from jsonschema import validate
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events import DeploymentEventTrigger
from prefect.events.schemas.automations import AutomationCore, Posture
from waiting import wait_until

from deployments.prefect_api.names import POOL
from deployments.prefect_api.rest import Rest
from deployments.registry.automations import make_automations
from deployments.registry.registry import QUEUES, register
from deployments.settings.all_settings import NightlySettings, Settings, WorkerSettings
from deployments.settings.server_settings import ServerAddress
from deployments.status.prefect_runs import runs_with_keys, server_facts

T = TypeVar("T")
NAMES = {
    "nightly/nightly", "arrival/arrival", "arrival/backlog", "calibrations/calibrations",
    "reprocess/reprocess", "mosaic/mosaic", "housekeeping/housekeeping", "decide/decide",
}  # fmt: skip
SETTINGS = Settings()


@pytest.fixture(scope="module")
def client(prefect_server: ServerAddress) -> Iterator[SyncPrefectClient]:
    """A client of a server where everything is registered, from the start to the end of the module."""
    register(SETTINGS)
    with get_client(sync_client=True) as one:
        yield one
        for deployment in ours(one).values():
            one.delete_deployment(deployment.id)
        for automation in one.read_automations():
            if automation.name.startswith("nirflow: "):
                one.delete_automation(automation.id)
        one.delete_work_pool(POOL)


def ours(client: SyncPrefectClient) -> dict[str, DeploymentResponse]:
    tagged = DeploymentFilter.model_validate({"tags": {"all_": ["nirflow"]}})
    flows = {flow.id: flow.name for flow in client.read_flows()}
    return {
        f"{flows[one.flow_id]}/{one.name}": one for one in client.read_deployments(deployment_filter=tagged)
    }


def known(client: SyncPrefectClient) -> dict[str, Any]:
    """All that registration makes, without the moments of its changes."""
    pool = client.read_work_pool(POOL)
    queues = client.read_work_queues(work_pool_name=POOL)
    automations = client.read_automations()
    assert len({one.name for one in automations}) == len(automations)
    return {
        "pool": (pool.type, pool.concurrency_limit, pool.base_job_template["variables"]),
        "queues": sorted((queue.name, queue.priority) for queue in queues),
        "deployments": {
            name: (
                one.id, one.work_queue_name, one.work_pool_name, one.entrypoint, one.parameter_openapi_schema,
                [(s.schedule.model_dump(), s.active) for s in one.schedules],
            )
            for name, one in ours(client).items()
        },
        "automations": {one.name: one.id for one in automations},
    }  # fmt: skip


def test_everything_is_registered_once_and_registering_again_changes_nothing(
    client: SyncPrefectClient,
) -> None:
    first = known(client)
    own = _last_changes(client)
    register(SETTINGS)
    assert known(client) == first
    assert _last_changes(client) == own
    assert set(first["deployments"]) == NAMES
    assert set(QUEUES.items()) <= set(first["queues"])
    assert first["pool"][:2] == ("process", 1)
    # For dead, cancelled and lost runs, and two for crashed ones: without recipients, none for notifications.
    assert len(own) == 5
    queue_of = {name: values[1] for name, values in first["deployments"].items()}
    assert (queue_of["arrival/arrival"], queue_of["arrival/backlog"]) == ("science", "backlog")
    # A limit of a deployment is a lease, which a server that starts again has forgotten: its run would crash.
    assert all(one.global_concurrency_limit is None for one in ours(client).values())


def _own_automations(client: SyncPrefectClient) -> list[Any]:
    return [one for one in client.read_automations() if one.name.startswith("nirflow: ")]


def _last_changes(client: SyncPrefectClient) -> dict[str, str]:
    """Return each of our automations and the time of its last change."""
    found = client.request("POST", "/automations/filter", json={"limit": 200}).json()
    return {one["name"]: one["updated"] for one in found if one["name"].startswith("nirflow: ")}


def test_science_of_tonight_goes_first() -> None:
    order = ["science", "calibrations", "nights", "backlog", "upkeep"]
    assert sorted(QUEUES, key=QUEUES.__getitem__) == order


def test_the_schedules_make_runs_in_chile(client: SyncPrefectClient) -> None:
    for name, hour in (("nightly/nightly", 9), ("housekeeping/housekeeping", 12)):
        (schedule,) = ours(client)[name].schedules
        assert schedule.schedule.timezone == "America/Santiago"  # type: ignore[union-attr]
        found = wait_until(lambda name=name: runs_of(client, name))
        assert {run.state_name for run in found} == {"Scheduled"}
        moments = {run.expected_start_time.astimezone(ZoneInfo("America/Santiago")) for run in found}
        assert {(moment.hour, moment.minute) for moment in moments} == {(hour, 0)}


def runs_of(client: SyncPrefectClient, name: str) -> list[FlowRun]:
    of = DeploymentFilter.model_validate({"id": {"any_": [ours(client)[name].id]}})
    return list(client.read_flow_runs(deployment_filter=of, limit=200))


def test_only_our_automations_that_are_no_longer_needed_are_deleted(
    client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {one.name for one in _own_automations(client)}
    own = _own_automations(client)[0].model_dump(exclude={"id"}) | {"name": "somebody's"}
    kept = client.create_automation(AutomationCore.model_validate(own))
    monkeypatch.setenv("NIRFLOW_NOTIFY_WEBHOOK", "http://127.0.0.1:9/")
    make_automations(client, Settings())
    events = ("a failed run", "a night's end", "a crossed limit")
    notifying = {f"nirflow: notify of {event}" for event in events}
    assert {one.name for one in _own_automations(client)} == before | notifying
    monkeypatch.setenv("NIRFLOW_NOTIFY_ON", '["night"]')
    make_automations(client, Settings())
    assert {one.name for one in _own_automations(client)} == before | {"nirflow: notify of a night's end"}
    monkeypatch.delenv("NIRFLOW_NOTIFY_WEBHOOK")
    make_automations(client, Settings())
    assert {one.name for one in _own_automations(client)} == before
    assert client.read_automation(kept) is not None
    client.delete_automation(kept)


# Forms


def test_each_form_takes_good_requests_and_refuses_wrong_ones(client: SyncPrefectClient) -> None:
    good = {
        "nightly/nightly": [
            {},
            {"request": {"first": "2013-11-21", "advanced": {"parameters": {"stack": {"low": 4}}}}},
            {"request": {"calibrations": {"days": 3, "use": [{"kind": "dark", "product": "S1_dark"}]}}},
        ],
        "arrival/arrival": [{"request": {"sequence": "2013-11-21.science.Y.1f0c9a2b"}}],
        "calibrations/calibrations": [{}, {"request": {"only": ["dark"]}}],
        "reprocess/reprocess": [{"request": {"rules_version": "3"}}],
        "mosaic/mosaic": [{"request": {"target": "M 42", "bands": ["H"]}}],
        "housekeeping/housekeeping": [{}, {"request": {"verify": False}}],
        "decide/decide": [
            {"request": {"decision": "reject", "product": "S1_dark.fits", "reason": "light leak"}},
            {"request": {"decision": "certify", "product": "S1", "reason": "good", "valid_from": "always"}},
        ],
    }
    wrong = {
        "nightly/nightly": [
            {"request": {"bands": ["Z"]}},
            {"request": {"first": 5}},
            {"request": {"nights": 1}},
        ],
        "arrival/arrival": [{}, {"request": {}}],
        "mosaic/mosaic": [{}, {"request": {"target": "M 42", "bands": ["Z"]}}],
        "calibrations/calibrations": [{"request": {"only": ["science"]}}],
        "housekeeping/housekeeping": [{"request": {"keep_runs_days": 0}}],
        "decide/decide": [
            {},
            {"request": {"decision": "reject", "product": "S1_dark.fits"}},
            {"request": {"decision": "delete", "product": "S1_dark.fits", "reason": "x"}},
            {"request": {"decision": "reject", "product": "S1", "reason": "x", "author": "me"}},
        ],
    }
    found = ours(client)
    for name, requests in good.items():
        for request in requests:
            validate(request, found[name].parameter_openapi_schema)
    for name, requests in wrong.items():
        for request in requests:
            with pytest.raises(SchemaError):
                validate(request, found[name].parameter_openapi_schema)


def test_the_server_itself_refuses_a_wrong_request(client: SyncPrefectClient) -> None:
    nightly = ours(client)["nightly/nightly"]
    assert nightly.enforce_parameter_schema
    with pytest.raises(Exception, match="'Z' is not one of"):
        client.create_flow_run_from_deployment(nightly.id, parameters={"request": {"bands": ["Z"]}})


def test_each_form_describes_its_fields(client: SyncPrefectClient) -> None:
    for name, one in ours(client).items():
        schema = one.parameter_openapi_schema
        assert one.description, name
        for model in (schema, *schema.get("definitions", {}).values()):
            for field, entry in model.get("properties", {}).items():
                assert entry.get("title") or "$ref" in entry, (name, field)  # the model has one
                # The description of the request itself is that of its model.
                assert entry.get("description") or ("$ref" in entry and field == "request"), (name, field)
        for model in schema.get("definitions", {}).values():
            assert model.get("description"), (name, model)
    sky = ours(client)["nightly/nightly"].parameter_openapi_schema["definitions"]["SkyParameters"]
    with_unit = [entry for entry in sky["properties"].values() if entry.get("unit")]
    assert with_unit
    assert all(entry["description"].endswith(f", {entry['unit']}") for entry in with_unit)


def test_flows_are_found_by_their_modules(client: SyncPrefectClient) -> None:
    entries = {one.entrypoint for one in ours(client).values()}
    assert entries == {
        f"deployments.deployed.{name}"
        for name in (
            "nightly.nightly", "nightly.calibrations", "arrival.arrival", "reprocess.reprocess", "mosaic.mosaic",
            "housekeeping.housekeeping", "decide.decide",
        )
    }  # fmt: skip


# Runs


def test_a_run_is_created_once_for_a_key_and_shows_why(
    client: SyncPrefectClient, prefect_server: ServerAddress
) -> None:
    rest = Rest(prefect_server.api_url, prefect_server.auth)
    there = server_facts(rest, SETTINGS).deployments
    request = {"sequence": "2013-11-21.science.Y.0000000a", "label": "science Y FIELD 2013-11-21"}
    names = {
        rest.create_run(there[name], request, key="a key", tags=["new frames"], reason="9 new frames")
        for name in ("arrival", "arrival", "backlog")  # these are deployments of one flow
    }
    assert names == {"science Y FIELD 2013-11-21, waits for its turn"}
    (one,) = runs_with_keys(rest, SETTINGS, ["a key", "another"])
    assert (one.stage, one.deployment, one.request) == ("queued", "arrival", request["sequence"])
    assert one in server_facts(rest, SETTINGS).runs
    run = client.read_flow_run(UUID(one.id))
    assert run.state is not None
    assert (run.state.message, set(run.tags)) == ("9 new frames", {"nirflow", "new frames"})
    nights = {"first": "2013-11-20", "last": "2013-11-21"}
    night = rest.create_run(there["calibrations"], nights, key="b", tags=[], reason="")
    assert night == "calibrations 2013-11-20 to 2013-11-21, waits for its turn"
    (other,) = runs_with_keys(rest, SETTINGS, ["b"])
    assert other.nights == (date(2013, 11, 20), date(2013, 11, 21))
    client.pause_deployment(UUID(there["backlog"]))
    assert server_facts(rest, SETTINGS).paused == {"backlog"}
    client.resume_deployment(UUID(there["backlog"]))
    for created in (one, other):
        client.delete_flow_run(UUID(created.id))


def test_triggers_of_an_earlier_version_are_removed(client: SyncPrefectClient) -> None:
    """As a change of a deployment's content, which includes its form, always did."""
    arrival = ours(client)["arrival/arrival"]
    trigger = DeploymentEventTrigger(
        name="no new frame for 60 s (science tonight)", posture=Posture.Reactive, expect={"nirflow.frame.arrived"},
        threshold=1, parameters={"request": {"sequence": "{{ event.resource.id }}"}},
    )  # fmt: skip
    trigger.set_deployment_id(arrival.id)
    client.create_automation(trigger.as_automation())
    client.request("PATCH", f"/deployments/{arrival.id}", json={"version": "as an earlier version made it"})
    register(SETTINGS)
    assert trigger.name not in known(client)["automations"]


def test_runs_of_a_schedule_are_named_before_they_are_due(client: SyncPrefectClient) -> None:
    nightly = DeploymentFilter.model_validate({"id": {"any_": [ours(client)["nightly/nightly"].id]}})
    runs = wait_until(
        lambda: [run for run in client.read_flow_runs(deployment_filter=nightly) if run.auto_scheduled]
    )
    assert all(re.fullmatch(r"night \d{4}-\d\d-\d\d, scheduled", run.name) for run in runs)
    assert len({run.name for run in runs}) == len(runs)


def test_changed_settings_are_applied(client: SyncPrefectClient) -> None:
    """It must be the last test of the module, as the settings stay changed."""
    before = known(client)
    changed = Settings(
        worker=WorkerSettings(limit=3),
        nightly=NightlySettings(cron="30 10 * * *", timezone="Pacific/Honolulu", enabled=False),
    )
    register(changed)
    after = known(client)
    assert after["pool"][1] == 3
    ((schedule, active),) = after["deployments"]["nightly/nightly"][5]
    assert (schedule["cron"], schedule["timezone"], active) == ("30 10 * * *", "Pacific/Honolulu", False)
    assert len(after["automations"]) == len(before["automations"])
    ids = {name: values[0] for name, values in before["deployments"].items()}
    assert {name: values[0] for name, values in after["deployments"].items()} == ids
