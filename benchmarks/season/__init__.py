"""A season of nights through the service, with processes that are killed, full disks, late and rejected calibrations.

`python -m benchmarks.season`: plan, nights, the service under it, the quiet run that it is compared with, and checks.
"""
