"""Tables of other origin, such as catalogues: read from FITS, VOTable, ECSV or CSV with what their headers declare.

What the columns mean is for others to find.
"""
