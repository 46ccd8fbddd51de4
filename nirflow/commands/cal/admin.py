"""``nirflow cal init``, ``migrate``, ``status``, ``backup`` and ``restore``: for the owner of a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nirflow.commands.cal.naming import Json
from nirflow.console.output import say
from nirflow.console.tables import Column, plural, print_json, print_table
from nirflow.exits import Exit

if TYPE_CHECKING:
    from calib_store.administration.schema_upkeep import Made

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]


def init(json: Json = False) -> None:
    """Make the store: database, tables, roles, rules, place of the files. What is there stays.

    Without NIRFLOW_DATABASE_URL this is the embedded database, which every command makes by itself.
    """
    from calib_store.administration.schema_upkeep import initialise
    from deployments.settings.all_settings import Settings

    made = initialise(Settings())
    if json:
        print_json(vars(made))
        return
    if made.before is None:
        say(f"Made the store in {made.place}{' (and the database)' if made.database_made else ''}.")
    elif made.before != made.revision:
        say(f"Brought the store in {made.place} from version {made.before} to {made.revision}.")
    else:
        say(f"The store in {made.place} is there, at version {made.revision}; nothing changed.")
    say(f"Files: {made.objects}", f"Rules: {made.rules}")
    _print_roles(made)


def migrate(json: Json = False) -> None:
    """Bring the tables of a store to this nirflow, whole or not at all; a backup first does no harm."""
    from calib_store.administration.schema_upkeep import bring_up_to_date
    from deployments.settings.all_settings import Settings

    made = bring_up_to_date(Settings())
    if json:
        print_json(vars(made))
        return
    if made.before == made.revision:
        say(f"The store in {made.place} is at version {made.revision} already.")
    else:
        say(f"Brought the store in {made.place} from version {made.before} to {made.revision}.")
    _print_roles(made)


def status(json: Json = False) -> None:
    """Tell what and where the store is, and how much it holds. Exit code 4 where it needs something done."""
    from calib_store.administration.schema_upkeep import initialise, state
    from deployments.settings.all_settings import Settings

    settings = Settings()
    if settings.database_url is None:
        initialise(settings)  # as every command does
    told = state(settings)
    if json:
        print_json({**vars(told), "usable": told.usable})
    else:
        rows: list[list[object]] = [
            ["database", told.place], ["server", f"PostgreSQL {told.server_version}"],
            ["size", f"{told.size / 1e6:.1f} MB"],
            ["tables", f"version {told.revision}" + ("" if told.usable else f", needs {told.newest}")],
            ["account", told.account], ["rules", told.rules], ["files", told.objects],
        ]  # fmt: skip
        rows += [
            [kind, ", ".join(f"{number} {status}" for status, number in numbers.items())]
            for kind, numbers in told.products.items()
        ]
        rows.append(["frames", ", ".join(f"{number} {what}" for what, number in told.frames.items())])
        print_table([Column("", style="bold"), Column("", fold=True)], rows)
        notes = []
        if told.revision is None:
            notes.append("There is no store in this database yet: nirflow cal init")
        elif not told.usable:
            notes.append("Its tables are not those of this nirflow: nirflow cal migrate")
        if told.rules not in (None, told.shipped_rules):
            notes.append(
                f"This nirflow comes with the rules {told.shipped_rules}; the store goes by its own."
            )
        if told.damaged:
            notes.append(f"{told.damaged} products are damaged: nirflow cal verify")
        if told.missing_roles:
            notes.append(_roles(told.missing_roles))
        for note in notes:
            say(note, style="yellow", err=True)
    if not told.usable or told.damaged:
        raise typer.Exit(Exit.PARTIAL)


def backup(
    target: Annotated[
        Path, typer.Argument(metavar="DIR", help="A new folder, or one with an earlier backup.")
    ],
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write the whole store into a folder: database and files, of one moment, while work goes on.

    Exit code 4 where a product's file was missing or damaged and could not be written.
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
            say(f"Not in the backup, its file is lost: {name}", style="red", err=True)
        held = f"{plural(made.products, 'product')} and the rows of {plural(made.frames, 'raw frame')}"
        say(f"{held}: {target}")
    if made.lost:
        raise typer.Exit(Exit.PARTIAL)


def restore(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `nirflow cal backup` wrote.")],
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Bring a backup back into an empty store; one that holds anything is left alone.

    Exit code 4 where the file of a product is not in the backup: the next reduction makes it anew.
    """
    from calib_store.administration.backup_folder import read_backup
    from calib_store.administration.restore import restore as bring_back
    from deployments.settings.all_settings import Settings
    from nirflow.console.progress import progress_bar

    number = read_backup(source).products
    with progress_bar("Copying files", number, quiet=quiet or json) as advance:
        told = bring_back(Settings(), source, progress=lambda name: advance())
    if json:
        print_json(told)
    else:
        when = f"{told.made_at:%Y-%m-%d %H:%M}"
        held = f"{plural(told.products, 'product')} and the rows of {plural(told.frames, 'raw frame')}"
        for name in told.lost:
            say(f"Its file is not in the backup: {name}", style="red", err=True)
        say(f"Back as of {when}: {held}.")
    if told.lost:
        raise typer.Exit(Exit.PARTIAL)


def _print_roles(made: Made) -> None:
    if made.missing_roles:
        say(_roles(made.missing_roles), style="yellow", err=True)


def _roles(missing: tuple[str, ...]) -> str:
    made = "; ".join(f"CREATE ROLE {role} NOLOGIN" for role in missing)
    return (
        f"The server lacks {' and '.join(missing)}, and this account may not make roles. Everything works without "
        f"for the owner; for others have an administrator run: {made}; and then nirflow cal init again."
    )
