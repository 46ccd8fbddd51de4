"""``nirflow simulate``, ``reduce`` and ``demo``: simulate a night, reduce a night, and both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imaging.kinds import CALIBRATION_KINDS, REQUIRED_KINDS, TARGETS, in_a_sentence
from nirflow.console.output import print_lines
from nirflow.console.tables import print_json
from nirflow.exits import Exit, UsageError

if TYPE_CHECKING:
    from imaging.simulator.parameters import NightParameters


def _one_of(names: Sequence[str]) -> Callable[[str], str]:
    """Return a parser for a repeatable option; typer does not support a repeated ``Literal``."""

    def parsed(text: str) -> str:
        if text not in names:
            raise typer.BadParameter(f"{text!r} is not one of {', '.join(map(repr, names))}.")
        return text

    return parsed


_SIMULATED = "Simulated night"
_CALIBRATIONS = "Calibrations"
_RESOURCES = "Resources"

Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the products and the log.")]
SimulatedBand = Annotated[
    str | None,
    typer.Option("--band", help="Filter. Default: Y, or the instrument's first.", rich_help_panel=_SIMULATED),
]
SimulatedInstrument = Annotated[
    str | None,
    typer.Option(
        help="Instrument, by the name of its table; see nirflow instruments. Default: that of the tutorial.",
        rich_help_panel=_SIMULATED,
    ),
]
Seed = Annotated[
    int, typer.Option(min=0, help="The same seed gives the same bytes.", rich_help_panel=_SIMULATED)
]
Size = Annotated[
    int | None,
    typer.Option(
        min=128, max=4096, help="Rows and columns, pixels. Default: the full detector.",
        rich_help_panel=_SIMULATED,
    ),
]  # fmt: skip
NightSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PARAMETER=VALUE", rich_help_panel=_SIMULATED,
        help="Another parameter of the simulation: --set seeing=0.9; see nirflow simulate --parameters. Repeatable.",
    ),
]  # fmt: skip
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Threads = Annotated[
    int | None, typer.Option(min=1, max=256, help="Threads of the kernels.", rich_help_panel=_RESOURCES)
]
Memory = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Memory limit of the stacks: 800MB.", rich_help_panel=_RESOURCES),
]


def simulate(
    out: Annotated[Path | None, typer.Argument(metavar="OUT", help="Folder of the raw frames.")] = None,
    instrument: SimulatedInstrument = None,
    band: SimulatedBand = None,
    seed: Seed = 20131121,
    size: Size = None,
    science: Annotated[
        int | None, typer.Option(min=0, help="Science frames.", rich_help_panel=_SIMULATED)
    ] = None,
    darks: Annotated[int | None, typer.Option(min=0, help="Darks.", rich_help_panel=_SIMULATED)] = None,
    short_darks: Annotated[
        int | None, typer.Option(min=0, help="Short darks.", rich_help_panel=_SIMULATED)
    ] = None,
    lamp_on: Annotated[
        int | None, typer.Option(min=0, help="Lamp-on flats.", rich_help_panel=_SIMULATED)
    ] = None,
    lamp_off: Annotated[
        int | None, typer.Option(min=0, help="Lamp-off flats.", rich_help_panel=_SIMULATED)
    ] = None,
    exposure: Annotated[
        float | None, typer.Option(help="Exposure of a science frame, s.", rich_help_panel=_SIMULATED)
    ] = None,
    settings: NightSettings = None,
    parameters: Annotated[
        bool, typer.Option("--parameters", help="List the simulator's parameters.")
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write a simulated night of raw frames, together with the truth.

    Without options: the tutorial's Y night at full size, 36 frames. Another night with the same stars and the
    same array: --seed 2 --set days=1 --set field_seed=20131121 --set detector_seed=20131121
    """
    if parameters:
        _print_night_parameters(json)
        return
    if out is None:
        raise UsageError("OUT is missing.", remedy="Name the folder to write to: nirflow simulate night")
    given = {
        "instrument": instrument, "band": band, "seed": seed, "size": size, "n_science": science, "n_darks": darks,
        "n_short_darks": short_darks, "n_lamp_on": lamp_on, "n_lamp_off": lamp_off, "science_time": exposure,
    }  # fmt: skip
    from nirflow.demo import simulated

    files = simulated(out, night_parameters(given, settings or ()), quiet=quiet or json).raw_paths()
    if json:
        print_json({"folder": out, "files": files, "truth": out / "truth"})
    else:
        print_lines(f"{len(files)} raw frames in {out}, the truth in {out / 'truth'}.")


