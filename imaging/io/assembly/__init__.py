"""Frames put together from the images of a file, by the regions that the instrument's table declares.

Overscan subtracted, trimmed, placed. Nothing here runs for an instrument without such regions.
"""
