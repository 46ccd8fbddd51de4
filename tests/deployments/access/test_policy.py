"""The permissions of the roles, and that the tables cover every route of the installed Prefect."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from deployments.access.policy import RULES, Role, judge, needed
from deployments.access.policy_bodies import ONCE, USER_LABEL, RefusedError, check_retry, strict_json

ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
CREATE = f"/api/deployments/{ID}/create_flow_run"
STATE = f"/api/flow_runs/{ID}/set_state"
READS = re.compile(
    r"/(filter|count|paginate|history|lateness|concurrency_status|counts|next-runs)$|/count-[a-z-]+(/|$)"
)


def routes(found: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Return method and path of every route of an application; a mounted one without routes is a MOUNT."""
    for route in found:
        kind = type(route).__name__
        if kind == "_IncludedRouter":
            yield from routes(route.effective_route_contexts(), prefix)
        elif kind == "_EffectiveRouteContext" and route.starlette_route is not None:
            yield from routes([route.starlette_route], prefix)
        elif kind == "Mount":
            inner = getattr(route.app, "routes", None)
            if inner is None:
                yield "MOUNT", prefix + route.path
            else:
                yield from routes(inner, prefix + route.path)
        elif "WebSocket" in kind:
            yield "WS", prefix + route.path
        else:
            yield from ((method, prefix + route.path) for method in route.methods)


@pytest.fixture(scope="module")
def installed() -> set[tuple[str, str]]:
    """Return every route of the application that the server runs."""
    from prefect.server.api.server import create_app

    return {
        one
        for one in routes(create_app(webserver_only=True, ignore_cache=True).routes)
        if one[1].startswith("/api")
    }


def test_the_tables_contain_exactly_the_routes_of_prefect(installed: set[tuple[str, str]]) -> None:
    """A new Prefect with a new route fails here; until it is in a table, only the owner may use it."""
    named = [(rule.method, rule.route) for rule in RULES]
    assert len(set(named)) == len(named)
    assert installed - set(named) == {("MOUNT", "/api/static")}
    assert set(named) - installed == set()
    assert len(installed) > 190


def test_no_path_matches_a_route_with_more_permissions_than_in_prefect() -> None:
    """If a path can match two routes, such as ``flows/{id}`` and ``flows/count``, the stricter one applies."""
    for one, other in itertools.combinations(RULES, 2):
        if one.method == other.method and one.role != other.role:
            for rule in (one, other):
                path = re.sub(r"\{\w+:uuid\}", ID, rule.route)
                path = re.sub(r"\{\w+(:str)?\}", "count", path)
                found = needed(rule.method, path)
                assert found is not None
                assert found.role >= rule.role


