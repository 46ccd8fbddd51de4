"""The tables of the store, one module for each subject: every statement that reads or changes rows.

Files belong in `calib_store.files`, and what users decide in `calib_store.curation`.
"""
