"""The command line ``nirflow``: commands, exit codes, and errors as one clear message.

Only typer and rich are imported here; each command imports what it needs when it runs, so that ``--help`` and
the error for a mistyped option appear at once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from deployments.printable_output import make_output_printable
from imaging.errors import NirflowError
from imaging.machine import machine_error
from imaging.printable import printable
from nirflow import __version__
from nirflow.commands import (
    cal,
    check,
    clean,
    instruments,
    page,
    parameters,
    server,
    service,
    stack,
    stars_of_field,
    watch,
    why,
)
from nirflow.commands import inspect as frames
from nirflow.commands import reduce as night
from nirflow.console.output import print_error, print_lines
from nirflow.exits import MEANINGS, Exit, UsageError
from nirflow.own_instruments import know_own_instruments

_EPILOG = (
    "Exit codes: "
    + "; ".join(f"{code.value} {meaning}" for code, meaning in MEANINGS.items())
    + ".\n\nThe store and its database live under NIRFLOW_DATA_DIR (default ~/.local/share/nirflow); "
    "NIRFLOW_DATABASE_URL names a PostgreSQL server in place of the embedded one."
)


class _CleanErrors(TyperGroup):
    """A group that shows errors of nirflow and of the machine as message and remedy; with ``--debug`` as tracebacks."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with _printable_complaints():
                return super().make_context(*args, **kwargs)
        except KeyboardInterrupt:
            raise _interrupt() from None

    def invoke(self, ctx: Any) -> Any:
        try:
            with _printable_complaints():
                return super().invoke(ctx)
        except NirflowError as error:
            if ctx.params.get("debug"):
                raise
            print_error(error)
            raise typer.Exit(Exit.USAGE if isinstance(error, _usage_errors()) else Exit.FAILED) from None
        except KeyboardInterrupt:
            raise _interrupt() from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            known = None if hasattr(error, "format_message") else machine_error(error)
            if known is None or ctx.params.get("debug"):
                raise
            print_error(known)
            raise typer.Exit(Exit.FAILED) from None


def _interrupt() -> typer.Exit:
    print_lines("Interrupted.", style="red", err=True)
    return typer.Exit(Exit.INTERRUPTED)


@contextmanager
def _printable_complaints() -> Iterator[None]:
    """Make typer's own errors printable, since they repeat the invalid argument."""
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message"):
            vars(error)["message"] = printable(str(vars(error)["message"]))
        raise


def _usage_errors() -> tuple[type[NirflowError], ...]:
    from calib_store.model.settings_file import ForeignSettingsError

    return (UsageError, ForeignSettingsError)


app = typer.Typer(
    name="nirflow", cls=_CleanErrors, no_args_is_help=True, epilog=_EPILOG, add_completion=False,
    rich_markup_mode="rich", pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)  # fmt: skip


def _print_version(wanted: bool) -> None:
    if wanted:
        print_lines(f"nirflow {__version__}")
        raise typer.Exit


@app.callback()
def _nirflow(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Near-infrared imaging reduction: raw night in, calibrated and stacked science out."""
    know_own_instruments()


_REDUCE, _LOOK, _RUN = "Reduce a night", "Look at frames and parameters", "Store and server"
app.command(rich_help_panel=_REDUCE)(night.demo)
app.command(rich_help_panel=_REDUCE)(night.simulate)
app.command(rich_help_panel=_REDUCE)(night.reduce)
app.command(rich_help_panel=_REDUCE)(stack.stack)
app.command(rich_help_panel=_REDUCE)(page.report)
app.command(rich_help_panel=_LOOK)(frames.inspect)
app.command(rich_help_panel=_LOOK)(frames.select)
app.command(rich_help_panel=_LOOK)(watch.watch)
app.command(rich_help_panel=_LOOK)(parameters.params)
app.command(rich_help_panel=_LOOK)(check.check)
app.command(rich_help_panel=_LOOK)(stars_of_field.catalogue)
app.add_typer(instruments.app, name="instruments", rich_help_panel=_LOOK)
app.command(rich_help_panel=_RUN)(service.up)
app.command(rich_help_panel=_RUN)(service.down)
app.command(rich_help_panel=_RUN)(service.status)
app.command(rich_help_panel=_RUN)(why.why)
app.command(rich_help_panel=_RUN)(service.settings)
app.command(rich_help_panel=_RUN)(clean.clean)
app.add_typer(cal.app, name="cal", rich_help_panel=_RUN)
app.add_typer(server.app, name="server", rich_help_panel=_RUN)


def main() -> None:
    """Run the command line; `nirflow.outermost` handles what it raises."""
    make_output_printable()
    app(prog_name="nirflow" if sys.argv[0].endswith("__main__.py") else None)