def test_a_viewer_only_reads(installed: set[tuple[str, str]]) -> None:
    """Independently of the table: a reading method, or a query by POST."""
    viewer = [rule for rule in RULES if rule.role is Role.VIEWER]
    assert [rule.route for rule in viewer if rule.method not in ("GET", "POST", "WS")] == []
    assert [rule.route for rule in viewer if rule.method == "POST" and not READS.search(rule.route)] == []
    assert [rule.route for rule in viewer if rule.method == "WS" and not rule.route.endswith("/out")] == []
    secret = re.compile("block|variable|setting|storage|collections|/input|templates|schemas|docs|openapi")
    assert [rule.route for rule in RULES if secret.search(rule.route) and rule.role is not Role.OWNER] == []


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/new_thing"),
        ("POST", "/api/deployments/"),
        ("POST", "/api/deployments//"),
        ("POST", "/api//flows/filter"),
        ("POST", "//api/flows/filter"),
        ("POST", "/api/flows/filter/"),
        ("POST", "/api/Flows/filter"),
        ("POST", "/API/flows/filter"),
        ("POST", "/api/flows/filter;x=1"),
        ("POST", "/api/flows/filter\n"),
        ("POST", "/api/flows/../flows/filter"),
        ("POST", "/api/flows/%66ilter"),
        ("post", "/api/flows/filter"),
        ("HEAD", "/api/flows/filter"),
        ("OPTIONS", "/api/flows/filter"),
        ("PUT", "/api/flows/filter"),
        ("TRACE", "/api/flows/filter"),
        ("GET", "/api/flows/filter"),
        ("GET", "/api/static/x.png"),
        ("GET", f"/api/block_documents/{ID}"),
        ("GET", "/api/admin/settings"),
        ("GET", "/api/collections/views/aggregate-worker-metadata"),
        ("GET", "/api/artifacts/a/b/latest"),
        ("GET", "/api/variables/name/x"),
        ("POST", "/api/events"),
        ("POST", "/api/templates/validate"),
        ("POST", "/api/ui/schemas/validate"),
        ("POST", "/api/work_pools/nirflow/get_scheduled_flow_runs"),
        ("POST", "/api/work_pools/nirflow/workers/heartbeat"),
        ("POST", f"/api/flow_runs/{ID}/resume"),
        ("POST", "/api/flow_runs/bulk_set_state"),
        ("POST", f"{CREATE}/bulk"),
        ("PATCH", f"/api/flow_runs/{ID}"),
        ("PATCH", f"/api/flow_runs/{ID}/labels"),
        ("PATCH", "/api/work_pools/nirflow"),
        ("POST", f"/api/deployments/{ID}/schedules"),
        ("DELETE", f"/api/flow_runs/{ID}"),
        ("WS", "/api/events/in"),
        ("WS", "/api/logs/in"),
        ("WS", "/api/work_pools/nirflow/workers/connect"),
        ("WS", "/api/task_runs/subscriptions/scheduled"),
        ("WS", "/api/events/out/"),
    ],
)
def test_requests_missing_from_the_table_are_refused(role: Role, method: str, path: str) -> None:
    verdict = judge(role, "ana", method, path, {})
    assert not verdict.allowed
    assert verdict.reason == f"This is for the owner; you are logged in as {role.label}."
    assert judge(Role.OWNER, "nirflow", method, path, {"a": 1}).body == {"a": 1}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", CREATE, {}),
        ("POST", STATE, {"state": {"type": "CANCELLING"}}),
        ("PATCH", f"/api/deployments/{ID}", {"paused": True}),
        ("PATCH", f"/api/deployments/{ID}/schedules/{ID}", {"active": False}),
        ("POST", f"/api/deployments/{ID}/pause_deployment", None),
        ("POST", f"/api/deployments/{ID}/resume_deployment", {}),
    ],
)
def test_an_operator_may_act_and_a_viewer_may_not(method: str, path: str, body: Any) -> None:
    assert judge(Role.OPERATOR, "ana", method, path, body).allowed
    refused = judge(Role.VIEWER, "eve", method, path, body)
    assert refused.reason == "This is for the operator and the owner; you are logged in as viewer."


@pytest.mark.parametrize("role", list(Role))
def test_every_role_may_read(role: Role) -> None:
    for method, path in (
        ("POST", "/api/flow_runs/filter"),
        ("GET", f"/api/flows/{ID}"),
        ("WS", "/api/logs/out"),
    ):
        assert judge(role, "ana", method, path, {"limit": 3}).body == {"limit": 3}


# The bodies of an operator's requests


