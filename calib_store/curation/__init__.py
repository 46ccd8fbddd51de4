"""What users and housekeeping do with the products of a store: certify, compare, verify, look up.

This goes through the `Store`; the statements are in `calib_store.tables`.
"""
