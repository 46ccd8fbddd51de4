"""Raw frames: recorded in a few statements, whatever their number."""

from __future__ import annotations

import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import ARRAY, Connection, Text, Uuid, any_, bindparam, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert

from calib_store.model.records import Frame, FrameRecord, IngestReport, KnownFile, StatusChange
from calib_store.tables.schema import bright_pixels, frame_files, frame_headers, frame_history, frames
from imaging.errors import StoreError
from imaging.frames.facts import FrameFacts
from imaging.frames.file_names import plain_name

_HEX = re.compile(r"[0-9a-f]{6,64}")

#: Another store's description of a frame: sha256, name, facts, quarantine and header.
Description = tuple[str, str, FrameFacts | None, str | None, Mapping[str, Any]]

#: Facts that frames have in common whose pixels are those of one array.
_ARRAY = ("instrument", "detector", "section", "binning")

#: Facts that have their own column for searches.
_COLUMNS = (
    "kind", "exposure_time", "coadds", "read_pairs", "filter_id", "target", "observation_id", "data_label",
    "started",
)  # fmt: skip


class Exposed(NamedTuple):
    """An exposure with bright pixels."""

    sha256: str
    name: str
    started: datetime
    ended: datetime


def exposed(
    connection: Connection, facts: FrameFacts, first: datetime, last: datetime, as_of: datetime | None = None
) -> tuple[Exposed, ...]:
    """Return exposures of a frame's pixels that ended between two times (both included), by start, then as added."""
    one = bright_pixels
    query = (
        select(one.c.frame_sha256, frames.c.name, one.c.started, one.c.ended)
        .join(frames, frames.c.sha256 == one.c.frame_sha256)
        .where(*(one.c[name] == plain_text(getattr(facts, name)) for name in _ARRAY))
        .where(one.c.ended >= first, one.c.ended <= last)
        .order_by(one.c.started, one.c.added_at, one.c.frame_sha256)
    )
    if as_of is not None:
        query = query.where(one.c.added_at <= as_of)
    return tuple(Exposed(*row) for row in connection.execute(query))


def bright_pixels_of(connection: Connection, sha256s: Iterable[str]) -> dict[str, bytes]:
    """Return the bright pixels of frames, as recorded."""
    found = connection.execute(
        select(bright_pixels.c.frame_sha256, bright_pixels.c.pixels)
        .where(bright_pixels.c.frame_sha256 == any_of(sha256s))
    )  # fmt: skip
    return {sha256: bytes(pixels) for sha256, pixels in found}


def known_files(connection: Connection, paths: Iterable[Path]) -> dict[Path, KnownFile]:
    """Return what is known about the files among ``paths`` that were seen before."""
    by_text = {_path_text(path): path for path in paths}
    found = connection.execute(
        select(frame_files.c.path, frame_files.c.size, frame_files.c.mtime_ns, frame_files.c.frame_sha256)
        .where(frame_files.c.path == any_of(by_text))
    )  # fmt: skip
    return {by_text[path]: KnownFile(size, changed_ns, sha256) for path, size, changed_ns, sha256 in found}


def distrust(connection: Connection, path: Path) -> None:
    """Mark a file as changed, whatever its size and date."""
    write = frame_files.update().where(frame_files.c.path == _path_text(path))
    connection.execute(write.values(size=-1, mtime_ns=-1))


def facts_of(connection: Connection, sha256s: Iterable[str]) -> dict[str, FrameFacts]:
    """Return the facts of the usable frames that the store knows."""
    found = connection.execute(
        select(frames.c.sha256, frames.c.facts)
        .where(frames.c.sha256 == any_of(sha256s), frames.c.facts.is_not(None), frames.c.quarantine.is_(None))
    )  # fmt: skip
    return {sha256: FrameFacts.model_validate(facts) for sha256, facts in found}


def usable_of(connection: Connection, sha256s: Iterable[str]) -> dict[str, bool]:
    """Return whether each frame that the store knows is free of quarantine."""
    found = connection.execute(
        select(frames.c.sha256, frames.c.quarantine).where(frames.c.sha256 == any_of(sha256s))
    )
    return {sha256: quarantine is None for sha256, quarantine in found}