def test_the_body_of_a_start_is_rebuilt_from_allowed_fields() -> None:
    body = {
        "name": "brave-owl", "parameters": {"request": {"first": "2013-11-21"}}, "tags": ["a"],
        "state": {"type": "SCHEDULED", "message": "Run from the UI", "state_details": {
            "scheduled_time": "2026-11-29T00:00:00+00:00", "deferred": None}},
        "idempotency_key": "k", "enforce_parameter_schema": True, "job_variables": {}, "work_queue_name": None,
        "context": {}, "infrastructure_document_id": None, "parent_task_run_id": None,
        "empirical_policy": {"retries": None, "retry_delay": None, "pause_keys": [], "resuming": False},
    }  # fmt: skip
    assert judge(Role.OPERATOR, "ana", "POST", CREATE, body).body == {
        "name": "brave-owl", "parameters": {"request": {"first": "2013-11-21"}}, "tags": ["a"],
        "state": {"type": "SCHEDULED", "message": "Run from the UI", "state_details": {
            "scheduled_time": "2026-11-29T00:00:00+00:00"}},
        "idempotency_key": "ana: k", "enforce_parameter_schema": True, "labels": {USER_LABEL: "ana"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"job_variables": {"command": "sh"}}, "cannot set job_variables"),
        ({"job_variables": {"env": {"A": "b"}}}, "cannot set job_variables"),
        ({"infrastructure_document_id": ID}, "cannot set infrastructure_document_id"),
        ({"labels": {USER_LABEL: "owner"}}, "cannot set labels"),
        ({"context": {"a": 1}}, "cannot set context"),
        ({"empirical_policy": {"retries": 9}}, "cannot set empirical_policy"),
        ({"entrypoint": "x.py:f"}, "cannot set entrypoint"),
        ({"enforce_parameter_schema": False}, "cannot switch off the validation"),
        ({"parent_task_run_id": ID}, "cannot set parent_task_run_id"),
        ({"parameters": {"a": {"__prefect_kind": "jinja", "template": "{{ 1 }}"}}}, "templates and variables"),
        ({"parameters": {"a": {"__prefect_kind": "workspace_variable", "variable_name": "v"}}}, "templates and var"),
        ({"parameters": {"a": {"__prefect_kind": "new", "value": 1}}}, "templates and variables"),
        ({"parameters": {"a": {"$ref": {"block_document_id": ID}}}}, r"'\$ref'"),
        ({"parameters": {"a": {"__prefect_kind": "json", "value": '{"$ref": {"block_document_id": 1}}'}}}, r"'\$ref'"),
        ({"parameters": {"a": [{"__prefect_kind": "none", "value": {"$ref": 1}}]}}, r"'\$ref'"),
        ({"parameters": {"a": {"__prefect_kind": "json", "value": {"__prefect_kind": "jinja"}}}}, "templates and var"),
        ({"parameters": {"__prefect_kind": "json", "value": "[1]"}}, "Parameters are a table"),
        ({"parameters": {"a": {"__class__": 1}}}, "'__class__'"),
        ({"parameters": [1]}, "Parameters are a table"),
        ({"state": {"type": "RUNNING"}}, "must begin in the state Scheduled"),
        ({"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}}, "must begin in the state Scheduled"),
        ({"state": {"type": "SCHEDULED", "data": {"type": "reference"}}}, "cannot set data"),
        ({"state": {"type": "SCHEDULED", "state_details": {"flow_run_id": ID}}}, "cannot set flow_run_id"),
        ({"state": {"type": "SCHEDULED", "state_details": {"scheduled_time": "never"}}}, "scheduled time is invalid"),
        ({"name": "a\nb"}, "name must be a text"),
        ({"name": "a" * 201}, "name must be a text"),
        ({"tags": ["a"] * 21}, "at most 20"),
        ({"tags": "auto"}, "Tags must be a list"),
        ({"tags": [{"a": 1}]}, "tags must be a text"),
        ([], "not a table"),
        ("x", "not a table"),
    ],
)  # fmt: skip
def test_a_start_with_other_fields_is_refused(body: Any, message: str) -> None:
    verdict = judge(Role.OPERATOR, "ana", "POST", CREATE, body)
    assert not verdict.allowed
    assert re.search(message, verdict.reason)
    assert verdict.reason.endswith("This is for the owner; you are logged in as operator.")


def test_the_values_of_a_form_are_unwrapped() -> None:
    wrapped = {
        "request": {
            "__prefect_kind": "none",
            "value": {
                "a": {"__prefect_kind": "json", "value": '{"b": [1, null]}'},
                "c": {"__prefect_kind": "json"},
            },
        }
    }
    made = judge(Role.OPERATOR, "ana", "POST", CREATE, {"parameters": wrapped}).body
    assert made["parameters"] == {"request": {"a": {"b": [1, None]}}}


def test_deeply_nested_parameters_are_refused() -> None:
    deep: Any = 1
    for _ in range(100):
        deep = {"a": deep}
    assert "too deeply" in judge(Role.OPERATOR, "ana", "POST", CREATE, {"parameters": deep}).reason
    text = '{"__prefect_kind":"json","value":' * 5 + "1" + "}" * 5
    for _ in range(3):
        text = json.dumps({"__prefect_kind": "json", "value": text})
    assert judge(Role.OPERATOR, "ana", "POST", CREATE, {"parameters": {"a": json.loads(text)}}).allowed