def reduce(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH", help="Raw frames: files, folders or globs.")
    ] = None,
    out: Out = Path("out"),
    bands: Annotated[
        list[str] | None, typer.Option("--band", metavar="BAND", help="Only this filter. Repeatable.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            parser=_one_of(TARGETS),
            metavar="|".join(TARGETS),
            help="Only this product and what it needs. Repeatable.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="STEP.PARAMETER=VALUE",
            help="A step's parameter; see nirflow params. Repeatable.",
        ),
    ] = None,
    steps: Annotated[
        list[str] | None,
        typer.Option(
            "--step",
            metavar="POINT=FUNCTION",
            help="Call a function of your own: after_detrend='pkg.module:function(sigma=5, mask=@bpm)'; points: "
            "after_detrend, before_sky, before_stack, after_stack. Repeatable.",
        ),
    ] = None,
    catalogue: Annotated[
        str | None,
        typer.Option(
            "--catalogue",
            metavar="SOURCE",
            help="Reference stars: a file, a folder of tiles, or a service (vizier:2MASS); none: no catalogue. "
            "Default: that of the settings.",
        ),
    ] = None,
    use: Annotated[
        list[str] | None,
        typer.Option(
            "--use",
            metavar="KIND=NAME_OR_PATH",
            rich_help_panel=_CALIBRATIONS,
            help=f"Use this {in_a_sentence(CALIBRATION_KINDS)}, a file or a name in the store; it is recorded. "
            "Repeatable.",
        ),
    ] = None,
    allow_missing: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-missing",
            parser=_one_of(REQUIRED_KINDS),
            metavar="|".join(REQUIRED_KINDS),
            rich_help_panel=_CALIBRATIONS,
            help="Continue without it, and mark the product. Repeatable.",
        ),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="TIME",
            rich_help_panel=_CALIBRATIONS,
            help="Choose as the store would have at that moment, by its rules: 2026-11-01T12:00, UT. A date alone "
            "means 00:00 UT.",
        ),
    ] = None,
    affected_by: Annotated[
        str | None,
        typer.Option(
            "--affected-by",
            metavar="ID_OR_FRAME",
            rich_help_panel=_CALIBRATIONS,
            help="Make again only what was made with this rejected product or raw frame; without PATH its frames "
            "are read from where they were last seen.",
        ),
    ] = None,
    across_nights: Annotated[
        bool,
        typer.Option(
            "--across-nights",
            help="Combine the science frames of several nights. Default: a separate stack for each night.",
        ),
    ] = False,
    join: Annotated[
        bool,
        typer.Option(
            "--join",
            help="Stack adjacent sequences of one pointing together, although their observation ids or targets differ.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files of the same name with different content.")
    ] = False,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Also search subfolders.")] = False,
    threads: Threads = None,
    memory: Memory = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Reduce a night: group the frames, find or make the calibrations, reduce every science group.

    nirflow reduce night --out out --band Y --set dark.high=4
    """  # fmt: skip
    from nirflow.commands.inspect import files_or_exit

    if paths:
        files_or_exit(paths, recursive, quiet=quiet or json)  # before anything is started
    elif affected_by is None:
        raise UsageError("No PATH was given.", remedy="Name files or folders of raw frames.")
    from deployments.prefect_server.client import quick_imports

    with quick_imports():
        from nirflow.request import build_request
    request = build_request(
        paths or (), out=out, recursive=recursive, bands=bands or (), only=only or (), settings=settings or (),
        steps=steps or (), catalogue=catalogue, use=use or (), allow_missing=allow_missing or (),
        overwrite=overwrite, as_of=as_of, affected_by=affected_by, across_nights=across_nights, join=join,
        threads=threads, memory=memory, quiet=quiet or json,
    )  # fmt: skip
    from nirflow.reduction import run_reduce

    report = run_reduce(request)
    from nirflow.console.reduction_report import exit_code, print_report

    if json:
        print_json(report)
    else:
        print_report(report)
    raise typer.Exit(exit_code(report))


def demo(
    out: Out = Path("demo"),
    instrument: SimulatedInstrument = None,
    band: SimulatedBand = None,
    seed: Seed = 20131121,
    size: Size = None,
    settings: NightSettings = None,
    threads: Threads = None,
    memory: Memory = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Simulate the tutorial's night and a disturbed one, reduce them, and compare the products with the truth.

    The disturbed night has changing seeing, clouds and an unstable sky, and its stack is compared with what that
    night allows. Exit code 4 if a figure is beyond its limit.
    """
    from nirflow.console.reduction_report import exit_code, print_report
    from nirflow.demo import (
        compare,
        compare_disturbed,
        disturbed,
        own_store,
        print_score,
        readable,
        simulated,
    )
    from nirflow.request import build_request

    parameters = night_parameters(
        {"instrument": instrument, "band": band, "seed": seed, "size": size}, settings or ()
    )
    nights = {"calm": (out, parameters), "disturbed": (out / "disturbed", disturbed(parameters))}
    requests, truths = {}, {}
    for name, (folder, night) in nights.items():
        any_shape = [] if readable(night) else ["check.shape=none"]
        request = partial(
            build_request,
            [folder / "raw"],
            out=folder,
            settings=any_shape,
            threads=threads,
            memory=memory,
            quiet=quiet or json,
        )
        request()  # options that are wrong are reported before anything is simulated
        truths[name] = simulated(folder / "raw", night, quiet=quiet or json)
        requests[name] = request(catalogue=str(truths[name].catalogue))
    from nirflow.reduction import run_reduce

    with own_store(out / "data"):
        reports = {name: run_reduce(request) for name, request in requests.items()}
    score = compare(reports["calm"], truths["calm"])
    disturbed_score = compare_disturbed(reports["disturbed"], truths["disturbed"])
    if json:
        more = {"report": reports["disturbed"], "score": disturbed_score}
        print_json({"report": reports["calm"], "score": score, "disturbed": more})
    else:
        print_report(reports["calm"])
        print_lines("", "Compared with the truth:")
        print_score(score)
        print_lines("", "The disturbed night:")
        print_report(reports["disturbed"])
        print_lines("", "Changing seeing, clouds and an unstable sky, compared with what that night allows:")
        print_score(disturbed_score)
        stop = f"NIRFLOW_DATA_DIR={out / 'data'} nirflow server stop"
        print_lines("", f"The Prefect server keeps running. To stop it: {stop}")
    code = max(exit_code(report) for report in reports.values())
    raise typer.Exit(code if code or (score.ok and disturbed_score.ok) else Exit.PARTIAL)


def night_parameters(given: Mapping[str, object], settings: Sequence[str]) -> NightParameters:
    """Return the simulator's parameters from options (None if not given) and ``--set`` texts."""
    from imaging.simulator.parameters import NightParameters
    from nirflow.step_settings import resolve

    named = {text.partition("=")[0].strip() for text in settings}
    options = [f"{name}={value}" for name, value in given.items() if value is not None and name not in named]
    changed = resolve([f"night.{text}" for text in (*options, *settings)], {"night": NightParameters})
    night = changed.get("night", NightParameters())
    assert isinstance(night, NightParameters)
    return night


def _print_night_parameters(json: bool) -> None:
    from imaging.simulator.parameters import NightParameters
    from nirflow.commands.parameters import print_parameters
    from nirflow.step_settings import describe

    print_parameters(describe("night", NightParameters), json=json, with_step=False)
