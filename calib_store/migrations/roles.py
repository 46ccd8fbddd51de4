"""Roles on a shared PostgreSQL server: the rights that a reduction needs, and those that a reader needs.

The creator of the tables owns them. A pipeline logs in as a member of ``nirflow_pipeline``, which can add rows and
update columns that can be derived again, but cannot delete anything; a read-only user logs in as a member of
``nirflow_reader``. The roles have no password and cannot log in themselves: the administrator grants them to accounts,
``GRANT nirflow_pipeline TO ana``.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, text

from calib_store.tables.schema import metadata

PIPELINE, READER = "nirflow_pipeline", "nirflow_reader"

#: Tables that a reduction adds rows to.
_ADDS = (
    "frames", "frame_headers", "frame_files", "frame_history", "configurations", "products", "serves",
    "inputs", "status_history", "decisions", "runs", "variants", "tier_changes", "proposals", "bright_pixels",
    "catalogue_answers",
)  # fmt: skip
#: Columns that a reduction may change.
_CHANGES = {
    "frames": (
        "kind", "exposure_time", "coadds", "read_pairs", "filter_id", "target", "observation_id",
        "data_label", "started", "facts", "quarantine", "in_run",
    ),
    "frame_files": ("size", "mtime_ns", "frame_sha256"),
    "products": (
        "sha256", "size", "metrics", "software_version", "flow_run_id", "damaged", "gate", "status",
        "validity", "doubtful", "provisional", "tier",
    ),
    "serves": ("tier", "noise"),
    "bright_pixels": ("instrument", "detector", "section", "binning", "started", "ended", "pixels"),
}  # fmt: skip

# Roles belong to the server and outlive a database, so they may already exist; two processes that migrate
# different databases at once may both create them.
MAKE_ROLES: Final = """
    DO $$
    DECLARE wanted text;
    BEGIN
        FOREACH wanted IN ARRAY ARRAY['nirflow_pipeline', 'nirflow_reader'] LOOP
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
                BEGIN
                    EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
                EXCEPTION
                    WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN NULL;
                END;
            END IF;
        END LOOP;
    END $$
"""


def make_roles(connection: Connection) -> None:
    """Create the roles and grant them the rights that they need; for the owner of the tables, and repeatable.

    If the caller may not create roles, they remain missing (`missing_roles`): an administrator creates them, and this
    is run again.
    """
    connection.execute(text(MAKE_ROLES))
    if missing_roles(connection):
        return
    tables = ", ".join([*metadata.tables, "alembic_version"])
    connection.execute(text(f"GRANT SELECT ON {tables} TO {PIPELINE}, {READER}"))
    connection.execute(text(f"GRANT INSERT ON {', '.join(_ADDS)} TO {PIPELINE}"))
    for table, columns in _CHANGES.items():
        connection.execute(text(f"GRANT UPDATE ({', '.join(columns)}) ON {table} TO {PIPELINE}"))


def missing_roles(connection: Connection) -> tuple[str, ...]:
    """Return the roles that the server does not have."""
    wanted = (PIPELINE, READER)
    query = text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:wanted)")
    there = set(connection.scalars(query, {"wanted": list(wanted)}))
    return tuple(role for role in wanted if role not in there)
