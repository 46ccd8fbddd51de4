"""The permissions of viewers and operators on a running observatory, which include no command.

The tests continue from each other: everything started, darks added, decisions about them.
"""

from __future__ import annotations

import base64
import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from browser import browser_page
from service_up import Service
from waiting import PATIENCE, wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from deployments.access.policy import RULES, Role
from imaging.simulator.parameters import NightParameters
from imaging.simulator.simulate import simulate_night

pytestmark = pytest.mark.long

NOBODY = "0f8fad5b-d9cb-469f-a165-70867728950e"
FEW: dict[str, Any] = {
    "size": 384, "n_science": 0, "n_darks": 4, "n_short_darks": 0, "n_lamp_on": 0, "n_lamp_off": 0,
}  # fmt: skip


class User:
    """A client with the password of a role."""

    def __init__(self, service: Service, role: str) -> None:
        reported = json.loads(service.nirflow("server", "login", "--role", role, "--json"))
        self.link: str = reported["link"]
        self.auth = f"{reported['user']}:{reported['password']}"
        self.url: str = service.state["ui_url"]

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Return status and content of a response of the API."""
        credentials = base64.b64encode(self.auth.encode()).decode()
        given = {"Content-Type": "application/json", "Authorization": f"Basic {credentials}", **headers}
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, given, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read()
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text

    def socket(self, path: str, token: str | None = None) -> dict[str, Any]:
        """Return the server's reply to the first message on a socket, or code and reason if it closes it."""
        url = self.url.replace("http", "ws", 1) + path
        with connect(url, subprotocols=["prefect"], open_timeout=PATIENCE, close_timeout=PATIENCE) as one:  # type: ignore[list-item]
            one.send(json.dumps({"type": "auth", "token": self.auth if token is None else token}))
            try:
                answer: dict[str, Any] = json.loads(one.recv(timeout=PATIENCE))
            except ConnectionClosed:
                return {"code": one.close_code, "reason": one.close_reason}
            return answer

    def deployment(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", f"/api/deployments/name/{name}")[1]
        return found

    def start(self, name: str, **request: Any) -> str:
        """Start a deployment and return the id of its run."""
        path = f"/api/deployments/{self.deployment(name)['id']}/create_flow_run"
        status, made = self.ask(
            "POST", path, {"parameters": {"request": request}, "state": {"type": "SCHEDULED"}}
        )
        assert status == 201, made
        return str(made["id"])


@pytest.fixture(scope="module")
def viewer(service: Service) -> User:
    return User(service, "viewer")


@pytest.fixture(scope="module")
def operator(service: Service) -> User:
    return User(service, "operator")


@pytest.fixture(scope="module")
def owner(service: Service) -> User:
    return User(service, "owner")


@pytest.fixture(scope="module", autouse=True)
def _reduced(service: Service, operator: User, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let darks arrive and the operator reduce the night."""
    folder = tmp_path_factory.mktemp("night")
    simulate_night(folder, NightParameters(**FEW, seed=7))
    service.drop(sorted(folder.glob("*.fits")))
    service.idle()
    ended = service.ended(operator.start("nightly/nightly", first="2013-11-20", last="2013-11-21"))
    assert ended["state_type"] == "COMPLETED", ended["state"]
    assert ended["labels"]["nirflow.user"] == "operator"


def known(owner: User) -> dict[str, Any]:
    """Return everything that a user could change, except runs and their records."""
    found = {
        name: owner.ask("POST", f"/api/{name}/filter", {})[1]
        for name in ("flows", "deployments", "automations", "work_pools", "work_queues", "variables",
                     "block_documents", "concurrency_limits", "v2/concurrency_limits", "saved_searches")
    }  # fmt: skip
    moving = {"updated", "last_polled", "status", "work_queue"}
    return {
        name: [{key: value for key, value in one.items() if key not in moving} for one in many]
        for name, many in found.items()
    }


def number_of_runs(owner: User) -> int:
    manual = {"flow_runs": {"tags": {"is_null_": None}}}
    count: int = owner.ask("POST", "/api/flow_runs/count", manual)[1]
    return count


def path_of(route: str, ids: dict[str, str]) -> str:
    """Return a path that matches a route, with the id of an existing object if possible."""
    for part, value in ids.items():
        if route.startswith(part):
            route = re.sub(r"\{id:uuid\}", value, route)
    route = re.sub(r"\{\w+:uuid\}", NOBODY, route)
    return re.sub(
        r"\{(work_pool_)?name\}", "nirflow", re.sub(r"\{(?!work_pool_name|name)\w+(:str)?\}", "x", route)
    )


@pytest.fixture(scope="module")
def ids(owner: User) -> dict[str, str]:
    reduced = {
        "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
        "deployments": {"name": {"any_": ["nightly"]}},
    }
    runs = owner.ask("POST", "/api/flow_runs/filter", reduced)[1]
    nightly = owner.deployment("nightly/nightly")
    return {
        "/api/flow_runs/": runs[0]["id"],
        "/api/deployments/": nightly["id"],
        "/api/flows/": nightly["flow_id"],
        "/api/automations/": owner.ask("POST", "/api/automations/filter", {})[1][0]["id"],
    }


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_every_route_that_is_not_a_role_s_is_refused_and_changes_nothing(
    request: pytest.FixtureRequest, owner: User, ids: dict[str, str], role: Role
) -> None:
    user: User = request.getfixturevalue(role.label)
    before = known(owner)
    for rule in RULES:
        if rule.role <= role:
            continue
        path = path_of(rule.route, ids)
        if rule.method == "WS":
            assert user.socket(path)["code"] == 4403, rule.route
        elif rule.route not in ("/api/admin/settings", "/api/ui/schemas/validate"):
            status, answer = user.ask(rule.method, path, None if rule.method in ("GET", "HEAD") else {})
            assert status == 403, (rule.method, rule.route, status, answer)
            assert rule.method == "HEAD" or f"you are logged in as {role.label}" in answer["detail"]
    assert known(owner) == before


def test_a_viewer_reads_all_that_the_ui_reads(viewer: User, owner: User, ids: dict[str, str]) -> None:
    """Every route of the table gives the same response as to the owner."""
    bodies = {
        "/api/flow_runs/history": {"history_start": "2026-01-01T00:00:00Z", "history_end": "2026-01-02T00:00:00Z",
                                   "history_interval_seconds": 3600},
        "/api/ui/flow_runs/count-task-runs": {"flow_run_ids": [ids["/api/flow_runs/"]]},
        "/api/ui/flows/count-deployments": {"flow_ids": [ids["/api/flows/"]]},
        "/api/ui/flows/next-runs": {"flow_ids": [ids["/api/flows/"]]},
    }  # fmt: skip
    answered = 0
    for rule in RULES:
        if rule.role is not Role.VIEWER or rule.method == "WS":
            continue
        path = path_of(rule.route, ids)
        body = bodies.get(rule.route, {}) if rule.method == "POST" else None
        status, _ = viewer.ask(rule.method, path, body)
        assert status == owner.ask(rule.method, path, body)[0], (rule.method, rule.route)
        assert status not in (401, 403, 500), (rule.method, rule.route, status)
        answered += status == 200
    assert answered > 50
    for path in ("/api/events/out", "/api/logs/out"):
        assert viewer.socket(path) == {"type": "auth_success"}
        assert viewer.socket(path, token="viewer:wrong")["code"] == 1008


def test_an_operator_pauses_and_resumes(operator: User, ids: dict[str, str]) -> None:
    path = f"/api/deployments/{ids['/api/deployments/']}"
    (schedule,) = operator.ask("GET", f"{path}/schedules")[1]
    for active in (False, True):
        body = {"slug": None, "active": active, "schedule": schedule["schedule"], "parameters": {}}
        assert operator.ask("PATCH", f"{path}/schedules/{schedule['id']}", body)[0] == 204
        assert operator.ask("GET", f"{path}/schedules")[1] == [
            schedule
            | {"active": active, "updated": operator.ask("GET", f"{path}/schedules")[1][0]["updated"]}
        ]
        assert operator.ask("PATCH", path, {"paused": not active})[0] == 204
        assert operator.ask("GET", path)[1]["paused"] is not active
    changed = {"active": True, "schedule": {"cron": "* * * * *"}}
    status, answer = operator.ask("PATCH", f"{path}/schedules/{schedule['id']}", changed)
    assert (status, answer["detail"]) == (
        403, "An operator cannot change schedule. This is for the owner; you are logged in as operator.",
    )  # fmt: skip


def test_an_operator_cancels_and_retries(service: Service, operator: User) -> None:
    run = operator.start("housekeeping/housekeeping")
    cancel = {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": True}
    path = f"/api/flow_runs/{run}/set_state"
    assert operator.ask("POST", path, cancel)[0] == 201
    assert service.ended(run)["state_type"] == "CANCELLED"
    failed = operator.start("reprocess/reprocess", affected_by="nothing.fits")
    assert service.ended(failed)["state_type"] == "FAILED"
    retry = {
        "state": {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"},
        "force": False,
    }
    assert operator.ask("POST", f"/api/flow_runs/{failed}/set_state", retry)[0] == 201
    again = wait_until(
        lambda: next(iter(r for r in [service.get(f"/flow_runs/{failed}")] if r["run_count"] == 2), None)
    )
    assert again is not None


def test_an_operator_decides_under_the_own_name(service: Service, operator: User, viewer: User) -> None:
    (dark,) = json.loads(service.nirflow("cal", "list", "--kind", "dark", "--json"))
    name = dark["name"]

    def history() -> list[tuple[str, str, str]]:
        shown = json.loads(service.nirflow("cal", "show", name, "--json"))
        return [(one["status"], one["author"], one["reason"]) for one in shown["history"]]

    for decision, status in (("certify", "certified"), ("reject", "rejected"), ("reinstate", "candidate")):
        run = operator.start("decide/decide", decision=decision, product=name, reason=f"to {decision}")
        assert service.ended(run)["state_type"] == "COMPLETED"
        assert history()[-1] == (status, "operator", f"to {decision}")
    retry = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}}
    before = history()
    assert operator.ask("POST", f"/api/flow_runs/{run}/set_state", retry)[0] == 403
    deployment = viewer.deployment("decide/decide")["id"]
    asked = {"parameters": {"request": {"decision": "reject", "product": name, "reason": "x"}}}
    later = {"state": {"type": "SCHEDULED", "state_details": {"scheduled_time": "2099-01-01T00:00:00+00:00"}}}
    owners = service.post(f"/deployments/{deployment}/create_flow_run", asked | later)["id"]
    assert operator.ask("POST", f"/api/flow_runs/{owners}/set_state", retry)[0] == 403
    service.post(f"/flow_runs/{owners}/set_state", {"state": {"type": "CANCELLED"}, "force": True})
    assert operator.ask("POST", f"/api/flow_runs/{owners}/set_state", retry)[0] == 403
    service.idle()
    assert history() == before
    assert viewer.ask("POST", f"/api/deployments/{deployment}/create_flow_run", asked)[0] == 403
    forged = asked | {"labels": {"nirflow.user": "owner"}}
    assert operator.ask("POST", f"/api/deployments/{deployment}/create_flow_run", forged)[0] == 403


def test_an_operator_cannot_run_a_command(
    service: Service, operator: User, owner: User, ids: dict[str, str], tmp_path: Path
) -> None:
    canary = tmp_path / "ran"
    command = f"touch {canary}"
    deployment, flow = ids["/api/deployments/"], ids["/api/flows/"]
    create, run = f"/api/deployments/{deployment}/create_flow_run", ids["/api/flow_runs/"]
    variables = {"job_variables": {"command": command}}
    before, runs = known(owner), number_of_runs(owner)
    new = {"name": "mine", "flow_id": flow, "work_pool_name": "nirflow", "schedules": [
        {"schedule": {"interval": 1}, "active": True}], **variables}  # fmt: skip
    state = {"type": "COMPLETED", "data": {"type": "reference", "storage_key": str(canary), "serializer": {
        "type": "pickle"}, "expiration": None, "storage_block_id": None}}  # fmt: skip
    trigger = {"type": "event", "posture": "Reactive", "expect": ["*"], "threshold": 1}
    action = {"type": "run-deployment", "source": "selected", "deployment_id": deployment, **variables}
    attempts: list[tuple[str, str, Any]] = [
        ("POST", "/api/deployments/", new),
        ("POST", "/api/deployments", new),
        ("POST", "/api/deployments//", new),
        ("POST", "//api/deployments/", new),
        ("POST", "/api/x/../deployments/", new),
        ("POST", "/api/%2e/deployments/", new),
        ("POST", "/api/deployments/%2f", new),
        ("POST", "/API/deployments/", new),
        ("POST", "/api/deployments/;x", new),
        ("POST", "/api/deployments/?x=/api/flows/filter", new),
        ("POST", create, variables),
        ("POST", create, {"job_variables": {"env": {"LD_PRELOAD": "/tmp/x"}}}),
        (
            "POST",
            create,
            json.dumps({}).encode()[:-1] + b'"job_variables": {"command": "%s"}}' % command.encode(),
        ),
        ("POST", create, b'{"job_variables": {}, "job_variables": {"command": "%s"}}' % command.encode()),
        ("POST", create, json.dumps(variables).encode("utf-16")),
        ("POST", create, json.dumps(variables).encode("utf-8-sig")),
        ("POST", create, {"infrastructure_document_id": NOBODY}),
        ("POST", create, {"work_queue_name": "other"}),
        ("POST", create, {"enforce_parameter_schema": False, "parameters": {"request": {"x": 1}}}),
        ("POST", create, {"parameters": {"request": {"$ref": {"block_document_id": NOBODY}}}}),
        ("POST", create, {"parameters": {"request": {"__prefect_kind": "jinja", "template": "{{ 1 }}"}}}),
        ("POST", create, {"parameters": {"request": {"__prefect_kind": "json", "value": '{"$ref": 1}'}}}),
        ("POST", create, {"state": state}),
        ("POST", f"{create}/bulk", [variables]),
        ("PATCH", f"/api/deployments/{deployment}", {"paused": False, **variables}),
        ("PATCH", f"/api/deployments/{deployment}", {"work_pool_name": "mine"}),
        ("PATCH", f"/api/deployments/{deployment}", {"entrypoint": "/tmp/x.py:f", "path": "/tmp"}),
        ("POST", f"/api/deployments/{deployment}/schedules", [{"schedule": {"interval": 1}, **variables}]),
        ("POST", "/api/flow_runs/", {"flow_id": flow, **variables}),
        ("PATCH", f"/api/flow_runs/{run}", variables),
        ("POST", f"/api/flow_runs/{run}/set_state", {"state": state, "force": True}),
        ("POST", "/api/flow_runs/bulk_set_state", {"flow_run_ids": [run], "state": state}),
        ("PATCH", f"/api/flow_runs/{run}/labels", {"nirflow.user": "owner"}),
        ("POST", "/api/work_pools/", {"name": "mine", "type": "process"}),
        (
            "PATCH",
            "/api/work_pools/nirflow",
            {"base_job_template": {"job_configuration": {"command": command}}},
        ),
        ("POST", "/api/automations/", {"name": "mine", "trigger": trigger, "actions": [action]}),
        ("PATCH", f"/api/automations/{ids['/api/automations/']}", {"enabled": False}),
        (
            "POST",
            "/api/events",
            [{"event": "nirflow.sequence.complete", "resource": {"prefect.resource.id": "x"}}],
        ),
        ("POST", "/api/variables/", {"name": "mine", "value": command}),
        ("POST", "/api/block_documents/", {"data": {}}),
        ("POST", "/api/templates/validate", "{{ 1 }}"),
    ]
    for method, path, body in attempts:
        status, answer = operator.ask(method, path, body)
        assert status in (400, 403, 404, 405), (method, path, body, status, answer)
    forms = {"Content-Type": "application/x-www-form-urlencoded"}
    assert operator.ask("POST", create, json.dumps(variables).encode(), **forms)[0] == 403
    overridden = {
        "X-HTTP-Method-Override": "POST",
        "X-Original-URL": "/api/deployments/",
        "X-Forwarded-Prefix": "/api",
    }
    assert operator.ask("POST", "/api/flows/filter", {}, **overridden)[0] == 200
    for path in (
        "/api/events/in",
        "/api/work_pools/nirflow/workers/connect",
        "/api/task_runs/subscriptions/scheduled",
    ):
        assert operator.socket(path)["code"] == 4403
    service.idle()
    assert not canary.exists()
    assert known(owner) == before
    assert number_of_runs(owner) == runs


def test_a_revoked_password_is_rejected(service: Service, viewer: User) -> None:
    assert viewer.ask("GET", "/api/admin/version")[0] == 200
    service.nirflow("server", "revoke", "--role", "viewer")
    assert viewer.ask("GET", "/api/admin/version")[0] == 401
    service.nirflow("server", "revoke", "--role", "viewer", code=3)
    new = User(service, "viewer")
    assert new.auth != viewer.auth
    assert new.ask("GET", "/api/admin/version")[0] == 200
    viewer.auth, viewer.link = new.auth, new.link


def test_the_ui_is_complete_for_a_viewer(
    service: Service, viewer: User, ids: dict[str, str], tmp_path: Path
) -> None:
    url, run, deployment = viewer.url, ids["/api/flow_runs/"], ids["/api/deployments/"]
    with browser_page(tmp_path / "profile") as page:
        page.open(viewer.link)
        page.wait_for("location.pathname === '/dashboard'")
        shown = {
            "/dashboard": "Flow Runs", "/runs": "Flow runs", "/deployments": "decide",
            f"/runs/flow-run/{run}?tab=Logs": "nirflow", f"/runs/flow-run/{run}?tab=Artifacts": "Artifacts",
            f"/deployments/deployment/{deployment}": "nightly", "/artifacts": "dark", "/automations": "nirflow",
            "/nights/": "2013-11-20", "/nights/2013-11-20/": "Night of", "/store/": "certified",
        }  # fmt: skip
        for path, expected in shown.items():
            page.failed.clear()
            page.open(url + path)
            page.wait_for(f"document.body && document.body.innerText.includes({json.dumps(expected)})")
            page.text()
            # Prefect's own: an icon without a name, and the one for which a browser asks before it has read the page.
            icons = ("/ico/", "/favicon.ico")
            assert [one for one in page.failed if not any(icon in one[0] for icon in icons)] == [], path
        assert page.errors == []
        page.open(f"{url}/deployments/deployment/{deployment}")
        page.wait_for("[...document.querySelectorAll('button')].some(one => one.innerText.trim() === 'Run')")
        for button in ("Run", "Quick run"):
            found = f"[...document.querySelectorAll('button, a')].find(one => one.innerText.trim() === '{button}')"
            page.wait_for(f"!!({found})")
            page.evaluate(f"{found}.click()")
        message = "This is for the operator and the owner; you are logged in as viewer."
        page.wait_for(f"document.body.innerText.includes({json.dumps(message)})")
