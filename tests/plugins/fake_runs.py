"""A fake Prefect server that keeps the runs that are created; imported by the tests that need it."""

from __future__ import annotations

from typing import Any

from deployments.prefect_api.rest import Rest, RestError


class FakePrefect(Rest):
    """A server that keeps runs by their idempotency keys; it may be down, or lose an answer."""

    def __init__(self) -> None:
        self.up, self.answers, self.paused = True, True, False
        self.runs_by_key: dict[str, dict[str, Any]] = {}
        self.asked = 0

    def post(self, path: str, body: Any) -> Any:
        self.asked += 1
        if not self.up:
            raise RestError("The server does not answer.")
        if path == "/deployments/filter":
            return [
                {"id": name, "name": name, "paused": self.paused}
                for name in ("arrival", "backlog", "calibrations")
            ]
        if path == "/flow_runs/filter":
            wanted = body["flow_runs"]
            keys = wanted.get("idempotency_key", {}).get("any_", self.runs_by_key)
            types = wanted.get("state", {}).get("type", {}).get("any_")
            return [
                run for key, run in self.runs_by_key.items()
                if key in keys and (types is None or run["state_type"] in types)
            ]  # fmt: skip
        deployment = path.split("/")[2]
        key = body["idempotency_key"]
        self.runs_by_key.setdefault(key, {
            "id": f"run {len(self.runs_by_key)}", "name": "a run", "state_type": "SCHEDULED",
            "deployment_id": deployment,
            "state_name": "Scheduled", "start_time": None, "idempotency_key": key, "body": body, **body,
        })  # fmt: skip
        if not self.answers:
            raise RestError("The connection broke.")
        return self.runs_by_key[key]

    def end(self, state_type: str = "COMPLETED") -> None:
        for run in self.runs_by_key.values():
            run["state_type"], run["state_name"] = state_type, state_type.title()
