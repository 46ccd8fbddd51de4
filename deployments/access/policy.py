"""Which requests each role may make of the Prefect server: a table of routes, and a decision without side effects.

A request whose route is missing from a role's table is refused. A route that a new version of Prefect adds is in no
table, so only the owner may use it until it has been reviewed; a test compares the tables with the routes of the
installed Prefect.

Routes are in Prefect's notation, with ``{id:uuid}`` for an id and ``{name}`` for one part of a path; ``WS`` stands for
a WebSocket.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from deployments.access import policy_bodies as bodies
from deployments.access.policy_bodies import RefusedError, is_blank


class Role(IntEnum):
    """A role of clients. Each includes the permissions of the role before it."""

    VIEWER = 1
    OPERATOR = 2
    OWNER = 3

    @property
    def label(self) -> str:
        """The name in messages and commands."""
        return self.name.lower()


@dataclass(frozen=True)
class Verdict:
    """The decision on a request.

    Attributes
    ----------
    reason
        Why it is refused; empty if it is allowed.
    body
        Body to forward instead of the original; None if it is empty.
    same
        Further fields of the deployment, or of its schedule, in the body. They may not be changed, so the request is
        allowed only if Prefect has the same values.
    retry
        The request retries the run in the path: it is allowed only if `policy_bodies.check_retry` permits it.
    """

    reason: str = ""
    body: Any = None
    same: Mapping[str, Any] = field(default_factory=dict)
    retry: bool = False

    @property
    def allowed(self) -> bool:
        """Whether the request is allowed."""
        return not self.reason


#: Reads. Prefect's UI uses POST for most of its queries.
_VIEWER: Final = """
GET   /api/version
GET   /api/hello
GET   /api/health
GET   /api/ready
GET   /api/csrf-token
GET   /api/admin/version
GET   /api/flows/name/{name}
GET   /api/flows/{id:uuid}
POST  /api/flows/count
POST  /api/flows/filter
POST  /api/flows/paginate
GET   /api/flow_runs/{id:uuid}
GET   /api/flow_runs/{id:uuid}/graph
GET   /api/flow_runs/{id:uuid}/graph-v2
GET   /api/flow_runs/{id:uuid}/logs/download
POST  /api/flow_runs/count
POST  /api/flow_runs/filter
POST  /api/flow_runs/history
POST  /api/flow_runs/lateness
POST  /api/flow_runs/paginate
GET   /api/flow_run_states/
GET   /api/flow_run_states/{id:uuid}
GET   /api/task_runs/{id:uuid}
POST  /api/task_runs/count
POST  /api/task_runs/filter
POST  /api/task_runs/history
POST  /api/task_runs/paginate
GET   /api/task_run_states/
GET   /api/task_run_states/{id:uuid}
GET   /api/deployments/name/{flow_name}/{deployment_name}
GET   /api/deployments/{id:uuid}
GET   /api/deployments/{id:uuid}/schedules
GET   /api/deployments/{id:uuid}/work_queue_check
POST  /api/deployments/count
POST  /api/deployments/filter
POST  /api/deployments/paginate
GET   /api/work_pools/{name}
GET   /api/work_pools/{work_pool_name}/queues/{name}
POST  /api/work_pools/count
POST  /api/work_pools/filter
POST  /api/work_pools/{name}/concurrency_status
POST  /api/work_pools/{work_pool_name}/queues/filter
POST  /api/work_pools/{work_pool_name}/workers/filter
GET   /api/work_queues/name/{name}
GET   /api/work_queues/{id:uuid}
GET   /api/work_queues/{id:uuid}/status
POST  /api/work_queues/filter
POST  /api/work_queues/{id:uuid}/concurrency_status
POST  /api/task_workers/filter
POST  /api/logs/filter
GET   /api/artifacts/{id:uuid}
GET   /api/artifacts/{key}/latest
POST  /api/artifacts/count
POST  /api/artifacts/filter
POST  /api/artifacts/latest/count
POST  /api/artifacts/latest/filter
GET   /api/automations/{id:uuid}
GET   /api/automations/related-to/{resource_id:str}
POST  /api/automations/count
POST  /api/automations/filter
POST  /api/concurrency_limits/filter
POST  /api/v2/concurrency_limits/filter
GET   /api/events/filter/next
POST  /api/events/filter
POST  /api/events/count-by/{countable}
GET   /api/saved_searches/{id:uuid}
POST  /api/saved_searches/filter
POST  /api/ui/flow_runs/count-task-runs
POST  /api/ui/flow_runs/history
POST  /api/ui/flows/count-deployments
POST  /api/ui/flows/next-runs
GET   /api/ui/task_runs/{id:uuid}
POST  /api/ui/task_runs/count
POST  /api/ui/task_runs/dashboard/counts
WS    /api/events/out
WS    /api/logs/out
"""

#: What only operators and the owner may do, each route with the check of its body.
_OPERATOR: Final[dict[str, bodies.Check]] = {
    "POST /api/deployments/{id:uuid}/create_flow_run": bodies.start,
    "POST /api/deployments/{id:uuid}/pause_deployment": bodies.nothing,
    "POST /api/deployments/{id:uuid}/resume_deployment": bodies.nothing,
    "PATCH /api/deployments/{id:uuid}": bodies.pause,
    "PATCH /api/deployments/{id:uuid}/schedules/{schedule_id:uuid}": bodies.switch,
    "POST /api/flow_runs/{id:uuid}/set_state": bodies.cancel_or_retry,
}

#: For the owner only: it changes what runs, may contain secrets, or is for workers and clients of the pipeline.
_OWNER: Final = """
POST    /api/flows/
PATCH   /api/flows/{id:uuid}
DELETE  /api/flows/{id:uuid}
POST    /api/flows/bulk_delete
POST    /api/flow_runs/
PATCH   /api/flow_runs/{id:uuid}
DELETE  /api/flow_runs/{id:uuid}
POST    /api/flow_runs/bulk_delete
POST    /api/flow_runs/bulk_set_state
POST    /api/flow_runs/{id:uuid}/resume
POST    /api/flow_runs/{id:uuid}/input
POST    /api/flow_runs/{id:uuid}/input/filter
GET     /api/flow_runs/{id:uuid}/input/{key}
DELETE  /api/flow_runs/{id:uuid}/input/{key}
PATCH   /api/flow_runs/{id:uuid}/labels
POST    /api/task_runs/
PATCH   /api/task_runs/{id:uuid}
DELETE  /api/task_runs/{id:uuid}
POST    /api/task_runs/{id:uuid}/set_state
WS      /api/task_runs/subscriptions/scheduled
POST    /api/deployments/
DELETE  /api/deployments/{id:uuid}
POST    /api/deployments/bulk_delete
POST    /api/deployments/get_scheduled_flow_runs
POST    /api/deployments/{id:uuid}/schedule
POST    /api/deployments/{id:uuid}/schedules
DELETE  /api/deployments/{id:uuid}/schedules/{schedule_id:uuid}
POST    /api/deployments/{id:uuid}/create_flow_run/bulk
PUT     /api/saved_searches/
DELETE  /api/saved_searches/{id:uuid}
POST    /api/logs/
POST    /api/concurrency_limits/
GET     /api/concurrency_limits/{id:uuid}
DELETE  /api/concurrency_limits/{id:uuid}
GET     /api/concurrency_limits/tag/{tag}
DELETE  /api/concurrency_limits/tag/{tag}
POST    /api/concurrency_limits/tag/{tag}/reset
POST    /api/concurrency_limits/increment
POST    /api/concurrency_limits/decrement
POST    /api/v2/concurrency_limits/
GET     /api/v2/concurrency_limits/{id_or_name}
PATCH   /api/v2/concurrency_limits/{id_or_name}
DELETE  /api/v2/concurrency_limits/{id_or_name}
POST    /api/v2/concurrency_limits/increment
POST    /api/v2/concurrency_limits/increment-with-lease
POST    /api/v2/concurrency_limits/decrement
POST    /api/v2/concurrency_limits/decrement-with-lease
POST    /api/v2/concurrency_limits/leases/{lease_id}/renew
POST    /api/block_types/
GET     /api/block_types/{id:uuid}
PATCH   /api/block_types/{id:uuid}
DELETE  /api/block_types/{id:uuid}
POST    /api/block_types/filter
POST    /api/block_types/install_system_block_types
GET     /api/block_types/slug/{slug}
GET     /api/block_types/slug/{slug}/block_documents
GET     /api/block_types/slug/{slug}/block_documents/name/{block_document_name}
POST    /api/block_documents/
GET     /api/block_documents/{id:uuid}
PATCH   /api/block_documents/{id:uuid}
DELETE  /api/block_documents/{id:uuid}
POST    /api/block_documents/count
POST    /api/block_documents/filter
POST    /api/block_schemas/
GET     /api/block_schemas/{id:uuid}
DELETE  /api/block_schemas/{id:uuid}
POST    /api/block_schemas/filter
GET     /api/block_schemas/checksum/{checksum}
GET     /api/block_capabilities/
GET     /api/collections/views/{view}
POST    /api/variables/
GET     /api/variables/{id:uuid}
PATCH   /api/variables/{id:uuid}
DELETE  /api/variables/{id:uuid}
POST    /api/variables/count
POST    /api/variables/filter
GET     /api/variables/name/{name:str}
PATCH   /api/variables/name/{name:str}
DELETE  /api/variables/name/{name:str}
POST    /api/work_pools/
PATCH   /api/work_pools/{name}
DELETE  /api/work_pools/{name}
POST    /api/work_pools/{name}/get_scheduled_flow_runs
POST    /api/work_pools/{work_pool_name}/queues
PATCH   /api/work_pools/{work_pool_name}/queues/{name}
DELETE  /api/work_pools/{work_pool_name}/queues/{name}
POST    /api/work_pools/{work_pool_name}/workers/heartbeat
DELETE  /api/work_pools/{work_pool_name}/workers/{name}
WS      /api/work_pools/{work_pool_name}/workers/connect
POST    /api/work_queues/
PATCH   /api/work_queues/{id:uuid}
DELETE  /api/work_queues/{id:uuid}
POST    /api/work_queues/{id:uuid}/get_runs
POST    /api/artifacts/
PATCH   /api/artifacts/{id:uuid}
DELETE  /api/artifacts/{id:uuid}
POST    /api/events
WS      /api/events/in
POST    /api/automations/
PUT     /api/automations/{id:uuid}
PATCH   /api/automations/{id:uuid}
DELETE  /api/automations/{id:uuid}
DELETE  /api/automations/owned-by/{resource_id:str}
POST    /api/automations/templates/validate
POST    /api/templates/validate
POST    /api/ui/schemas/validate
GET     /api/admin/settings
GET     /api/admin/storage
PUT     /api/admin/storage
DELETE  /api/admin/storage
GET     /api/openapi.json
HEAD    /api/openapi.json
GET     /api/docs
HEAD    /api/docs
GET     /api/docs/oauth2-redirect
HEAD    /api/docs/oauth2-redirect
GET     /api/redoc
HEAD    /api/redoc
"""

#: Requests answered here instead of by Prefect. The UI's start page needs this one of the settings. And the UI has the
#: values of a form validated against a schema that it sends: a malicious schema may take forever, and Prefect validates
#: the values against its own schema anyway when the run is created.
ANSWERS: Final = {
    ("GET", "/api/admin/settings"): {"PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": False},
    ("POST", "/api/ui/schemas/validate"): {"valid": True, "errors": []},
}

#: Fields that an operator's body may have if they equal Prefect's current values.
_SAME: Final = ("work_queue_name", "schedule")

_UUID: Final = "[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}"
#: One part of a path: no slash, no control character.
_PART: Final = r"[^/\x00-\x1f\x7f]{1,500}"
_VARIABLE: Final = re.compile(r"\{\w+(:\w+)?\}")


@dataclass(frozen=True)
class Rule:
    """A route, the lowest role that may use it, and the check of the body."""

    method: str
    route: str
    role: Role
    check: bodies.Check
    pattern: re.Pattern[str]


def _pattern(route: str) -> re.Pattern[str]:
    kinds = {None: _PART, ":str": _PART, ":uuid": _UUID}
    parts = _VARIABLE.split(route)  # text and kind in turn
    return re.compile("".join(kinds[p] if n % 2 else re.escape(p) for n, p in enumerate(parts)))


def _rules(lines: str, role: Role, check: Callable[[Any, str], Any]) -> Iterator[Rule]:
    for line in lines.strip().splitlines():
        method, route = line.split()
        yield Rule(method, route, role, check, _pattern(route))


RULES: Final = (
    *_rules(_VIEWER, Role.VIEWER, bodies.question),
    *(rule for line, check in _OPERATOR.items() for rule in _rules(line, Role.OPERATOR, check)),
    *_rules(_OWNER, Role.OWNER, bodies.question),
)
"""Every route of Prefect's API, in arbitrary order: no path matches two routes that differ in role."""


