"""``nirflow watch``: a line about each frame of a folder as it becomes complete."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nirflow.commands.inspect import AnyShape
from nirflow.console.output import print_lines
from nirflow.console.tables import print_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from calib_store.store import Store
    from deployments.judging.judge import Refused
    from deployments.settings.all_settings import Settings
    from imaging.quick_look.frame_figures import FrameFigures

#: A file that has not changed for so long and is incomplete is reported, s.
_PATIENCE = 30.0


def watch(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR", help="Folders in which raw frames arrive.")],
    everything: Annotated[
        bool, typer.Option("--all", help="Also judge the frames that are there already.")
    ] = False,
    any_shape: AnyShape = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each frame.")] = False,
) -> None:
    """Judge each frame as it becomes complete: seeing, sky, transparency, saturation, guiding, pointing.

    Each figure is compared with what the program requested, and with the earlier frames of its sequence. Needs no
    nirflow up and no Prefect server; calibrations come from the store if there is one. Ctrl-C ends it.
    """
    import tempfile
    import threading

    from calib_store.model.settings import WrongSettingsError
    from deployments.judging.complete_files import CompleteFiles
    from deployments.judging.judge import Judge
    from deployments.judging.judge_arrivals import judge_arrivals
    from deployments.judging.store_calibrations import StoreCalibrations
    from deployments.processes import started
    from deployments.settings.all_settings import Settings
    from imaging.quick_look.measure_frame import warm_up
    from imaging.quick_look.shown import COLUMNS
    from nirflow.request import require_text

    require_text(*folders)
    for folder in folders:
        if not folder.expanduser().is_dir():
            raise WrongSettingsError(f"{folder}: no such folder.", remedy="Create it, or correct the path.")
    # Frames that come while this process is starting are new.
    since = None if everything else started()
    settings = Settings()
    check = settings.watch.check.model_copy(update={"shape": None}) if any_shape else settings.watch.check
    watched = settings.watch.model_copy(
        update={"folders": tuple(folders), "give_up": min(settings.watch.give_up, _PATIENCE), "check": check}
    )
    calibrations = StoreCalibrations(_opener(settings))
    with tempfile.TemporaryDirectory(prefix="nirflow-watch-") as unpacked:
        judge = Judge(calibrations, Path(unpacked), watched.check, threads=settings.worker.threads)
        files = CompleteFiles(watched, Path(unpacked), since)
        calibrations.connect()
        warm_up()
        print_lines(f"Waiting for frames in {', '.join(map(str, folders))}. Ctrl-C ends this.", err=True)
        if not json:
            print_lines(line_of(COLUMNS), style="bold")
        try:
            judge_arrivals(files, judge, _print_json if json else _print, threading.Event())
        finally:
            calibrations.close()


def _opener(settings: Settings) -> Callable[[], Store] | None:
    """Return what opens the store, or None if it does not exist: it is not created here."""
    from calib_store.server import postgres
    from calib_store.store import Store

    if settings.database_url is None and not postgres.exists(settings.data_dir):
        return None
    return lambda: Store.open(settings)


#: Width of each column of a line but the last.
_WIDTHS = (16, 8, 18, 6, 9, 11, 8, 7, 12, 9, 8)
#: Columns that are aligned to the left: names and times.
_LEFT = 3
_STYLES = {"worse than requested": "red", "unlike its group": "yellow", "not measurable": "yellow"}


def line_of(cells: Sequence[str]) -> str:
    """Return the cells of a frame, or the headings, as a line."""
    padded = [
        cell.ljust(width) if k < _LEFT else cell.rjust(width)
        for k, (cell, width) in enumerate(zip(cells, _WIDTHS, strict=False))
    ]
    return "  ".join((*padded, cells[-1]))


def _print(one: FrameFigures | Refused) -> None:
    from deployments.judging.judge import Refused
    from imaging.quick_look.shown import row_of

    if isinstance(one, Refused):
        print_lines(f"{one.name}: not judged: {one.reason}", style="red")
    else:
        print_lines(line_of([cell.text for cell in row_of(one)]), style=_STYLES.get(one.verdict, ""))


def _print_json(one: FrameFigures | Refused) -> None:
    from deployments.judging.judge import Refused

    if isinstance(one, Refused):
        print_json({"name": one.name, "problem": one.reason}, one_line=True)
    else:
        known = one.model_dump(mode="json", exclude={"reference"})
        print_json(known | {"verdict": one.verdict}, one_line=True)
