"""Magnitudes, zero points and depth of synthetic stacks against their limits: ``python -m benchmarks.photometry``."""
