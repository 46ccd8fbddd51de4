"""What the tables of instruments cannot express: one short function for each instrument that needs it.

A function gets the primary header and the facts of a frame, and returns the facts.
"""
