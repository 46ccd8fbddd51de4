"""Survey of a night: which files are frames that can be reduced, which are not, and why."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import ValidationError

from calib_store.model.records import KnownFile, StatusChange
from calib_store.store import Store
from imaging.frames.doubles import doubles, exposures
from imaging.frames.facts import FrameFacts
from imaging.frames.find_files import CheckParameters
from tasks.support.decorator import step_task
from tasks.support.examine import Looked, look_at
from tasks.support.references import LeftOut, RawFrame, Survey
from tasks.support.step import step
from tasks.support.workspace import Workspace

log = logging.getLogger(__name__)


@step_task("survey", "survey of {label}")
def survey_frames(paths: list[Path], label: str, check: CheckParameters, workspace: Workspace) -> Survey:
    """Look at every file, note the frames in the store and sort out what cannot be reduced.

    A file that the store has seen fit (same path, size, modification time and facts) is not read whole again. The
    bytes of any other file are hashed and its pixels looked at once. What makes one file unusable never
    stops the others; where its bytes were hashed by then, the store notes it in quarantine, with the reason.
    """
    store = workspace.store()
    with step("survey", label, workspace) as current:
        known, facts = _known_fit(store, paths)

        def look(path: Path) -> Looked:
            file = known.get(path)
            known_facts = facts[file.sha256] if file is not None else None
            return look_at(path, file, check, workspace.unpacked, known_facts)

        with ThreadPoolExecutor(workspace.threads, thread_name_prefix="survey") as pool:
            looked = list(pool.map(look, paths))
        records = [one.record for one in looked if one.record is not None]
        said = store.frames.ingest(records)
        current.reused = said.new == 0
        usable = [one.record.sha256 for one in looked if one.plain is not None and one.record is not None]
        return _sorted_out(looked, store.frames.rejections(usable, as_of=workspace.as_of))


def _known_fit(
    store: Store, paths: Sequence[Path]
) -> tuple[Mapping[Path, KnownFile], Mapping[str, FrameFacts]]:
    """The files that were seen before and found fit, and the facts of their frames by sha256.

    A frame in quarantine is looked at in full again: its refusal depends on the parameters of the check.
    """
    known = store.frames.known_files(paths)
    try:
        fit = store.frames.facts_of({file.sha256 for file in known.values()})
    except ValidationError:
        log.warning("The store's facts are of another version of nirflow; every file is looked at again.")
        return {}, {}
    return {path: file for path, file in known.items() if file.sha256 in fit}, fit


def _frame(one: Looked) -> RawFrame | None:
    """The frame that a look gave, where it is usable."""
    if one.plain is None or one.record is None or one.record.facts is None:
        return None
    return RawFrame(path=one.plain, source=one.path, sha256=one.record.sha256, facts=one.record.facts)


def _sorted_out(looked: Sequence[Looked], rejected: Mapping[str, StatusChange]) -> Survey:
    frames: dict[str, RawFrame] = {}
    turned_down: dict[str, LeftOut] = {}
    left_out = [
        LeftOut(name=one.path.name, reason=one.reason, remedy=one.remedy, expected=one.expected)
        for one in looked
        if one.plain is None
    ]
    for frame in (_frame(one) for one in looked):
        if frame is None:
            continue
        if frame.sha256 in rejected:
            word = rejected[frame.sha256]
            reason = f"rejected by {word.author} on {word.changed_at:%Y-%m-%d}: {word.reason}"
            turned_down[frame.sha256] = LeftOut(name=frame.source.name, reason=reason, expected=True)
            continue
        twin = frames.setdefault(frame.sha256, frame)
        if twin is not frame:
            reason = f"the same frame as {twin.source.name}, which is used"
            left_out.append(LeftOut(name=frame.source.name, reason=reason, expected=True))
    frames, doubled = _without_doubles(looked, frames)
    left_out += [*_with_stand_ins(looked, turned_down, frames), *doubled]
    named: dict[str, RawFrame] = {}
    for sha256, frame in tuple(frames.items()):
        first = named.setdefault(frame.name, frame)
        if first is not frame:  # products, reports and headers tell frames apart by their names
            reason = f"{frame.source} is another frame of this name than {first.source}, which is used"
            left_out.append(
                LeftOut(
                    name=frame.name, reason=reason, remedy="Give one of the files another name to use both."
                )
            )
            del frames[sha256]
    ordered = sorted(frames.values(), key=lambda f: (f.facts.started, f.name))
    return Survey(frames=tuple(ordered), left_out=tuple(left_out))


def _without_doubles(
    looked: Sequence[Looked], frames: Mapping[str, RawFrame]
) -> tuple[dict[str, RawFrame], list[LeftOut]]:
    """The frames without those of which another file of the same exposure is used, and why each is left out.

    A newer header may be the one that takes a frame out (a failure in the eyes of the observer): then the exposure
    takes no part at all.
    """
    unfit = {
        one.record.sha256: (one.record.facts, one.reason)
        for one in looked
        if one.expected and one.record is not None and one.record.facts is not None
    }
    known = {sha256: facts for sha256, (facts, _) in unfit.items() if not facts.processed}
    found = doubles(known | {sha256: frame.facts for sha256, frame in frames.items()})
    left_out = []
    for sha256 in frames.keys() & found.keys():
        frame, double = frames[sha256], found[sha256]
        fate = "which is used"
        if double.used in unfit:
            fate = f"which counts and takes no part: {unfit[double.used][1]}"
        name, remedy = double.name, f"To use this one, reject the other: nirflow cal reject {double.name}"
        if frame.name == double.name:
            name = f"the other file of this name ({double.used[:12]})"
            remedy = f"To use this one, reject the other: nirflow cal reject {double.used[:12]}"
        reason = f"the same exposure as {name}, {fate}: {double.why}"
        left_out.append(LeftOut(name=frame.name, reason=reason, remedy=remedy, expected=True))
    kept = {sha256: frame for sha256, frame in frames.items() if sha256 not in found}
    return kept, sorted(left_out, key=lambda one: one.name)


def _with_stand_ins(
    looked: Sequence[Looked], rejected: Mapping[str, LeftOut], frames: Mapping[str, RawFrame]
) -> list[LeftOut]:
    """The rejected frames; of one whose exposure is used from another file, that is said."""
    facts = {
        one.record.sha256: one.record.facts
        for one in looked
        if one.record is not None and one.record.facts is not None
        and (one.record.sha256 in frames or one.record.sha256 in rejected)
    }  # fmt: skip
    left_out = dict(rejected)
    for group in exposures(facts):
        used = next((frames[sha256].name for sha256 in group if sha256 in frames), None)
        for sha256 in group:
            if used is not None and sha256 in rejected:
                reason = f"{rejected[sha256].reason}; the same exposure is used from {used}"
                left_out[sha256] = rejected[sha256].model_copy(update={"reason": reason})
    return list(left_out.values())
