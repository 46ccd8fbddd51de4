"""What a real night does to frames: weather, readout, things in the light path, and their truth.

A night without disturbances never comes here; what is scored and how is in the folder above.
"""
