"""The verdicts about raw frames as they arrived, as a table in the Prefect UI next to what the reduction measured."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import runtime

from imaging.quick_look.night_record import read_record
from imaging.quick_look.shown import COLUMNS, row_of
from tasks.support.artifacts import key_of, publish_table
from tasks.support.best_effort import best_effort
from tasks.support.references import ScratchRef
from tasks.support.workspace import Workspace


@best_effort("The table of the frames as they arrived in the Prefect UI")
def publish_verdicts(label: str, frames: Sequence[ScratchRef], workspace: Workspace) -> None:
    """Show how the frames of a group were judged as they arrived; nothing if none of them was."""
    if not runtime.task_run.id:
        return
    wanted = {one.frame.sha256 for one in frames}
    nights = sorted({one.frame.facts.night for one in frames})
    records = [read_record(workspace.folder_of(night), night) for night in nights]
    judged = [one for record in records for one in record.frames if one.sha256 in wanted]
    if judged:
        rows = [dict(zip(COLUMNS, (cell.text for cell in row_of(one)), strict=True)) for one in judged]
        publish_table(key_of("arrived", label), rows, f"{label}: the frames as they arrived")
