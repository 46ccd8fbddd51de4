"""The flows that the Prefect server runs, and what they share: requests, logs, clusters."""
