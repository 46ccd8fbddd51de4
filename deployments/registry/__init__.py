"""What the Prefect server has to know: work pool, deployments, triggers, automations; and their registration."""
