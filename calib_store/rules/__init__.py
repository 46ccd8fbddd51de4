"""Which calibration belongs to which frame, and in which order candidates are taken: rules as data.

No SQL.
"""
