"""Requests to the API of a Prefect server, for processes that do not import Prefect."""

from __future__ import annotations

import contextlib
import json
import logging
import urllib.parse
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from deployments.http_client import NoAnswerError
from deployments.prefect_api.connection import Connection, RefusedError
from imaging.errors import NirflowError

logger = logging.getLogger(__name__)

_TIMEOUT = 30.0  # s
#: Remedy if the server requires a password.
PASSWORD_REMEDY: Final = "Set NIRFLOW_SERVER_AUTH to the USER:PASSWORD with which the server was started."


class RestError(NirflowError):
    """A request that the Prefect server did not fulfil."""


class AlreadyThereError(RestError):
    """A request to create something that exists already."""


class PasswordError(RestError):
    """A request with a wrong or missing password."""


class Rest:
    """The API of one Prefect server.

    Parameters
    ----------
    api_url
        URL of the API.
    auth
        USER:PASSWORD, if the server requires one.
    timeout
        How long to wait for a response, s.
    """

    def __init__(self, api_url: str, auth: str | None, timeout: float = _TIMEOUT) -> None:
        self._connection = Connection(api_url, auth, timeout)

    def post(self, path: str, body: Any) -> Any:
        """Send a request and return the decoded JSON of the response.

        Raises
        ------
        RestError
            If there is no response, or an error.
        """
        url = self._connection.api_url
        try:
            return json.loads(self._connection.post(path, json.dumps(body).encode()))
        except RefusedError as refused:
            kinds = {int(HTTPStatus.CONFLICT): AlreadyThereError, int(HTTPStatus.UNAUTHORIZED): PasswordError}
            kind = kinds.get(refused.answer.status, RestError)
            remedy = PASSWORD_REMEDY if kind is PasswordError else ""
            raise kind(f"{url} refused {path}: {refused}.", remedy=remedy) from refused
        except (NoAnswerError, ValueError) as error:
            raise RestError(
                f"{url} did not respond to {path}: {error}.",
                remedy="Check that the server runs (nirflow server status) and that its address is right.",
            ) from error

    def make_pool(self, pool: str, limit: int) -> None:
        """Create a work pool of processes if it is missing; its worker fills in the rest."""
        with contextlib.suppress(AlreadyThereError):
            self.post("/work_pools/", {"name": pool, "type": "process", "concurrency_limit": limit})

    def seconds_since_heartbeat(self, pool: str, worker: str) -> float | None:
        """Return the time since a worker's last heartbeat, s; None if there never was one."""
        pool = urllib.parse.quote(pool)
        for one in self.post(f"/work_pools/{pool}/workers/filter", {}):
            if one["name"] == worker and one["last_heartbeat_time"]:
                last = datetime.fromisoformat(one["last_heartbeat_time"])
                return (datetime.now(UTC) - last).total_seconds()
        return None

    def reschedule(self, worker: str) -> list[str]:
        """Reschedule the runs of a worker that was stopped on purpose, and return their names.

        Call it after the worker and its processes have ended: no other process reports the end of these runs, and
        after a while they would count as crashed.
        """
        names = []
        for run in self.runs(["RUNNING", "PENDING"], limit=200):
            if run.get("labels", {}).get("prefect.worker.name") != worker:
                continue
            now = datetime.now(UTC).isoformat()
            again = {
                "type": "SCHEDULED", "name": "AwaitingRetry", "state_details": {"scheduled_time": now},
                "message": "nirflow was stopped. The run continues when it is started again.",
            }  # fmt: skip
            try:
                self.post(f"/flow_runs/{run['id']}/set_state", {"state": again, "force": True})
            except RestError as error:
                logger.warning(
                    "%s could not be rescheduled, and will count as crashed: %s", run["name"], error
                )
                continue
            names.append(str(run["name"]))
        return names

    def create_run(
        self, deployment: str, request: Mapping[str, Any], *, key: str, tags: Sequence[str], reason: str
    ) -> str:
        """Create a run of a deployment that is due now, and return its name; one with the same key is created once.

        Parameters
        ----------
        deployment
            Id of the deployment.
        request
            The parameter ``request`` of the run.
        key
            Idempotency key: the server keeps one run of it.
        tags
            Tags in addition to those of the deployment.
        reason
            Why it was created, for the UI.

        Raises
        ------
        RestError
            If there is no response, or an error.
        """
        now = datetime.now(UTC).isoformat()
        state = {"type": "SCHEDULED", "message": reason, "state_details": {"scheduled_time": now}}
        body = {
            "parameters": {"request": dict(request)},
            "idempotency_key": key,
            "tags": list(tags),
            "state": state,
        }
        return str(self.post(f"/deployments/{deployment}/create_flow_run", body)["name"])

    def runs(self, states: list[str], limit: int = 20, *, due: bool = False) -> list[dict[str, Any]]:
        """Return flow runs in states of some types (RUNNING, PENDING, SCHEDULED), earliest start first.

        With ``due``, only those whose start time has passed.
        """
        now = {"expected_start_time": {"before_": datetime.now(UTC).isoformat()}} if due else {}
        body = {
            "flow_runs": {"state": {"type": {"any_": states}}, **now},
            "sort": "EXPECTED_START_TIME_ASC",
            "limit": limit,
        }
        found: list[dict[str, Any]] = self.post("/flow_runs/filter", body)
        return found
