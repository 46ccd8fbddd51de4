"""What relies on private parts of Prefect: thin adapters, and nothing else of nirflow touches those parts.

An adapter takes values and knows no step, no store and no setting of nirflow. `tests/tasks/prefect_internals` fails
where a new version of Prefect has changed a part, and names the adapter.
"""
