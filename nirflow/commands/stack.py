"""``nirflow stack``: stacks of several nights or pointings combined into one image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nirflow.console.output import print_lines
from nirflow.console.tables import Column, print_json, print_table

if TYPE_CHECKING:
    from nirflow.stack_request import StackRequest
    from tasks.mosaic.choose_stacks import ChosenStacks


def stack(
    target: Annotated[
        str | None, typer.Option("--target", metavar="NAME", help="Stacks of this target, in any capitals.")
    ] = None,
    observation: Annotated[
        str | None, typer.Option("--observation", metavar="ID", help="Stacks of this observation id.")
    ] = None,
    when: Annotated[
        str | None,
        typer.Option(
            "--nights",
            metavar="NIGHT..NIGHT",
            help="Only of these nights: 2013-11-21..2013-12-23, both included; or one night. Default: all.",
        ),
    ] = None,
    bands: Annotated[
        list[str] | None,
        typer.Option(
            "--band", metavar="BAND", help="Only this filter. Repeatable. Default: one mosaic for each."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the mosaics and the log.")
    ] = Path("out"),
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="STEP.PARAMETER=VALUE",
            help="A parameter: --set mosaic.orientation=north; see nirflow params. Repeatable.",
        ),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="TIME",
            help="Choose the stacks as the store would have at that moment: 2026-11-01T12:00, UT. A date alone means "
            "00:00 UT.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show which stacks would be combined, and make nothing.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files of the same name with different content.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, max=256, help="Threads of the kernels.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """Combine the stacks of a field, of several nights or pointings, into one image for each band.

    nirflow stack --target "WISE 0855" --nights 2013-11-21..2013-12-23 --band Y --out out
    """
    from deployments.prefect_server.client import quick_imports

    with quick_imports():
        from nirflow.stack_request import build_stack_request
    request = build_stack_request(
        target=target, observation=observation, when=when, bands=bands or (), out=out, settings=settings or (),
        as_of=as_of, overwrite=overwrite, threads=threads, quiet=quiet or json,
    )  # fmt: skip
    if dry_run:
        chosen = _chosen(request)
        if json:
            print_json(chosen)
        else:
            _print_chosen(chosen)
        return
    from nirflow.reduction import run_stack

    report = run_stack(request)
    from nirflow.console.reduction_report import exit_code, print_report

    if json:
        print_json(report)
    else:
        print_report(report)
    raise typer.Exit(exit_code(report))


def _chosen(request: StackRequest) -> ChosenStacks:
    """Return the stacks that would be combined, without a server or a flow."""
    from calib_store.curation.field_stacks import field_stacks
    from nirflow.commands.cal.naming import open_store
    from tasks.mosaic.choose_stacks import StackSelection, sets_of

    selection = StackSelection(
        target=request.target, observation=request.observation, first=request.first, last=request.last
    )
    with open_store() as store:
        found = field_stacks(
            store,
            target=request.target,
            observation=request.observation,
            nights=(request.first, request.last),
            bands=request.bands,
            as_of=request.as_of,
        )
        return sets_of(selection, found)


def _print_chosen(chosen: ChosenStacks) -> None:
    columns = [
        Column("mosaic", style="bold", fold=True), Column("stack", fold=True), Column("id"), Column("band"),
        Column("nights"),
    ]  # fmt: skip
    rows = [
        (
            group.label,
            one.name,
            one.id[:8],
            one.facts.filter,
            " to ".join(dict.fromkeys(str(night) for night in one.nights)),
        )
        for group in chosen.sets
        for one in group.stacks
    ]
    print_table(columns, rows)
    for one in chosen.left_out:
        style = "dim" if one.expected else "yellow"
        print_lines(f"Left out, {one.name}: {one.reason}. {one.remedy}".rstrip(), style=style)
    print_lines("", "Nothing was made (--dry-run).")
