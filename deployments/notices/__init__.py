"""Notices to users: kept in the data folder until they are delivered. What they are about is decided elsewhere."""
