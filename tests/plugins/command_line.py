"""The command line run in this process; imported by the tests that need it."""

from __future__ import annotations

from functools import cache
from typing import Any
from unittest.mock import patch

import typer
from typer.testing import CliRunner, Result

from nirflow.cli import app


@cache
def all_commands() -> Any:
    """Return the command line; making it for each call would take longer than most commands."""
    return typer.main.get_command(app)


def run_nirflow(*arguments: object) -> Result:
    """Run a command; the result has its exit code, standard output and standard error."""
    with patch("typer.testing._get_command", lambda _: all_commands()):
        return CliRunner().invoke(app, [str(one) for one in arguments])
