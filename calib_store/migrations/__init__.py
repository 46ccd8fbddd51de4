"""Schema of the store, as Alembic migrations."""
