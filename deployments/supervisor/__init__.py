"""Start, supervision and end of the service: the supervisor, the worker, the state of the service."""
