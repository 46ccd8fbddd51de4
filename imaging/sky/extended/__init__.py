"""Extended sources: the part of their light that dithered skies contain and the sky step subtracts.

Figures and their sources only: nothing here changes a pixel.
"""
