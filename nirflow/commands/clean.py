"""``nirflow clean``: room on the disk, from files that can be made again."""

from __future__ import annotations

from typing import Annotated

import typer

from imaging.machine import size_text
from nirflow.commands.cal.naming import Json, open_store
from nirflow.console.output import print_lines
from nirflow.console.tables import Column, print_json, print_table


def clean(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    json: Json = False,
) -> None:
    """Free disk space: remove files that can be made again and that no run is using.

    These are planes between steps and unpacked raw frames that no run used within the last hour, unfinished products of
    runs that were killed, and files in the store that no product refers to. Products, raw frames and the folders of the
    nights are never touched. The next run is slower by what it makes again.
    """
    from calib_store.curation.verify import gc, remove
    from deployments.settings.all_settings import Settings
    from flows.run.temporary_files import temporary_files
    from imaging.machine import free_bytes
    from tasks.support.workspace import Workspace

    data_dir = Settings().data_dir.expanduser().absolute()
    kinds = temporary_files(Workspace(data_dir=data_dir, out=data_dir))
    found = {one.what: one.expendable() if dry_run else one.limit(0) for one in kinds}
    sizes = {what: (len(files), sum(files.values())) for what, files in found.items()}
    with open_store() as store:
        waste = gc(store)
        gone = waste if dry_run else remove(store, waste)
    sizes["files that no product refers to"] = len(gone), sum(one.size for one in gone)
    total = sum(size for _, size in sizes.values())
    free = free_bytes(data_dir)
    if json:
        print_json(
            {
                "removed": not dry_run,
                "files": [{"what": w, "number": n, "bytes": size} for w, (n, size) in sizes.items()],
                "bytes": total,
                "free": free,
            }
        )
        return
    print_table(
        [Column("what"), Column("number", "right"), Column("size", "right")],
        [[what, number, size_text(size)] for what, (number, size) in sizes.items()],
    )
    said = "Would free" if dry_run else "Freed"
    now = "" if free is None else f"; {size_text(free)} are free in {data_dir}"
    print_lines(f"{said} {size_text(total)}{now}.")
