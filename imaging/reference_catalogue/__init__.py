"""Catalogues of reference stars: read, brought to the epoch of the observation and to ICRS, cut to a region.

Services are asked, and their answers kept, by the steps; nothing here uses a network.
"""
