"""The pixels of raw frames that leave persistence in later exposures.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    CREATE TABLE bright_pixels (
        frame_sha256 text NOT NULL,
        instrument text NOT NULL,
        detector text NOT NULL,
        section text NOT NULL,
        binning text NOT NULL,
        started timestamptz NOT NULL,
        ended timestamptz NOT NULL,
        pixels bytea NOT NULL,
        added_at timestamptz DEFAULT clock_timestamp() NOT NULL,
        CONSTRAINT bright_pixels_pkey PRIMARY KEY (frame_sha256),
        CONSTRAINT bright_pixels_frame_sha256_fkey FOREIGN KEY (frame_sha256) REFERENCES frames (sha256)
            ON DELETE CASCADE
    )
    """,
    "CREATE INDEX bright_pixels_ended_idx ON bright_pixels (instrument, detector, section, binning, ended)",
)


def upgrade() -> None:
    """Add the table; it is filled when frames are surveyed again."""
    for statement in _STATEMENTS:
        op.execute(statement)
