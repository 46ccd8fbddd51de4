"""Files of the planes between steps, one plane each.

Which planes belong together, and when they are removed, is not decided here (`imaging.io.planes`).
"""
