"""Files of any origin: found, limited in size, unpacked and read in bands of rows; written completely or not at all.

Everything specific to the files of our products belongs in `imaging.products`.
"""
