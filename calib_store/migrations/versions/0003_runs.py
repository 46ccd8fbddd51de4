"""Reports of the runs of the night's flows, by night.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    CREATE TABLE runs (
        id uuid NOT NULL,
        nights date[] NOT NULL,
        flow text NOT NULL,
        sequence text,
        waits_for text[] NOT NULL,
        started timestamptz NOT NULL,
        ended timestamptz NOT NULL,
        report jsonb NOT NULL,
        CONSTRAINT runs_pkey PRIMARY KEY (id)
    )
    """,
    "CREATE INDEX runs_nights_idx ON runs USING gin (nights)",
    "CREATE INDEX runs_sequence_ended_idx ON runs (sequence, ended)",
)


def upgrade() -> None:
    """Add the table."""
    for statement in _STATEMENTS:
        op.execute(statement)
