"""The calibration store: which frames and products there are, which product serves which frame, and why.

`Store` in `store.py` is the entry point, `Reader` in `reader.py` the one for read-only use. Behind them are the folders
`model` and `rules` (records, settings, association rules), `files` and `tables`, `choice`, `curation`, `exchange`,
`server` (the embedded PostgreSQL) and `administration`.
"""
