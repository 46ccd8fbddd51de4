"""The situations of `python -m benchmarks.faults`, by part."""
