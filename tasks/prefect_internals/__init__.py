"""Thin adapters to private parts of Prefect, which no other part of nirflow touches.

An adapter takes values and knows no step, store or setting of nirflow. If a new version of Prefect has
changed such a part, `tests/tasks/prefect_internals` fails and names the adapter.
"""
