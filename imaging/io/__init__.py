"""Files of any origin: found, bounded, unpacked and read in bands of rows; written complete or not at all.

What is special to the files of our products belongs in `imaging.products`.
"""
