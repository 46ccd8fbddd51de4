"""A progress bar on standard error, at a terminal only: pipes and logs never receive it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from imaging.printable import printable
from nirflow.console.output import console


@contextmanager
def progress_bar(label: str, total: int, *, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """Show a bar; the yielded function advances it by one step (from any thread)."""
    screen = console(stderr=True)
    if quiet or not screen.is_terminal:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=screen, transient=True) as progress:
        task = progress.add_task(printable(label), total=total)
        yield lambda: progress.advance(task)
