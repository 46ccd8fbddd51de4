"""The user who started a run, as recorded by the server."""

from __future__ import annotations

from prefect import get_client, runtime

from deployments.access.policy_bodies import USER_LABEL


def operator_of_run() -> str | None:
    """Return the operator who started this run; None if the owner, a schedule or an event did."""
    run = runtime.flow_run.id
    if not run:
        return None
    with get_client(sync_client=True) as client:
        user = client.read_flow_run(run).labels.get(USER_LABEL)
    return user if isinstance(user, str) and user else None
