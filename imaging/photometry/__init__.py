"""Magnitudes and depth of a stack: apertures, their noise, the light outside them, zero points.

What finds and measures sources in a frame is in `imaging.sources`; catalogues of known stars come from elsewhere.
"""
