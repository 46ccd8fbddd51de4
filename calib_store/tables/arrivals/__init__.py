"""Queries over what arrived lately: what the status of the service shows. Frames by name are read elsewhere."""
