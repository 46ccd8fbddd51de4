"""What raw frames are and which of them belong together, from their headers alone.

No pixels are read here.
"""
