"""Everything that the Prefect server needs (work pool, deployments, triggers, automations) and its registration."""
