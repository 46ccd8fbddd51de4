"""The embedded PostgreSQL server: its account, folder, address, databases and programs; and other places of a store."""
