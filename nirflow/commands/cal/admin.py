"""``nirflow cal init``, ``migrate``, ``status``, ``backup`` and ``restore``: for the owner of a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imaging.listed import counted
from nirflow.commands.cal.naming import Json
from nirflow.console.output import print_lines
from nirflow.console.tables import Column, print_json, print_table
from nirflow.exits import Exit

if TYPE_CHECKING:
    from calib_store.administration.schema_upkeep import Made

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]


def init(json: Json = False) -> None:
    """Create the store: database, tables, roles, rules, folder of the files. Existing parts are kept.

    Without NIRFLOW_DATABASE_URL this is the embedded database, which every command creates automatically.
    """
    from calib_store.administration.schema_upkeep import initialise
    from deployments.settings.all_settings import Settings

    made = initialise(Settings())
    if json:
        print_json(vars(made))
        return
    if made.before is None:
        print_lines(
            f"Created the store in {made.place}{' (and the database)' if made.database_made else ''}."
        )
    elif made.before != made.revision:
        print_lines(f"Upgraded the store in {made.place} from version {made.before} to {made.revision}.")
    else:
        print_lines(f"The store in {made.place} exists, at version {made.revision}; nothing changed.")
    print_lines(f"Files: {made.objects}", f"Rules: {made.rules}")
    _print_roles(made)


def migrate(json: Json = False) -> None:
    """Upgrade the tables of a store to this version of nirflow, completely or not at all; a backup first is
    advisable.
    """
    from calib_store.administration.schema_upkeep import bring_up_to_date
    from deployments.settings.all_settings import Settings

    made = bring_up_to_date(Settings())
    if json:
        print_json(vars(made))
        return
    if made.before == made.revision:
        print_lines(f"The store in {made.place} is at version {made.revision} already.")
    else:
        print_lines(f"Upgraded the store in {made.place} from version {made.before} to {made.revision}.")
    _print_roles(made)


def status(json: Json = False) -> None:
    """Show where the store is, its version and its contents. Exit code 4 if it needs attention."""
    from calib_store.administration.schema_upkeep import initialise, state
    from deployments.settings.all_settings import Settings

    settings = Settings()
    if settings.database_url is None:
        initialise(settings)  # as every command does
    current = state(settings)
    if json:
        print_json({**vars(current), "usable": current.usable})
    else:
        rows: list[list[object]] = [
            ["database", current.place], ["server", f"PostgreSQL {current.server_version}"],
            ["size", f"{current.size / 1e6:.1f} MB"],
            ["tables", f"version {current.revision}" + ("" if current.usable else f", needs {current.newest}")],
            ["account", current.account], ["rules", current.rules], ["files", current.objects],
        ]  # fmt: skip
        rows += [
            [kind, ", ".join(f"{number} {status}" for status, number in numbers.items())]
            for kind, numbers in current.products.items()
        ]
        rows.append(["frames", ", ".join(f"{number} {what}" for what, number in current.frames.items())])
        print_table([Column("", style="bold"), Column("", fold=True)], rows)
        notes = []
        if current.revision is None:
            notes.append("This database has no store yet: nirflow cal init")
        elif not current.usable:
            notes.append("Its tables are not those of this version of nirflow: nirflow cal migrate")
        if current.rules not in (None, current.shipped_rules):
            notes.append(
                f"This version of nirflow comes with the rules {current.shipped_rules}; the store uses its own."
            )
        if current.damaged:
            notes.append(f"{current.damaged} products are damaged: nirflow cal verify")
        if current.missing_roles:
            notes.append(_roles(current.missing_roles))
        for note in notes:
            print_lines(note, style="yellow", err=True)
    if not current.usable or current.damaged:
        raise typer.Exit(Exit.PARTIAL)


def backup(
    target: Annotated[
        Path, typer.Argument(metavar="DIR", help="A new folder, or one with an earlier backup.")
    ],
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write a complete backup of the store into a folder: database and files as of one moment, while work
    continues.

    Exit code 4 if a product's file was missing or damaged and could not be written.
    """
    from calib_store.administration.backup import backup as write
    from calib_store.administration.schema_upkeep import state
    from deployments.settings.all_settings import Settings
    from nirflow.console.progress import progress_bar

    settings = Settings()
    number = sum(sum(numbers.values()) for numbers in state(settings).products.values())
    with progress_bar("Copying files", number, quiet=quiet or json) as advance:
        made = write(settings, target, progress=lambda name: advance())
    if json:
        print_json(made)
    else:
        for name in made.lost:
            print_lines(f"Not in the backup because its file is lost: {name}", style="red", err=True)
        held = f"{counted(made.products, 'product')} and the rows of {counted(made.frames, 'raw frame')}"
        print_lines(f"{held}: {target}")
    if made.lost:
        raise typer.Exit(Exit.PARTIAL)


def restore(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `nirflow cal backup` wrote.")],
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Restore a backup into an empty store; a store with any content is left untouched.

    Exit code 4 if the file of a product is not in the backup: the next reduction makes it again.
    """
    from calib_store.administration.backup_folder import read_backup
    from calib_store.administration.restore import restore as bring_back
    from deployments.settings.all_settings import Settings
    from nirflow.console.progress import progress_bar

    number = read_backup(source).products
    with progress_bar("Copying files", number, quiet=quiet or json) as advance:
        restored = bring_back(Settings(), source, progress=lambda name: advance())
    if json:
        print_json(restored)
    else:
        when = f"{restored.made_at:%Y-%m-%d %H:%M}"
        held = (
            f"{counted(restored.products, 'product')} and the rows of {counted(restored.frames, 'raw frame')}"
        )
        for name in restored.lost:
            print_lines(f"File not in the backup: {name}", style="red", err=True)
        print_lines(f"Restored as of {when}: {held}.")
    if restored.lost:
        raise typer.Exit(Exit.PARTIAL)


def _print_roles(made: Made) -> None:
    if made.missing_roles:
        print_lines(_roles(made.missing_roles), style="yellow", err=True)


def _roles(missing: tuple[str, ...]) -> str:
    made = "; ".join(f"CREATE ROLE {role} NOLOGIN" for role in missing)
    return (
        f"The server lacks {' and '.join(missing)}, and this account may not create roles. Everything works without "
        f"for the owner; for other users ask an administrator to run: {made}; then run nirflow cal init again."
    )
