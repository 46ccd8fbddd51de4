"""What raw frames are, and which belong together, from their headers alone.

No pixels are read here.
"""
