"""A frame judged within seconds: its figures, measured alone, against what was requested and against its group.

Pure functions, and the record of a night's frames as a file. Nothing here replaces a reduction: no sky is subtracted.
"""
