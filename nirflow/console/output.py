"""The output of the command line, all of which is printed and made printable here.

Each argument is one line: a line break inside it comes from foreign text and is shown as ``\\n``. Markup is
not interpreted.
"""

from __future__ import annotations

import sys

from rich.console import Console
from rich.text import Text

from imaging.errors import NirflowError
from imaging.printable import printable, printable_lines

#: Width of a table in a pipe: wider than any row, so that none is folded.
_PIPE_WIDTH = 4000


def console(*, stderr: bool = False) -> Console:
    """Return a console on standard output (or error) that detects whether it is a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, emoji=False)


def print_lines(*lines: object, style: str = "", err: bool = False) -> None:
    """Print lines on standard output or error; without arguments, an empty one.

    Parameters
    ----------
    lines
        One line each, whatever their content.
    style
        Colour at a terminal ("red", "dim"); a styled line is wrapped to fit the window.
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


def print_error(error: NirflowError) -> None:
    """Print an error on standard error: the message, its details, and the remedy."""
    out = console(stderr=True)
    out.print(Text.assemble(("Error: ", "bold red"), printable(error.message)), soft_wrap=not out.is_terminal)
    for text in (error.details, error.remedy):
        if text:
            out.print(Text(printable_lines(text)), soft_wrap=not out.is_terminal)
