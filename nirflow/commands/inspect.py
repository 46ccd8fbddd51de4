"""``nirflow inspect`` and ``nirflow select``: the facts of frames, and a selection by them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imaging.listed import gathered
from nirflow.console.output import print_lines
from nirflow.console.tables import Column, print_json, print_table
from nirflow.exits import Exit, UsageError

if TYPE_CHECKING:
    from imaging.frames.facts import FrameFacts
    from imaging.frames.find_files import Found, PassedOver
    from imaging.io.examine import Examination
    from nirflow.survey import Group

_RULES = """
Join comparisons (== != < <= > >= in, not in) with and, or, not and parentheses.
Texts have quotes, lists brackets: filter in ['Y', 'J'], 'DARK' in tags, 'WISE' in target.
Days and times are texts, UTC: night >= '2013-11-20', started < '2013-11-21T03:00'.
A fact that a frame lacks is none: lamp == none."""

Paths = Annotated[
    list[Path],
    typer.Argument(
        metavar="PATH", help="Files, folders or globs: .fits, .fit, .fts; also .gz, .bz2, .xz, .fz."
    ),
]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Also search subfolders.")]
#: For small nights simulated by tests and tutorials; a real frame of another shape is broken.
AnyShape = Annotated[
    bool, typer.Option("--any-shape", help="Accept frames of any shape: small simulated ones.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def inspect(
    paths: Paths,
    recursive: Recursive = False,
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Also read the pixels: finds truncated files and dead frames.")
    ] = False,
    any_shape: AnyShape = False,
    json: Json = False,
) -> None:
    """Show the facts of each frame, which frames belong together, and any problems.

    Reads only headers (of compressed files, the first blocks). Exit code 4 if a file is broken.
    """
    from nirflow.survey import group_frames

    found = files_or_exit(paths, recursive, quiet=json)
    frames = _survey(found, pixels=pixels, any_shape=any_shape)
    groups = group_frames(frames)
    if json:
        print_json(_as_json(frames, groups, found.passed_over))
    else:
        _print_frames(frames, groups)
        _print_groups(groups)
        _print_problems(frames, groups)
    if any(frame.broken for frame in frames):
        raise typer.Exit(Exit.PARTIAL)


def select(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH", help="Files, folders or globs.")
    ] = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tags", help="Tags that a frame must have: DARK or IMAGE,RAW.")
    ] = None,
    not_tags: Annotated[
        list[str] | None, typer.Option("--not-tags", help="Tags that a frame must not have.")
    ] = None,
    where: Annotated[
        str, typer.Option("--where", help="An expression: 'exposure_time == 120 and read_pairs == 8'.")
    ] = "",
    names: Annotated[
        bool, typer.Option("--names", help="List the names, tags and rules of expressions, and exit.")
    ] = False,
    recursive: Recursive = False,
    any_shape: AnyShape = False,
    json: Json = False,
) -> None:
    """Print the files whose frames match, one per line, for use by other commands.

    nirflow select night --tags DARK --where 'exposure_time == 120 and read_pairs == 8'
    """
    from nirflow.expressions.frame_names import frame_lookup, frame_names
    from nirflow.expressions.language import Expression

    if names:
        _print_names(json)
        return
    if not paths:
        raise UsageError("PATH is missing.", remedy="Name files or folders, or use --names.")
    wanted, unwanted = _tags(tags), _tags(not_tags)
    expression = Expression.parse(where, frame_names()) if where else None
    frames = _survey(files_or_exit(paths, recursive), any_shape=any_shape)
    chosen = [
        frame
        for frame in frames
        if frame.facts is not None
        and not frame.broken
        and wanted <= frame.facts.tags
        and not unwanted & frame.facts.tags
        and (expression is None or expression.evaluate(frame_lookup(frame.facts)))
    ]
    if json:
        print_json([{"path": frame.path, **_facts_as_json(frame)} for frame in chosen])
    else:
        for frame in chosen:
            print_lines(frame.path)
    broken = [frame for frame in frames if frame.broken]
    for same in gathered((str(frame.path), f"{frame.reason}. {frame.remedy}") for frame in broken):
        print_lines(f"{same.label}: {same.text}", err=True)
    if not chosen:
        print_lines(f"None of {len(frames)} frames matches.", err=True)
        raise typer.Exit(Exit.NOTHING)
    if broken:
        raise typer.Exit(Exit.PARTIAL)


def files_or_exit(paths: Sequence[Path], recursive: bool, *, quiet: bool = False) -> Found:
    """Return the files that were named, and report on standard error what was passed over; without any file, end with
    exit code 3.
    """
    from nirflow.survey import frame_files

    found = frame_files(paths, recursive=recursive)
    if not quiet or not found.files:
        for line in found.summary():
            print_lines(line, err=True)
    if not found.files:
        hint = "" if recursive else " Add --recursive to search subfolders."
        print_lines(f"No frame in {', '.join(map(str, paths))}.{hint}", err=True)
        raise typer.Exit(Exit.NOTHING)
    return found


def _survey(found: Found, *, pixels: bool = False, any_shape: bool) -> list[Examination]:
    from nirflow.console.progress import progress_bar
    from nirflow.survey import survey

    with progress_bar("Reading pixels" if pixels else "Reading headers", len(found.files)) as advance:
        return survey(found.files, pixels=pixels, any_shape=any_shape, progress=advance)


def _tags(given: Sequence[str] | None) -> set[str]:
    """Tags from options: repeated, or separated by commas or spaces; unknown ones are refused."""
    import difflib

    from nirflow.expressions.frame_names import frame_tags

    tags = {tag.upper() for text in given or () for tag in text.replace(",", " ").split()}
    for tag in sorted(tags - frame_tags()):
        close = difflib.get_close_matches(tag, frame_tags(), n=2)
        guess = f"Did you mean {' or '.join(close)}? " if close else ""
        raise UsageError(f"Unknown tag {tag!r}.", remedy=f"{guess}Tags: {', '.join(sorted(frame_tags()))}.")
    return tags


def _print_frames(frames: Sequence[Examination], groups: Sequence[Group]) -> None:
    from imaging.frames.file_names import plain_name

    numbers = {frame.path: number for number, group in enumerate(groups, start=1) for frame in group.frames}
    rows: list[list[object]] = []
    styles: list[str] = []
    for frame in frames:
        facts = frame.facts
        if facts is None:
            rows.append([frame.path.name, "broken", *[None] * 7])
            styles.append("red")
            continue
        rows.append(
            [
                plain_name(frame.path.name).removesuffix(".fits"),
                _type(facts),
                None if facts.kind in ("dark", "bpm") else facts.filter,
                _exposure(facts),
                facts.read_pairs,
                facts.lamp,
                f"{facts.started:%Y-%m-%d %H:%M}",
                _pointing(facts),
                numbers.get(frame.path),
            ]
        )
        styles.append("red" if frame.broken else "" if frame.usable else "yellow")
    columns = [
        Column("frame", fold=True), Column("type"), Column("band"), Column("exposure", "right"),
        Column("reads", "right"), Column("lamp"), Column("start, UT"), Column("P, Q (arcsec)", "right"),
        Column("group", "right"),
    ]  # fmt: skip
    print_table(columns, rows, styles=styles)


def _print_groups(groups: Sequence[Group]) -> None:
    if not groups:
        return
    rows = []
    for number, group in enumerate(groups, start=1):
        facts = [member.facts for member in group.frames if member.facts is not None]
        tags = frozenset.intersection(*(f.tags for f in facts)) - {"RAW", *facts[0].table.tags}
        rows.append(
            [number, group.label, len(facts), _range(facts[0].root, facts[-1].root), " ".join(sorted(tags))]
        )
    columns = [
        Column("group", "right"), Column("what", fold=True), Column("frames", "right"),
        Column("first - last", fold=True), Column("tags", fold=True),
    ]  # fmt: skip
    print_lines()
    print_table(columns, rows)


def _print_problems(frames: Sequence[Examination], groups: Sequence[Group]) -> None:
    unused = [f for f in frames if not (f.broken or f.usable)]
    styled = (
        ("red", "file", [(f.name, f"{f.reason}. {f.remedy}") for f in frames if f.broken]),
        ("yellow", "file", [(f.name, f"not used: {f.reason}. {f.remedy}".rstrip()) for f in unused]),
        ("cyan", "file", [(f.name, f"{note}.") for f in frames for note in f.notes]),
        ("cyan", "group", [(g.label, f"{note}.") for g in groups for note in g.notes]),
    )
    if any(messages for *_, messages in styled):
        print_lines()
    for style, noun, messages in styled:
        for same in gathered(messages, noun):
            print_lines(f"{same.label}: {same.text}", style=style)
    fit = sum(f.usable for f in frames)
    broken = sum(f.broken for f in frames)
    unfit = len(frames) - fit - broken
    print_lines("", f"{len(frames)} files: {fit} usable, {unfit} not used, {broken} broken.")
    if unchecked := _unchecked(frames):
        print_lines(f"Not examined: {' and '.join(unchecked)}. To examine them: --pixels.")


def _unchecked(frames: Sequence[Examination]) -> list[str]:
    """Return the parts that were examined in none of the frames."""
    return list(dict.fromkeys(part for frame in frames for part in frame.unchecked))


def _type(facts: FrameFacts) -> str:
    if facts.processed:
        return f"{facts.product_kind or facts.kind} product"
    if facts.kind == "object" and facts.observation_class in ("acq", "acqCal", "partnerCal"):
        return facts.observation_class
    return facts.kind


def _range(first: str, last: str) -> str:
    """``S20131126S1111 - 1113`` where both are of one night."""
    if first == last:
        return first
    return f"{first} - {last[10:] if first[:10] == last[:10] else last}"


def _exposure(facts: FrameFacts) -> str:
    return f"{facts.exposure_time:g} s" + (f" x {facts.coadds}" if facts.coadds > 1 else "")


def _pointing(facts: FrameFacts) -> str | None:
    """Return the dither of a science frame, arcsec from its target."""
    return f"{facts.poffset:+.1f} {facts.qoffset:+.1f}" if facts.kind == "object" else None


def _facts_as_json(frame: Examination) -> dict[str, Any]:
    if frame.facts is None:
        return {}
    facts = frame.facts
    return {
        **facts.model_dump(mode="json"),
        "tags": sorted(facts.tags), "night": facts.night, "exposure": facts.exposure, "gain": facts.gain,
    }  # fmt: skip


def _as_json(
    frames: Sequence[Examination], groups: Sequence[Group], passed_over: Sequence[PassedOver]
) -> dict[str, Any]:
    labels = {frame.path: group.label for group in groups for frame in group.frames}
    return {
        "frames": [
            {
                "path": frame.path,
                "verdict": frame.verdict,
                "problem": frame.reason if frame.broken else None,
                "remedy": frame.remedy or None,
                "unfit": None if frame.broken else frame.reason or None,
                "unchecked": frame.unchecked,
                "notes": frame.notes,
                "group": labels.get(frame.path),
                "facts": _facts_as_json(frame) or None,
            }
            for frame in frames
        ],
        "groups": [
            {"label": group.label, "frames": [member.path for member in group.frames], "notes": group.notes}
            for group in groups
        ],
        "passed_over": [
            {"folder": one.folder, "kind": one.kind, "names": one.names, "reason": one.reason}
            for one in passed_over
        ],
    }


def _print_names(json: bool) -> None:
    from nirflow.expressions.frame_names import frame_names, frame_tags

    if json:
        print_json(
            [
                {"name": name, "kind": n.kind.value, "meaning": n.meaning, "choices": n.choices}
                for name, n in frame_names().items()
            ]
        )
        return
    rows = [[name, n.kind.value, n.meaning] for name, n in frame_names().items()]
    print_table([Column("name", style="bold"), Column("value"), Column("meaning", fold=True)], rows)
    print_lines("", f"Tags: {', '.join(sorted(frame_tags()))}.")
    print_lines(*_RULES.split("\n"))