@pytest.mark.parametrize(
    ("body", "made"),
    [
        (
            {"state": {"type": "cancelling", "name": "Cancelling"}, "force": True},
            {
                "state": {"type": "CANCELLING", "name": "Cancelling", "message": "Cancelled by ana"},
                "force": False,
            },
        ),
        (
            {"state": {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}},
            {
                "state": {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retried by ana"},
                "force": False,
            },
        ),
    ],
)
def test_a_run_is_cancelled_and_retried_according_to_the_rules(body: Any, made: Any) -> None:
    verdict = judge(Role.OPERATOR, "ana", "POST", STATE, body)
    assert verdict.body == made
    assert verdict.retry is (made["state"]["name"] == "AwaitingRetry")


@pytest.mark.parametrize(
    ("run", "flow", "message"),
    [
        ({"state_type": "FAILED", "run_count": 1}, {"name": "nightly"}, None),
        ({"state_type": "CANCELLED", "run_count": 2}, {"name": "nightly"}, None),
        ({"state_type": "CANCELLED", "run_count": 0}, {"name": "nightly"}, "never began"),
        ({"state_type": "SCHEDULED", "run_count": 0}, {"name": "nightly"}, "after it has ended"),
        ({"state_type": "SCHEDULED", "run_count": 1}, {"name": "nightly"}, "after it has ended"),
        ({"state_type": "RUNNING", "run_count": 1}, {"name": "nightly"}, "after it has ended"),
        ({"state_type": None, "run_count": 0}, {"name": "nightly"}, "after it has ended"),
        ({"state_type": "COMPLETED", "run_count": 1}, {"name": "decide"}, "a run of decide"),
        (None, None, "run to retry does not exist"),
    ],
)
def test_a_run_is_retried_only_if_it_began_and_ended(run: Any, flow: Any, message: str | None) -> None:
    if message is None:
        check_retry(run, flow)
    else:
        with pytest.raises(RefusedError, match=message):
            check_retry(run, flow)


def test_a_flow_that_acts_in_the_name_of_a_user_is_not_retried() -> None:
    from deployments.deployed.decide import decide

    assert {decide.name} == ONCE


@pytest.mark.parametrize(
    "body",
    [
        {"state": {"type": "COMPLETED"}},
        {"state": {"type": "COMPLETED", "data": {"type": "reference", "storage_key": "/tmp/x"}}},
        {"state": {"type": "CANCELLING", "data": {"type": "reference"}}},
        {"state": {"type": "CANCELLING", "name": "Cancelled"}},
        {"state": {"type": "SCHEDULED"}},
        {"state": {"type": "SCHEDULED", "name": "AwaitingRetry", "state_details": {"flow_run_id": ID}}},
        {"state": {"type": "RUNNING"}},
        {"state": {"type": ["CANCELLING"]}},
        {"state": "CANCELLING"},
        {"state": {"type": "CANCELLING"}, "more": 1},
        {},
        None,
    ],
)
def test_a_run_cannot_be_put_into_another_state(body: Any) -> None:
    assert not judge(Role.OPERATOR, "ana", "POST", STATE, body).allowed


@pytest.mark.parametrize(
    "body",
    [
        {"paused": 1},
        {"paused": "true"},
        {},
        None,
        {"paused": True, "parameters": {"a": 1}},
        {"paused": True, "job_variables": {"command": "sh"}},
        {"work_pool_name": "p"},
    ],
)
def test_a_deployment_can_only_be_paused_or_resumed(body: Any) -> None:
    assert not judge(Role.OPERATOR, "ana", "PATCH", f"/api/deployments/{ID}", body).allowed


def test_fields_that_the_ui_repeats_must_be_unchanged() -> None:
    queue = judge(Role.OPERATOR, "ana", "POST", CREATE, {"work_queue_name": "nights"})
    assert (queue.allowed, queue.same) == (True, {"work_queue_name": "nights"})
    assert "work_queue_name" not in queue.body
    path = f"/api/deployments/{ID}/schedules/{ID}"
    schedule = judge(Role.OPERATOR, "ana", "PATCH", path, {"active": True, "schedule": {"cron": "* * * * *"}})
    assert (schedule.body, schedule.same) == ({"active": True}, {"schedule": {"cron": "* * * * *"}})
    assert judge(Role.OPERATOR, "ana", "POST", "/api/flow_runs/filter", {"schedule": 1}).same == {}


def test_a_schedule_can_only_be_switched_on_or_off() -> None:
    path = f"/api/deployments/{ID}/schedules/{ID}"
    made = judge(Role.OPERATOR, "ana", "PATCH", path, {"active": False, "slug": None})
    assert made.body == {"active": False}
    for more in ({"job_variables": {"a": 1}}, {"parameters": {"a": 1}}):
        assert not judge(Role.OPERATOR, "ana", "PATCH", path, {"active": True, **more}).allowed


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}', "{'a': 1}", "[NaN]", "[1e999]", "[-Infinity]", "[" * 100_000, "", "1" * 5000, "{} {}",
        "\ufeff{}",
    ],
)  # fmt: skip
def test_ambiguous_json_is_refused(text: str) -> None:
    with pytest.raises(RefusedError):
        strict_json(text)
