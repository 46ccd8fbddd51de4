"""Which product superseded another, and for what reason; frames without facts can be found.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    ALTER TABLE status_history
        ADD COLUMN by_product uuid,
        ADD COLUMN because text,
        ADD CONSTRAINT status_history_by_product_fkey
            FOREIGN KEY (by_product) REFERENCES products (id) ON DELETE SET NULL
    """,
    "CREATE INDEX status_history_because_idx ON status_history (because) WHERE because IS NOT NULL",
    "CREATE INDEX frames_refused_idx ON frames (sha256) WHERE facts IS NULL",
)


def upgrade() -> None:
    """Add the columns and the indexes."""
    for statement in _STATEMENTS:
        op.execute(statement)