def needed(method: str, path: str) -> Rule | None:
    """Return the rule of a request; None if it is missing, and then only the owner may make the request."""
    found = [rule for rule in RULES if rule.method == method and rule.pattern.fullmatch(path)]
    return max(found, key=lambda rule: rule.role, default=None)


def judge(role: Role, user: str, method: str, path: str, body: Any = None) -> Verdict:
    """Decide whether a role may make a request.

    Parameters
    ----------
    role, user
        The client.
    method
        HTTP method, or ``WS`` for a WebSocket.
    path
        Decoded path.
    body
        Decoded JSON body; None if it is empty.

    Returns
    -------
    Verdict
        With the body to forward, which contains only checked fields.
    """
    if role is Role.OWNER:
        return Verdict(body=body)
    rule = needed(method, path)
    lowest = Role.OWNER if rule is None else rule.role
    if rule is None or role < lowest:
        others = " and the ".join(one.label for one in Role if one >= lowest)
        return Verdict(f"This is for the {others}; you are logged in as {role.label}.")
    try:
        made = rule.check(body, user)
    except RefusedError as error:
        return Verdict(f"{error} This is for the owner; you are logged in as {role.label}.")
    stated = body if rule.role is Role.OPERATOR and isinstance(body, dict) else {}
    same = {name: stated[name] for name in _SAME if not is_blank(stated.get(name))}
    return Verdict(body=made, same=same, retry=rule.role is Role.OPERATOR and bodies.is_retry(made))
