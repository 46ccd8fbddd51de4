"""``nirflow instruments``: list the tables of instruments, check one on files, start a new one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imaging.io.atomic import write_complete
from imaging.listed import counted, listed
from imaging.printable import printable
from nirflow.console.output import print_lines
from nirflow.console.tables import Column, print_json, print_table
from nirflow.exits import Exit, UsageError

if TYPE_CHECKING:
    from imaging.frames.facts import FrameFacts
    from imaging.instruments.examination import FactRead
    from imaging.instruments.instrument import Instrument

app = typer.Typer(
    help="The supported instruments, each defined by a table: list them, check a table on files, start a new one.",
    invoke_without_command=True,
)
#: The problem of a file without a keyword (`imaging.instruments.keywords`).
_MISSING = "keyword is missing"
#: Where a table defines what it derives from several keywords.
_PLACES = {"lamp": ("lamp",), "kind": ("kinds",), "filter_id": ("wheels",), "instrument": ("name",)}
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


@app.callback()
def _list(context: typer.Context, json: Json = False) -> None:
    if context.invoked_subcommand is not None:
        return
    from imaging.instruments import catalogue

    tables = catalogue.tables()
    if json:
        print_json(
            [
                {"name": t.instrument.name, "title": t.instrument.title, "version": t.instrument.version,
                 "origin": t.origin, "file": t.source}
                for t in tables
            ]
        )  # fmt: skip
        return
    rows = [
        [t.instrument.name, t.instrument.title, ", ".join(t.instrument.aliases), t.origin, str(t.source)]
        for t in tables
    ]
    print_table(
        [
            Column("name", style="bold"),
            Column("instrument"),
            Column("also"),
            Column("from"),
            Column("table", fold=True),
        ],
        rows,
    )


@app.command()
def check(
    table: Annotated[
        str, typer.Argument(metavar="TABLE", help="A table (.toml), or the name of an instrument.")
    ],
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Raw frames: files, folders or globs.")],
    json: Json = False,
) -> None:
    """Show each fact of each file with its keyword, any problems, and what could be reduced.

    Exit code 4 if something is missing or out of range.
    """
    from imaging.errors import FrameError
    from imaging.frames.facts import facts_from_headers
    from imaging.instruments import catalogue
    from imaging.instruments.examination import FactRead, read_facts
    from imaging.io.raw_file import read_headers
    from nirflow.survey import frame_files
    from tasks.support.parameters import ReductionParameters, for_instrument

    path = Path(table).expanduser()
    if path.suffix == ".toml" or path.exists():
        instrument = catalogue.read_table(path)
        catalogue.try_table(instrument, path)
    else:
        instrument = catalogue.named(table)
    for_instrument(ReductionParameters(), instrument)  # its [defaults] are valid
    read: dict[Path, list[FactRead]] = {}
    usable: list[FrameFacts] = []
    for file in frame_files(files).files:
        try:
            primary, extension = read_headers(file)
            read[file] = read_facts(instrument, primary, extension, file.name)
            if not any(one.problem for one in read[file]):
                usable.append(facts_from_headers(primary, extension, name=file.name))
        except FrameError as error:
            read.setdefault(file, []).append(FactRead("file", error.keyword or "", error.found, error.reason))
    wrong = sum(any(one.problem for one in facts) for facts in read.values())
    possible = _possible(instrument, usable)
    if json:
        print_json(
            {
                "files": {str(f): [vars(one) for one in facts] for f, facts in read.items()},
                "possible": possible,
            }
        )
    else:
        _print_facts(read)
        print_lines("What could be reduced:" if possible else "Nothing could be reduced.")
        print_lines(*(f"  {line}" for line in possible))
        print_lines(*_summary(read, path if path.suffix == ".toml" else None))
        print_lines(f"{counted(len(read), 'file')}, {wrong} with a problem.")
    if wrong:
        raise typer.Exit(Exit.PARTIAL)


@app.command()
def new(
    file: Annotated[Path, typer.Option("--from", metavar="FILE", help="A raw frame of the instrument.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="TABLE", help="File for the table.")
    ] = None,
) -> None:
    """Write a first version of a table for the instrument of a frame, to be corrected and completed."""
    from imaging.instruments.examination import first_table
    from imaging.io.data_cards import image_shape
    from imaging.io.raw_file import read_headers

    primary, extension = read_headers(file)
    shape = image_shape(primary if extension is None else extension)
    if len(shape) != 2:
        raise UsageError(f"{file} has no image.", remedy="Give a raw frame.")
    text = first_table(primary, extension, (shape[0], shape[1]))
    if out is None:
        print_lines(*text.rstrip("\n").split("\n"))
        return
    if out.exists():
        raise UsageError(f"{out} already exists.", remedy="Name another file.")
    write_complete(out, [text.encode()])
    print_lines(f"Wrote {out}. Complete it, then run: nirflow instruments check {out} {file}")


def _print_facts(read: dict[Path, list[FactRead]]) -> None:
    columns = [
        Column("fact", style="bold"), Column("value", fold=True), Column("keyword", fold=True),
        Column("problem", style="red", fold=True),
    ]  # fmt: skip
    for file, facts in read.items():
        print_lines(printable(str(file)), style="bold")
        rows: list[list[Any]] = [[one.fact, one.value, one.keywords, one.problem] for one in facts]
        print_table(columns, rows)


def _summary(read: dict[Path, list[FactRead]], table: Path | None) -> list[str]:
    """Return each problem once, with the number of files that have it, and where the table names the fact."""
    from imaging.instruments.checking.toml_lines import line_of

    files: dict[tuple[str, str, str], list[str]] = {}
    for file, facts in read.items():
        own = {one.keywords for one in facts if one.problem and one.fact != "kind"}
        for one in facts:
            if one.problem and (one.fact != "kind" or one.keywords not in own):
                files.setdefault((one.fact, one.keywords, one.problem), []).append(file.name)
    found = ["Problems:"] if files else []
    text = table.read_text() if table is not None else ""
    for (fact, _, problem), names in files.items():
        place = _PLACES.get(fact, ("facts", fact))
        line = line_of(text, place) if text and (place[0] != "facts" or f"\n{fact}" in text) else None
        where = f"{fact} ({table}, line {line})" if line is not None else fact
        remedy = ""
        if problem.startswith(_MISSING):
            some = len(names) < len(read)
            remedy = (
                "give it a default, or name another keyword" if some else "name the keyword that they have"
            )
        of_it = f"  {where}: {problem} in {len(names)} of {counted(len(read), 'file')} ({listed(names)})"
        found.append(f"{of_it}: {remedy}" if remedy else of_it)
    return found


def _possible(instrument: Instrument, frames: list[FrameFacts]) -> list[str]:
    """Return what could be made from frames: each group, and what it lacks."""
    from imaging.frames.alike import are_alike
    from imaging.frames.calibration_groups import calibration_groups, flat_groups
    from imaging.frames.groups import science_groups

    reasons = {facts.name: facts.unfit() or facts.first_frame() for facts in frames}
    left_out = [f"{name}: {reason}" for name, reason in reasons.items() if reason]
    frames = [facts for facts in frames if not reasons[facts.name]]
    groups = calibration_groups(frames)
    darks = [group for group in groups if group.kind == "dark"]
    pairs = flat_groups(groups)
    flats = [pair for pair in pairs if not pair.missing]
    found = [f"dark of {group.exposure_time:g} s: {counted(len(group.members), 'frame')}" for group in darks]
    for pair in flats:
        light = pair.on or pair.off
        assert light is not None
        found.append(f"flat in {light.filter}: {counted(len(light.members), 'frame')} with light")
    for pair in pairs:
        if pair.missing and (there := pair.on or pair.off):
            frames_there = counted(len(there.members), "frame")
            found.append(f"no flat in {there.filter}: {frames_there} without {' and '.join(pair.missing)}")
    by_name = {facts.name: facts for facts in frames}
    for group in science_groups(frames):
        first = by_name[group.objects[0]]
        lights = [(pair.on or pair.off) for pair in flats]
        dark = any(are_alike(first, group.facts, instrument.same["dark"]) for group in darks)
        flat = any(are_alike(first, light.facts, instrument.same["flat"]) for light in lights if light)
        missing = [*([] if dark else ["dark"]), *([] if flat else ["flat"])]
        what = (
            f"without a {' and a '.join(missing)} among these files" if missing else "with its dark and flat"
        )
        places = {(by_name[name].poffset, by_name[name].qoffset) for name in group.objects}
        if len(group.objects) > 1 and len(places) == 1:
            what += "; all at the same offsets (poffset, qoffset), so that no frame shows the sky of another"
        found.append(f"stack of {counted(len(group.objects), 'frame')} in {group.filter}, {what}")
    return found + left_out
