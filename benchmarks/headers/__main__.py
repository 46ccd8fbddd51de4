"""``python -m benchmarks.headers FOLDER``: facts of real files, compared with the record of their archive.

FOLDER has the headers of files as texts (.txt) and next to each the archive's record (.json). The exit code is 1 if a
difference is not explained.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.headers.archive import ArchiveFile, archive_files
from benchmarks.headers.compare import Compared, compare
from benchmarks.headers.places import Seen
from deployments.printable_output import ArgumentParser
from imaging.frames.find_files import CheckParameters
from imaging.io.examine import examine
from imaging.io.raw_file import read_headers
from nirflow.console.output import print_lines
from nirflow.console.tables import Column, print_json, print_table


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and print; return 1 if a difference is not explained."""
    parser = ArgumentParser(prog="python -m benchmarks.headers", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of headers, or of folders of them")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    try:
        files = archive_files(options.folder)
    except FileNotFoundError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory() as scratch:
        found = {one: list(compare(look(one, Path(scratch)))) for one in files}
    if options.json:
        print_json(
            [vars(one) | {"folder": file.folder} for file, compared in found.items() for one in compared]
        )
    else:
        _print(found)
    return int(any(one.unexplained for compared in found.values() for one in compared))


def look(file: ArchiveFile, scratch: Path) -> Seen:
    """Write a file with the headers, and examine it as `reduce` does."""
    path = file.write(scratch)
    try:
        examined = examine(path, CheckParameters())
        primary, image = read_headers(path)
        return Seen(file, examined, (primary, image or {}))
    finally:
        path.unlink()


def _print(found: dict[ArchiveFile, list[Compared]]) -> None:
    rows = []
    for folder in dict.fromkeys(file.folder for file in found):
        of_it = [one for file, compared in found.items() if file.folder == folder for one in compared]
        for fact in dict.fromkeys(one.fact for one in of_it):
            ones = [one for one in of_it if one.fact == fact]
            agree = sum(one.agrees for one in ones)
            explained = sum(not one.agrees and bool(one.why) for one in ones)
            rows.append([folder, fact, len(ones), agree, explained, len(ones) - agree - explained])
    names = ("folder", "fact", "files", "agree", "explained", "unexplained")
    print_table([Column(name) for name in names], rows)
    every = [one for compared in found.values() for one in compared]
    why = Counter((one.fact, one.why) for one in every if not one.agrees and one.why)
    if why:
        print_lines("Explained differences:")
        print_table(
            [Column("fact"), Column("files"), Column("example"), Column("why", fold=True)],
            [[fact, number, _example(every, fact, text), text] for (fact, text), number in why.items()],
        )
    for one in every:
        if one.unexplained:
            print_lines(f"{one.file}: {one.fact} is {one.ours}, but {one.archive} in the archive")
    left = sum(one.unexplained for one in every)
    agree = sum(one.agrees for one in every)
    known = sum(why.values())
    print_lines(
        f"{len(found)} files, {len(every)} facts: {agree} agree, {known} differ for a known reason, {left} for none."
    )


def _example(every: Sequence[Compared], fact: str, why: str) -> str:
    one = next(one for one in every if (one.fact, one.why) == (fact, why) and not one.agrees)
    return f"{one.file}: {one.ours} / {one.archive}"


if __name__ == "__main__":
    sys.exit(main())
