"""Run the migrations on the connection that `calib_store.migrations.migrate` hands over."""

from __future__ import annotations

from alembic import context

from calib_store.tables.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
