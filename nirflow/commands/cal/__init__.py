"""``nirflow cal``: the calibration store, from listings to backups."""

from __future__ import annotations

import typer

from nirflow.commands.cal import admin as owning
from nirflow.commands.cal import certify, files
from nirflow.commands.cal import list as listing
from nirflow.commands.cal import match as choosing
from nirflow.commands.cal import show as showing
from nirflow.commands.cal import verify as upkeep

app = typer.Typer(
    help="The calibration store: its contents, its choices with their reasons, decisions about products, maintenance.",
    no_args_is_help=True,
)

_LOOK, _CHOOSE, _DECIDE = "Look", "Ask why", "Certify and reject"
_MOVE, _KEEP = "Products in and out", "Maintenance"

app.command("list", rich_help_panel=_LOOK)(listing.list_products)
app.command(rich_help_panel=_LOOK)(showing.show)
app.command(rich_help_panel=_LOOK)(listing.lineage)
app.command(rich_help_panel=_LOOK)(listing.affected)
app.command(rich_help_panel=_CHOOSE)(choosing.match)
app.command(rich_help_panel=_CHOOSE)(choosing.explain)
app.command(rich_help_panel=_CHOOSE)(choosing.rules)
app.command(rich_help_panel=_DECIDE)(certify.compare)
app.command(rich_help_panel=_DECIDE)(certify.certify)
app.command(rich_help_panel=_DECIDE)(certify.reject)
app.command(rich_help_panel=_DECIDE)(certify.supersede)
app.command(rich_help_panel=_DECIDE)(certify.reinstate)
app.command(rich_help_panel=_MOVE)(files.add)
app.command(rich_help_panel=_MOVE)(files.get)
app.command(rich_help_panel=_MOVE)(files.export)
app.command("import", rich_help_panel=_MOVE)(files.import_)
app.command(rich_help_panel=_KEEP)(owning.status)
app.command(rich_help_panel=_KEEP)(upkeep.verify)
app.command(rich_help_panel=_KEEP)(upkeep.gc)
app.command(rich_help_panel=_KEEP)(owning.init)
app.command(rich_help_panel=_KEEP)(owning.migrate)
app.command(rich_help_panel=_KEEP)(owning.backup)
app.command(rich_help_panel=_KEEP)(owning.restore)
