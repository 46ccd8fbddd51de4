"""Everything that the command line prints goes through here, and is made printable here.

A line is a line because the caller gave it as one: a line break inside of it is somebody else's, and is shown as
``\\n``. No markup is read in any of it.
"""

from __future__ import annotations

import sys

from rich.console import Console
from rich.text import Text

from imaging.errors import NirflowError
from imaging.printable import printable, printable_lines

#: Width given to a table in a pipe: wider than any row, so that none folds.
_PIPE_WIDTH = 4000


def console(*, stderr: bool = False) -> Console:
    """Return a console on standard output (or error) that knows whether a person reads it."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, emoji=False)


def say(*lines: object, style: str = "", err: bool = False) -> None:
    """Print lines on standard output or error; without any, an empty one.

    Parameters
    ----------
    lines
        One line each, whatever it holds.
    style
        Colour at a terminal ("red", "dim"); a line that has one is broken at the words to fit the window.
    err
        Print on standard error.
    """
    texts = [printable(str(line)) for line in lines or ("",)]
    if style:
        out = console(stderr=err)
        for text in texts:
            out.print(Text(text, style), soft_wrap=not out.is_terminal)
        return
    stream = sys.stderr if err else sys.stdout
    stream.write("".join(f"{text}\n" for text in texts))
    stream.flush()


def say_error(error: NirflowError) -> None:
    """Print an error on standard error: what is wrong, what helps to understand it, and what to do."""
    out = console(stderr=True)
    out.print(Text.assemble(("Error: ", "bold red"), printable(error.message)), soft_wrap=not out.is_terminal)
    for text in (error.details, error.remedy):
        if text:
            out.print(Text(printable_lines(text)), soft_wrap=not out.is_terminal)
