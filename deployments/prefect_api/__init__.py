"""Requests and events to a Prefect server, for processes that do not import Prefect."""
