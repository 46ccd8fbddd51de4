"""Images with variance and quality, and the operations on pixels that every step shares.

No files are read or written here.
"""
