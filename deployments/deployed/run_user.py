"""The user who asked for a run, as the server noted it."""

from __future__ import annotations

from prefect import get_client, runtime

from deployments.access.policy_bodies import USER_LABEL


def operator_of_run() -> str | None:
    """The operator who asked for this run; None for a run of the owner, of a schedule or of an event."""
    run = runtime.flow_run.id
    if not run:
        return None
    with get_client(sync_client=True) as client:
        noted = client.read_flow_run(run).labels.get(USER_LABEL)
    return noted if isinstance(noted, str) and noted else None
