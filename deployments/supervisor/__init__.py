"""Every part of the service started, watched and ended: the supervisor, the worker, the state of the service."""
