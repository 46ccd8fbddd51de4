"""What runs beside the flows: the Prefect server and its settings; schedule, watcher and worker to come."""