def rejections(
    connection: Connection, sha256s: Iterable[str], as_of: datetime | None = None
) -> dict[str, StatusChange]:
    """Return the frames among ``sha256s`` that a user rejected and nobody has reinstated, with that decision."""
    last = (
        select(frame_history)
        .distinct(frame_history.c.frame_sha256)
        .where(frame_history.c.frame_sha256 == any_of(sha256s))
        .order_by(frame_history.c.frame_sha256, frame_history.c.changed_at.desc(), frame_history.c.id.desc())
    )
    if as_of is not None:
        last = last.where(frame_history.c.changed_at <= as_of)
    return {
        row.frame_sha256: StatusChange(row.status, None, row.author, row.reason, row.changed_at)
        for row in connection.execute(last)
        if row.status == "rejected"
    }


def with_sha256s(connection: Connection, sha256s: Iterable[str]) -> dict[str, Frame]:
    """Return the frames that the store knows, with the paths of their files."""
    wanted = list(sha256s)
    paths = (
        select(frame_files.c.frame_sha256, func.array_agg(frame_files.c.path).label("paths"))
        .where(frame_files.c.frame_sha256 == any_of(wanted))
        .group_by(frame_files.c.frame_sha256)
        .subquery()
    )
    rows = connection.execute(
        select(frames, paths.c.paths)
        .join_from(frames, paths, frames.c.sha256 == paths.c.frame_sha256, isouter=True)
        .where(frames.c.sha256 == any_of(wanted))
    ).all()
    rejected = rejections(connection, wanted)
    return {
        row.sha256: Frame(
            sha256=row.sha256,
            name=row.name,
            facts=FrameFacts.model_validate(row.facts) if row.facts is not None else None,
            quarantine=row.quarantine,
            rejected=rejected[row.sha256].reason if row.sha256 in rejected else None,
            paths=tuple(Path(path) for path in sorted(row.paths or ())),
            added_at=row.added_at,
        )
        for row in rows
    }


def named(connection: Connection, name: str) -> tuple[Frame, ...]:
    """Return frames that match ``name``: a file name (with or without ``.fits``) or first digits (6 or more) of a
    sha256."""
    plain = plain_text(plain_name(name))
    condition = or_(frames.c.name == plain, frames.c.name == f"{plain}.fits")
    if _HEX.fullmatch(name.lower()):
        digits = name.lower()
        condition = or_(condition, frames.c.sha256.between(digits.ljust(64, "0"), digits.ljust(64, "f")))
    found = list(connection.scalars(select(frames.c.sha256).where(condition).limit(20)))
    known = sorted(with_sha256s(connection, found).values(), key=lambda frame: (frame.added_at, frame.sha256))
    # A file that was incomplete and arrived again: the incomplete one is never meant.
    whole = [frame for frame in known if frame.facts is not None]
    return tuple(whole or [frame for frame in known if frame.paths] or known)


def started_between(
    connection: Connection, first: datetime, last: datetime, kinds: Sequence[str] = ()
) -> tuple[Frame, ...]:
    """Return frames whose exposures began between two times (the first included), in order of time."""
    query = select(frames.c.sha256).where(frames.c.started >= first, frames.c.started < last)
    if kinds:
        query = query.where(frames.c.kind == any_of(kinds))
    found = list(connection.scalars(query.order_by(frames.c.started, frames.c.name, frames.c.sha256)))
    known = with_sha256s(connection, found)
    return tuple(known[sha256] for sha256 in found)


def refused_of(connection: Connection, nights: Sequence[date]) -> tuple[Frame, ...]:
    """Return frames without facts that have a file with one of the nights in its name, in order of name."""
    # N or S for the telescope, the night, another S and the number.
    patterns = [f"%/_{night:%Y%m%d}S%" for night in nights]
    better = frames.alias()
    replaced = select(better.c.sha256).where(better.c.name == frames.c.name, better.c.facts.is_not(None))
    query = (
        select(frames.c.sha256)
        .join(frame_files, frame_files.c.frame_sha256 == frames.c.sha256)
        .where(frames.c.facts.is_(None), frame_files.c.path.like(any_of(patterns)), ~replaced.exists())
        .distinct()
    )
    known = with_sha256s(connection, connection.scalars(query))
    return tuple(sorted(known.values(), key=lambda frame: (frame.name, frame.sha256)))


