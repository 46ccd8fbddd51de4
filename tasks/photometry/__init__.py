"""Magnitudes of stacks: what the step of the stack measures with its sources, and the catalogue that calibrates them.

Algorithms are in `imaging.photometry`; nothing here computes with pixels.
"""
