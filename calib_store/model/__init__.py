"""What goes into the store and comes out of it, as records; and the store's settings.

No SQL.
"""
