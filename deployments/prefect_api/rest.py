"""Questions to the Prefect server by processes that do not import Prefect."""

from __future__ import annotations

import contextlib
import json
import logging
import urllib.parse
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from deployments.http_client import NoAnswerError
from deployments.prefect_api.connection import Connection, RefusedError
from imaging.errors import NirflowError

logger = logging.getLogger(__name__)

_TIMEOUT = 30.0  # s
#: What to do where the server asks for a password.
PASSWORD_REMEDY: Final = "Set NIRFLOW_SERVER_AUTH to the USER:PASSWORD with which the server was started."


class RestError(NirflowError):
    """The Prefect server does not answer."""


class AlreadyThereError(RestError):
    """What is to be made is there."""


class PasswordError(RestError):
    """The server asks for another password, or for one."""


class Rest:
    """The API of one Prefect server.

    Parameters
    ----------
    api_url
        Its address.
    auth
        USER:PASSWORD that it asks for, if it does.
    """

    def __init__(self, api_url: str, auth: str | None) -> None:
        self._connection = Connection(api_url, auth, _TIMEOUT)

    def post(self, path: str, body: Any) -> Any:
        """Ask; what the answer holds.

        Raises
        ------
        RestError
            Where there is no answer, or no good one.
        """
        url = self._connection.api_url
        try:
            return json.loads(self._connection.post(path, json.dumps(body).encode()))
        except RefusedError as refused:
            kinds = {int(HTTPStatus.CONFLICT): AlreadyThereError, int(HTTPStatus.UNAUTHORIZED): PasswordError}
            kind = kinds.get(refused.answer.status, RestError)
            remedy = PASSWORD_REMEDY if kind is PasswordError else ""
            raise kind(f"{url} refuses {path}: {refused}.", remedy=remedy) from refused
        except (NoAnswerError, ValueError) as error:
            raise RestError(f"{url} does not answer {path}: {error}.") from error

    def make_pool(self, pool: str, limit: int) -> None:
        """Make a work pool of processes, where there is none; its worker fills in the rest."""
        with contextlib.suppress(AlreadyThereError):
            self.post("/work_pools/", {"name": pool, "type": "process", "concurrency_limit": limit})

    def seconds_since_heartbeat(self, pool: str, worker: str) -> float | None:
        """How long the server has not heard of a worker, s; None where it never has."""
        pool = urllib.parse.quote(pool)
        for one in self.post(f"/work_pools/{pool}/workers/filter", {}):
            if one["name"] == worker and one["last_heartbeat_time"]:
                last = datetime.fromisoformat(one["last_heartbeat_time"])
                return (datetime.now(UTC) - last).total_seconds()
        return None

    def put_back(self, worker: str) -> list[str]:
        """Hand out again what a worker was at when it was stopped on purpose; the names of those runs.

        For when the worker and its processes are gone: nobody else tells of these runs, and after a while they
        would count as crashed.
        """
        told = []
        for run in self.runs(["RUNNING", "PENDING"], limit=200):
            if run.get("labels", {}).get("prefect.worker.name") != worker:
                continue
            now = datetime.now(UTC).isoformat()
            again = {
                "type": "SCHEDULED", "name": "AwaitingRetry", "state_details": {"scheduled_time": now},
                "message": "nirflow was stopped. The run goes on when it is up again.",
            }  # fmt: skip
            try:
                self.post(f"/flow_runs/{run['id']}/set_state", {"state": again, "force": True})
            except RestError as error:
                logger.warning("%s is not put back, and will count as crashed: %s", run["name"], error)
                continue
            told.append(str(run["name"]))
        return told

    def runs(self, states: list[str], limit: int = 20, *, due: bool = False) -> list[dict[str, Any]]:
        """Flow runs in states of some types (RUNNING, PENDING, SCHEDULED), those that go first first.

        Those that are ``due`` were to begin by now.
        """
        now = {"expected_start_time": {"before_": datetime.now(UTC).isoformat()}} if due else {}
        body = {
            "flow_runs": {"state": {"type": {"any_": states}}, **now},
            "sort": "EXPECTED_START_TIME_ASC",
            "limit": limit,
        }
        found: list[dict[str, Any]] = self.post("/flow_runs/filter", body)
        return found
