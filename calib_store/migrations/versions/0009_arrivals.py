"""Indexes on the arrival of raw frames, and on those in quarantine, for the status of the service.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "CREATE INDEX frames_added_at_idx ON frames (added_at)",
    "CREATE INDEX frames_quarantined_idx ON frames (added_at) WHERE quarantine IS NOT NULL",
)


def upgrade() -> None:
    """Add the indexes."""
    for statement in _STATEMENTS:
        op.execute(statement)
