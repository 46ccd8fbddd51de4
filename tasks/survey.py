"""Survey of a night: which files are frames that can be reduced, which are not, and why."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from astropy.io.fits import VerifyError
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import ValidationError, validate_call

from calib_store.records import FrameRecord, KnownFile
from calib_store.store import Store
from imaging.errors import FrameError
from imaging.facts import facts_from_headers
from imaging.files import CheckParameters
from imaging.rawio import UNFORESEEN, check_pixels, check_shape, open_raw, read_headers
from imaging.unpack import compression, unpack
from tasks.references import LeftOut, RawFrame, Survey
from tasks.step import step
from tasks.workspace import Workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Looked:
    """What a look at one file gave: a frame, or the reason why it is none."""

    path: Path
    frame: RawFrame | None = None
    record: FrameRecord | None = None
    left_out: LeftOut | None = None


@task(name="survey", task_run_name="survey of {label}", cache_policy=NO_CACHE, persist_result=False)
@validate_call
def survey_frames(paths: list[Path], label: str, check: CheckParameters, workspace: Workspace) -> Survey:
    """Look at every file, note the frames in the store and sort out what cannot be reduced.

    A file that the store has seen fit (same path, size and modification time) is not read whole again. The
    bytes of any other file are hashed and its pixels looked at once. What makes one file unusable never
    stops the others; where its bytes were hashed by then, the store notes it in quarantine, with the reason.
    """
    with step("survey", label, workspace) as current:
        known = _known_fit(workspace.store(), paths)

        def look(path: Path) -> _Looked:
            return _look(path, known.get(path), check, workspace)

        with ThreadPoolExecutor(workspace.threads, thread_name_prefix="survey") as pool:
            looked = list(pool.map(look, paths))
        records = [one.record for one in looked if one.record is not None]
        said = workspace.store().ingest(records)
        current.reused = said.new == 0
        return _sorted_out(looked)


def _known_fit(store: Store, paths: Sequence[Path]) -> Mapping[Path, KnownFile]:
    """The files that were seen before and found fit.

    A frame in quarantine is looked at in full again: its refusal depends on the parameters of the check.
    """
    known = store.known_files(paths)
    try:
        fit = store.facts_of({file.sha256 for file in known.values()})
    except ValidationError:
        log.warning("The store's facts are of another version of nirflow; every file is looked at again.")
        return {}
    return {path: file for path, file in known.items() if file.sha256 in fit}


def _look(path: Path, known: KnownFile | None, check: CheckParameters, workspace: Workspace) -> _Looked:
    record: FrameRecord | None = None
    try:
        stat = path.stat()
        same = known is not None and (known.size, known.mtime_ns) == (stat.st_size, stat.st_mtime_ns)
        primary, extension = read_headers(path)
        facts = facts_from_headers(primary, extension, name=path.name)
        if not facts.processed:  # a product's shape is not what is wrong with it
            check_shape(primary if extension is None else extension, facts.name, check.shape)
        if known is not None and same:
            sha256 = known.sha256
            plain = workspace.unpacked / f"{sha256}.fits" if compression(path) else path
        else:
            plain, sha256 = unpack(path, workspace.unpacked)
        header = {} if same else dict(primary)
        record = FrameRecord(path, sha256, stat.st_size, stat.st_mtime_ns, facts, header)
        if not same:
            with open_raw(plain, name=path.name, shape=check.shape, sha256=sha256) as raw:
                check_pixels(raw, saturated_fraction=check.saturated_fraction)
        if unfit := facts.unfit():
            return _Looked(path, record=record, left_out=LeftOut(name=path.name, reason=unfit, expected=True))
        return _Looked(path, RawFrame(path=plain, source=path, sha256=sha256, facts=facts), record)
    except OSError as error:  # it may pass: nothing is noted
        return _Looked(path, left_out=LeftOut(name=path.name, reason=error.strerror or str(error)))
    except VerifyError as error:
        # astropy parses a card when it is asked for, so a garbled one shows only here.
        return _refused(path, record, f"a header card cannot be read: {error}")
    except FrameError as error:
        reason = error.message.removeprefix(f"{error.name}: ").removesuffix(".")
        return _refused(path, record, reason, error.remedy)
    except UNFORESEEN as error:
        log.debug("%s cannot be read", path, exc_info=True)
        reason = f"the file makes no sense ({type(error).__name__}: {error})"
        return _refused(path, record, reason, "Fetch the file again or leave it out.")


def _refused(path: Path, record: FrameRecord | None, reason: str, remedy: str = "") -> _Looked:
    """A file that takes no part; where its bytes are known it goes into the store in quarantine."""
    noted = replace(record, quarantine=reason) if record is not None and _is_raw(record) else None
    return _Looked(path, record=noted, left_out=LeftOut(name=path.name, reason=reason, remedy=remedy))


def _is_raw(record: FrameRecord) -> bool:
    return record.facts is not None and not record.facts.processed


def _sorted_out(looked: Sequence[_Looked]) -> Survey:
    frames: dict[str, RawFrame] = {}
    left_out = [one.left_out for one in looked if one.left_out is not None]
    for one in looked:
        if one.frame is None:
            continue
        twin = frames.setdefault(one.frame.sha256, one.frame)
        if twin is not one.frame:
            reason = f"the same frame as {twin.source.name}, which is used"
            left_out.append(LeftOut(name=one.path.name, reason=reason, expected=True))
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
