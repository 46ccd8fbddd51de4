"""``nirflow cal``: the calibration store, from a look at it to its backup."""

from __future__ import annotations

import typer

from nirflow.commands.cal import admin as owning
from nirflow.commands.cal import certify as words
from nirflow.commands.cal import files
from nirflow.commands.cal import list as looking
from nirflow.commands.cal import match as choosing
from nirflow.commands.cal import show as showing
from nirflow.commands.cal import verify as upkeep

app = typer.Typer(
    help="The calibration store: what it holds, what it chooses and why, what people say of it.",
    no_args_is_help=True,
)

_LOOK, _CHOOSE, _SAY = "Look", "Ask why", "Certify and reject"
_MOVE, _KEEP = "Products in and out", "Keep it whole"

app.command("list", rich_help_panel=_LOOK)(looking.list_products)
app.command(rich_help_panel=_LOOK)(showing.show)
app.command(rich_help_panel=_LOOK)(looking.lineage)
app.command(rich_help_panel=_LOOK)(looking.affected)
app.command(rich_help_panel=_CHOOSE)(choosing.match)
app.command(rich_help_panel=_CHOOSE)(choosing.explain)
app.command(rich_help_panel=_CHOOSE)(choosing.rules)
app.command(rich_help_panel=_SAY)(words.compare)
app.command(rich_help_panel=_SAY)(words.certify)
app.command(rich_help_panel=_SAY)(words.reject)
app.command(rich_help_panel=_SAY)(words.supersede)
app.command(rich_help_panel=_SAY)(words.reinstate)
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
