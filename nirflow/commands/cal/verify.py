"""``nirflow cal verify`` and ``gc``: verification of every file, and removal of unreferenced ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imaging.listed import counted
from imaging.machine import size_text
from nirflow.commands.cal.naming import Json, open_store
from nirflow.console.output import print_lines
from nirflow.console.tables import Column, print_json, print_table
from nirflow.exits import Exit, UsageError


def verify(
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Replace lost and damaged files if copies are found; record the others as lost."
        ),
    ] = False,
    copies: Annotated[
        list[Path] | None,
        typer.Option(
            "--copies", metavar="DIR", help="Look for copies in this folder; with --repair. Repeatable."
        ),
    ] = None,
    note_lost: Annotated[
        int | None,
        typer.Option(
            "--note-lost",
            metavar="N",
            min=0,
            help="Confirm that the N missing files are lost, in case the disk may not be mounted; with --repair.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    json: Json = False,
) -> None:
    """Read every product's file and compare it with its checksum. Exit code 4 if one is not intact.

    --repair records a missing file as lost for every machine, so it stops if the folder of the files is in
    doubt.
    """
    from calib_store.curation.verify import number_of_products
    from calib_store.curation.verify import verify as verify_store
    from nirflow.console.progress import progress_bar

    if copies and not repair:
        raise UsageError("--copies is for repairs.", remedy="Add --repair.")
    if note_lost is not None and not repair:
        raise UsageError("--note-lost is for repairs.", remedy="Add --repair.")
    if absent := next((folder for folder in copies or () if not folder.is_dir()), None):
        raise UsageError(f"--copies {absent}: no such folder.", remedy="Correct the path.")
    with open_store() as store:
        number = number_of_products(store)
        with progress_bar("Reading", number, quiet=quiet or json) as advance:
            done = verify_store(
                store, repair=repair, copies=copies or (), lost=note_lost, progress=lambda product: advance()
            )
    if json:
        findings = [
            {"product": str(f.product.id), "name": f.product.name, "condition": f.condition, "done": f.done}
            for f in done.findings
        ]
        print_json(
            {
                "checked": done.checked, "bytes": done.size, "findings": findings, "well": done.well,
                "orphans": [found._asdict() for found in done.orphans],
                "leftovers": [found._asdict() for found in done.leftovers],
                "missing": done.missing, "doubt": done.doubt,
            }
        )  # fmt: skip
    else:
        if done.findings:
            rows = [
                [
                    f.product.short_id, f.product.kind, f.product.name,
                    f.condition if f.condition != "intact" else "intact, but recorded as damaged", f.done or None,
                ]
                for f in done.findings
            ]  # fmt: skip
            columns = [
                Column("id", style="bold"), Column("kind"), Column("name", fold=True), Column("file", fold=True),
                Column("done"),
            ]  # fmt: skip
            print_table(columns, rows)
            if not repair and done.doubt:
                print_lines(
                    f"{done.doubt} Mount the disk or correct NIRFLOW_OBJECTS_URL first. Only if the files are lost: "
                    f"--repair --note-lost {done.missing} records for every machine that they have to be made again."
                )
            elif not repair:
                print_lines("--repair replaces files from copies, and marks the others to be made again.")
        read = f"{counted(done.checked, 'product')} ({size_text(done.size)}) read"
        print_lines(f"{read}, {len(done.findings)} with problems.")
        if done.orphans or done.leftovers:
            files = f"{counted(len(done.orphans), 'file')} that no product refers to"
            print_lines(
                f"{files}, {len(done.leftovers)} temporary or set aside: see nirflow cal gc --dry-run"
            )
    if not done.well:
        raise typer.Exit(Exit.PARTIAL)


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
    grace: Annotated[
        float, typer.Option("--grace", metavar="HOURS", min=0, help="Keep files younger than this, hours.")
    ] = 24.0,
    json: Json = False,
) -> None:
    """Remove files that no product refers to, after listing them; products are never removed."""
    from datetime import timedelta

    from calib_store.curation.verify import gc as list_waste
    from calib_store.curation.verify import remove
    from deployments.settings.all_settings import Settings

    period = timedelta(hours=grace)
    with open_store() as store:
        staging = Settings().data_dir.expanduser().absolute() / "staging"
        waste = list_waste(store, grace=period, staging=staging)
        if not json and waste:
            print_table(
                [Column("what"), Column("size", "right"), Column("file", fold=True)],
                [[one.what, size_text(one.size), one.place] for one in waste],
            )
        gone = () if dry_run else remove(store, waste, grace=period)
    total = sum(one.size for one in (waste if dry_run else gone))
    if json:
        print_json(
            {
                "files": [{"what": o.what, "size": o.size, "file": o.place} for o in waste],
                "removed": None if dry_run else len(gone), "bytes": total,
            }
        )  # fmt: skip
    elif dry_run:
        print_lines(f"Would remove: {counted(len(waste), 'file')}, {size_text(total)}.")
    else:
        print_lines(f"Gone: {counted(len(gone), 'file')}, {size_text(total)}.")
