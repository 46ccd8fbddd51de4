"""Requests and events to a Prefect server by processes that do not import Prefect."""