def header_of(connection: Connection, sha256: str) -> dict[str, Any]:
    """Return the recorded primary header of a frame."""
    found = connection.scalar(select(frame_headers.c.header).where(frame_headers.c.frame_sha256 == sha256))
    return dict(found or {})


def note(connection: Connection, described: Sequence[Description]) -> int:
    """Record frames that another store knows and return how many are new. Known frames are left unchanged."""
    if not described:
        return 0
    ordered = sorted(described, key=lambda one: one[0])
    write = insert(frames).on_conflict_do_nothing().returning(frames.c.sha256)
    rows = [_row(sha256, name, facts, quarantine) for sha256, name, facts, quarantine, _ in ordered]
    new = connection.execute(write, [row | {"in_run": True} for row in rows]).all()
    headers = insert(frame_headers).on_conflict_do_nothing()
    connection.execute(headers, [{"frame_sha256": one[0], "header": plain_json(one[4])} for one in ordered])
    return len(new)


def ingest(connection: Connection, records: Sequence[FrameRecord]) -> IngestReport:
    """Record frames and files; see `calib_store.tables.raw_frames.RawFrames.ingest`."""
    if not records:
        return IngestReport(0, 0, (), ())
    by_sha: dict[str, list[FrameRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda r: (r.sha256, _path_text(r.path))):
        if record.facts is None and record.quarantine is None:
            raise StoreError(
                f"{record.path.name} has neither facts nor a reason for its quarantine.",
                remedy="Give one of the two.",
            )
        by_sha[record.sha256].append(record)
    # Rows are written in the order of their keys: two processes that record the same night cannot deadlock.
    firsts = [same[0] for same in by_sha.values()]
    known = set(connection.scalars(select(frames.c.sha256).where(frames.c.sha256 == any_of(by_sha))))
    _write_frames(connection, firsts)
    headers = insert(frame_headers).on_conflict_do_nothing()
    connection.execute(headers, [{"frame_sha256": r.sha256, "header": plain_json(r.header)} for r in firsts])
    _renew(connection, known)
    _write_files(connection, [record for same in by_sha.values() for record in same])
    _write_bright(connection, firsts)
    return IngestReport(
        new=len(by_sha) - len(known),
        known=len(known),
        duplicates=tuple((sha, tuple(r.path for r in same)) for sha, same in by_sha.items() if len(same) > 1),
        renamed_content=_other_content(connection, firsts),
    )


def _write_frames(connection: Connection, records: Sequence[FrameRecord]) -> None:
    rows = [_row(one.sha256, one.path.name, one.facts, one.quarantine) for one in records]
    write = insert(frames)
    new = write.excluded
    # The facts derived from the same bytes may change with the software; the bytes and their name stay, whatever the
    # names of copies.
    facts = func.jsonb_set(new.facts, text("'{name}'"), func.to_jsonb(frames.c.name))  # NULL stays NULL
    connection.execute(
        write.on_conflict_do_update(
            index_elements=["sha256"],
            set_={name: new[name] for name in ("quarantine", *_COLUMNS)}
            # One that leaves quarantine is new: no run has used it.
            | {
                "facts": facts,
                "in_run": frames.c.in_run & frames.c.quarantine.is_not_distinct_from(new.quarantine),
            },
            where=or_(
                frames.c.facts.is_distinct_from(facts),
                frames.c.quarantine.is_distinct_from(new.quarantine),
            ),
        ),
        rows,
    )


def _renew(connection: Connection, known: Iterable[str]) -> None:
    """Make frames new that had no file here until now."""
    here = select(frame_files.c.path).where(frame_files.c.frame_sha256 == frames.c.sha256).exists()
    first = frames.update().where(frames.c.sha256 == any_of(sorted(known)), frames.c.in_run, ~here)
    connection.execute(first.values(in_run=False))


def _row(sha256: str, name: str, facts: FrameFacts | None, quarantine: str | None) -> dict[str, Any]:
    return {
        "sha256": sha256,
        "name": plain_text(plain_name(name)),
        **{fact: plain_json(getattr(facts, fact)) if facts else None for fact in _COLUMNS[:-1]},
        "started": facts.started if facts else None,
        "facts": plain_json(facts.model_dump(mode="json")) if facts else None,
        "quarantine": plain_text(quarantine) if quarantine is not None else None,
    }


def _write_files(connection: Connection, records: Sequence[FrameRecord]) -> None:
    rows = {
        text: {"path": text, "size": r.size, "mtime_ns": r.changed_ns, "frame_sha256": r.sha256}
        for text, r in sorted(((_path_text(r.path), r) for r in records), key=lambda one: one[0])
    }
    write = insert(frame_files)
    new = write.excluded
    same = (
        (frame_files.c.size == new.size)
        & (frame_files.c.mtime_ns == new.mtime_ns)
        & (frame_files.c.frame_sha256 == new.frame_sha256)
    )
    connection.execute(
        write.on_conflict_do_update(
            index_elements=["path"],
            set_={name: new[name] for name in ("size", "mtime_ns", "frame_sha256")},
            where=~same,
        ),
        list(rows.values()),
    )


def _write_bright(connection: Connection, records: Sequence[FrameRecord]) -> None:
    """Record bright pixels; a frame without any has a row only if it had some by an earlier table of its instrument."""
    looked = [(r.sha256, r.bright, r.facts) for r in records if r.bright is not None and r.facts is not None]
    full = [
        {name: plain_text(getattr(facts, name)) for name in _ARRAY}
        | {
            "frame_sha256": sha256,
            "started": facts.started,
            "ended": facts.ended,
            "pixels": bright.to_bytes(),
        }
        for sha256, bright, facts in looked
        if bright.pixels.size
    ]
    if full:
        write = insert(bright_pixels)
        new = write.excluded
        columns = (*_ARRAY, "started", "ended", "pixels")
        write = write.on_conflict_do_update(
            index_elements=["frame_sha256"], set_={name: new[name] for name in columns}
        )
        connection.execute(write, full)
    nothing = {sha256: bright for sha256, bright, _ in looked if not bright.pixels.size}
    if nothing:
        empty = bright_pixels.update().where(bright_pixels.c.frame_sha256 == any_of(nothing))
        connection.execute(empty.values(pixels=next(iter(nothing.values())).to_bytes()))


def _other_content(
    connection: Connection, records: Sequence[FrameRecord]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    names = {plain_text(plain_name(r.path.name)) for r in records}
    found = connection.execute(
        select(frames.c.name, frames.c.sha256)
        .where(frames.c.name == any_of(names))
        .order_by(frames.c.name, frames.c.added_at, frames.c.sha256)
    )
    by_name: dict[str, list[str]] = defaultdict(list)
    for name, sha256 in found:
        by_name[name].append(sha256)
    return tuple((name, tuple(shas)) for name, shas in by_name.items() if len(shas) > 1)


def plain_text(value: str) -> str:
    """Return a text that PostgreSQL can store: without NUL and lone surrogates."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "backslashreplace").decode()


def plain_json(value: Any) -> Any:
    """Return a value of a header or a record as valid JSON; an infinity or NaN becomes its name."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, Mapping):
        return {plain_text(str(k)): plain_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(v) for v in value]
    if hasattr(value, "item"):  # a numpy scalar
        return plain_json(value.item())
    return plain_text(str(value))


def _path_text(path: Path) -> str:
    """Return an absolute path as text; bytes that are not UTF-8 are escaped."""
    return os.fsencode(path.absolute()).decode("utf-8", "backslashreplace")


def any_of(values: Iterable[Any], kind: type[Text] | type[Uuid[Any]] = Text) -> Any:
    """Return one array parameter: the statement does not depend on the number of values, and IN accepts only 65535."""
    return any_(bindparam(None, list(values), type_=ARRAY(kind)))
