"""What is observed in a simulated night, by instrument: bands and levels, runs of file numbers, headers.

The numbers of the detector come from the instrument's table. Nothing here draws random numbers.
"""
