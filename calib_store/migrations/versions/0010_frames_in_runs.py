"""Which raw frames a run has had: the others are due.

Frames in the store so far count as had, except those of the last two weeks whose night no run began to reduce after
they arrived.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # Rows that exist get the first default without being written.
    "ALTER TABLE frames ADD COLUMN in_run boolean DEFAULT true NOT NULL",
    "ALTER TABLE frames ALTER COLUMN in_run SET DEFAULT false",
    """
    UPDATE frames SET in_run = false
    WHERE added_at > clock_timestamp() - interval '14 days' AND NOT EXISTS (
        SELECT FROM runs
        WHERE runs.ended >= frames.added_at AND (CAST(frames.started AS date) = ANY (runs.nights)
            OR CAST(frames.started AS date) + 1 = ANY (runs.nights))
    )
    """,
    "CREATE INDEX frames_new_idx ON frames (added_at) WHERE NOT in_run",
    "DROP INDEX frames_added_at_idx",  # nobody asks for frames by their arrival alone
)


def upgrade() -> None:
    """Add the column and its index."""
    for statement in _STATEMENTS:
        op.execute(statement)
