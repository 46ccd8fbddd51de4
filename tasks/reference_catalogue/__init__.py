"""The reference stars of a field: from a local catalogue, from the store, or from a service that is asked once.

Files, columns and positions are the science's, `imaging.reference_catalogue`.
"""
