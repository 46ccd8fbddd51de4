"""Survey of a night: which files can be reduced, which cannot, and why."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import ValidationError

from calib_store.model.records import StatusChange
from calib_store.store import Store
from imaging.frames.find_files import CheckParameters
from imaging.io.examine import Examination, Known, examine
from imaging.io.sort_out import sort_out
from tasks.support.decorator import step_task
from tasks.support.noting import record_of
from tasks.support.references import LeftOut, Note, RawFrame, Survey
from tasks.support.step import step
from tasks.support.workspace import Workspace

log = logging.getLogger(__name__)


@step_task("survey", "survey of {label}")
def survey_frames(paths: list[Path], label: str, check: CheckParameters, workspace: Workspace) -> Survey:
    """Examine every file, record the frames in the store and sort out those that cannot be reduced.

    A file that the store knows as usable (same path, size, modification time and facts) is not read in full
    again. The bytes of any other file are hashed and its pixels examined once. An unusable file never stops
    the others; if its bytes have been hashed, the store records it in quarantine with the reason.
    """
    store = workspace.store()
    with step("survey", label, workspace) as current:
        known = _known_usable(store, paths)

        def look(path: Path) -> Examination:
            return examine(path, check, unpacked=workspace.unpacked, known=known.get(path))

        with ThreadPoolExecutor(workspace.threads, thread_name_prefix="survey") as pool:
            examined = list(pool.map(look, paths))
        report = store.frames.ingest([record for record in map(record_of, examined) if record is not None])
        current.reused = report.new == 0
        usable = [one.sha256 for one in examined if one.usable and one.sha256 is not None]
        rejections = store.frames.rejections(usable, as_of=workspace.as_of)
    rejected = {sha256: _as_rejected(change) for sha256, change in rejections.items()}
    sorted_out = sort_out(examined, rejected, check)
    frames = sorted(
        (_frame(one) for one in sorted_out if one.usable), key=lambda frame: (frame.facts.started, frame.name)
    )
    left_out = [
        LeftOut(name=one.name, reason=one.reason, remedy=one.remedy, expected=one.verdict == "excluded")
        for one in sorted_out
        if not one.usable
    ]
    notes = [Note(name=one.name, text=note) for one in sorted_out if one.usable for note in one.notes]
    # Another file of a frame that is used is left out, but the frame is not.
    refused = {one.sha256 for one in sorted_out if not one.usable and one.sha256 is not None}
    refused -= {frame.sha256 for frame in frames}
    return Survey(
        frames=tuple(frames), left_out=tuple(left_out), notes=tuple(notes), refused=frozenset(refused)
    )


def _known_usable(store: Store, paths: Sequence[Path]) -> Mapping[Path, Known]:
    """Return the files that were examined earlier and found usable.

    A frame in quarantine is examined in full again, because its refusal depends on the parameters of the
    check.
    """
    files = store.frames.known_files(paths)
    try:
        facts = store.frames.facts_of({file.sha256 for file in files.values()})
    except ValidationError:
        log.warning("The store's facts come from another version of nirflow; every file is examined again.")
        return {}
    return {
        path: Known(file.size, file.changed_ns, file.sha256, facts[file.sha256])
        for path, file in files.items()
        if file.sha256 in facts
    }


def _as_rejected(change: StatusChange) -> str:
    return f"rejected by {change.author} on {change.changed_at:%Y-%m-%d}: {change.reason}"


def _frame(one: Examination) -> RawFrame:
    """Return the reference to a usable frame."""
    assert one.plain is not None
    assert one.sha256 is not None
    assert one.facts is not None
    return RawFrame(path=one.plain, source=one.path, sha256=one.sha256, facts=one.facts)
