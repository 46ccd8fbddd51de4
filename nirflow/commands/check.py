"""``nirflow check``: the frames of a stack detrended by ccdproc with the same calibrations, pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imaging.listed import counted
from nirflow.commands.cal.naming import Json, open_store
from nirflow.console.output import print_lines
from nirflow.console.tables import Column, print_json, print_table
from nirflow.exits import Exit

if TYPE_CHECKING:
    from calib_store.curation.ingredients import Ingredients
    from calib_store.model.records import Frame, Product
    from calib_store.store import Store
    from imaging.detrend.agreement import Agreement

#: What the comparison leaves out, because it needs more than a frame and its calibrations.
NOT_COMPARED = "Not compared: pixels flagged for persistence; steps of your own; sky, alignment and stack."


def check(
    image: Annotated[
        str,
        typer.Argument(metavar="IMAGE", help="A stack: its file, or its name or id in the store. A calibration "
                       "stands for the stacks that were made with it."),
    ],
    frame: Annotated[
        list[str] | None,
        typer.Option("--frame", metavar="NAME", help="Compare only this raw frame. Repeatable."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    json: Json = False,
) -> None:  # fmt: skip
    """Detrend the raw frames of a stack by ccdproc, with the same calibrations, and compare every pixel.

    Shown are the differences of SCI, VAR and DQ, and what explains them: the correction for non-linearity, and pixels
    without a response. Exit code 4 if a difference is left, or a frame could not be compared.
    """
    from calib_store.curation.ingredients import ingredients, stacks_of
    from nirflow.console.progress import progress_bar

    found: list[Agreement] = []
    problems: list[str] = []
    with open_store() as store:
        stacks = stacks_of(store, _product(store, image))
        made_of = [ingredients(store, stack) for stack in stacks]
        chosen = _once((one, raw) for one in made_of for raw in one.frames if not frame or _named(raw, frame))
        if not chosen:
            print_lines(f"No frame to compare: no stack in use was made of {image}, or none of its frames "
                        f"has the name given.", err=True)  # fmt: skip
            raise typer.Exit(Exit.NOTHING)
        with progress_bar("Comparing", len(chosen), quiet=quiet or json) as advance:
            for one, raw in chosen:
                result = _compared(store, one, raw)
                if isinstance(result, str):
                    problems.append(result)
                else:
                    found += result
                advance()
    unexplained = sum(one.unexplained for one in found)
    if json:
        planes = [vars(one) for one in found]
        print_json({"image": image, "planes": planes, "problems": problems, "unexplained": unexplained,
                    "agrees": not unexplained and not problems})  # fmt: skip
    else:
        _print(found, problems, unexplained)
    if unexplained or problems:
        raise typer.Exit(Exit.PARTIAL)


def _product(store: Store, image: str) -> Product:
    """Return the product with a name or id, or of a file."""
    from calib_store.curation.lookup import product_or_frame
    from calib_store.model.records import Product
    from imaging.products.origin import Origin
    from imaging.products.product_file import ProductFile
    from nirflow.exits import UsageError

    path = Path(image).expanduser()
    if path.is_file():
        with ProductFile(path) as file:
            product = store.known(Origin.of(file.primary).key or "-")
        if product is None:
            raise UsageError(
                f"The store has no product of the file {image}.",
                remedy="Name a product of this store: see nirflow cal list.",
            )
        return product
    found = product_or_frame(store, image)
    if not isinstance(found, Product):
        raise UsageError(f"{image} is a raw frame.", remedy="Name a stack that was made of it.")
    return found


def _named(raw: Frame, names: list[str]) -> bool:
    return any(name.removesuffix(".fits") == raw.name.removesuffix(".fits") for name in names)


def _once(pairs: Iterable[tuple[Ingredients, Frame]]) -> list[tuple[Ingredients, Frame]]:
    """Return frames with their stacks, without those that several stacks detrended in the same way."""
    found: dict[tuple[str, str, str], tuple[Ingredients, Frame]] = {}
    for made_of, raw in pairs:
        steps = str([made_of.stack.parameters.get(step) for step in ("prepare", "detrend")])
        applied = str(sorted(str(one.id) for one in made_of.calibrations.values()))
        found.setdefault((raw.sha256, steps, applied), (made_of, raw))
    return list(found.values())


def _compared(store: Store, made_of: Ingredients, frame: Frame) -> list[Agreement] | str:
    """Return the comparison of a frame, or why it could not be compared."""
    from imaging.detrend.agreement import compare
    from imaging.detrend.by_ccdproc import Calibrations
    from imaging.detrend.detrend import DetrendParameters, detrend
    from imaging.detrend.prepare import PrepareParameters
    from imaging.io.compressed import digest
    from imaging.io.raw_file import open_raw
    from imaging.products.product_file import ProductFile, read_product

    path = next((one for one in frame.paths if one.is_file() and digest(one) == frame.sha256), None)
    if path is None:
        places = ", ".join(map(str, frame.paths)) or "any place"
        return f"{frame.name}: its file is no longer in {places}, or has changed."
    recorded = made_of.stack.parameters
    parameters = DetrendParameters.model_validate(DetrendParameters.current(recorded["detrend"]))
    prepare = PrepareParameters.model_validate(PrepareParameters.current(recorded["prepare"]))
    with ExitStack() as stack:
        raw = stack.enter_context(open_raw(path, name=frame.name, shape=None, sha256=frame.sha256))
        files = {kind: store.file_of(one) for kind, one in made_of.calibrations.items()}
        opened: dict[str, Any] = {
            kind: stack.enter_context(ProductFile(file)) for kind, file in files.items()
        }
        dark, flat, bpm = (opened.get(kind) for kind in ("dark", "flat", "bpm"))
        ours = detrend(raw, dark=dark, flat=flat, bpm=bpm, parameters=parameters, prepare_parameters=prepare)
        calibrations = Calibrations(
            dark=read_product(files["dark"]) if dark else None,
            flat=read_product(files["flat"]) if flat else None,
            bpm=bpm.bad_pixels() if bpm else None,
        )
        return compare(raw, ours, calibrations, prepare, parameters)


def _print(found: list[Agreement], problems: list[str], unexplained: int) -> None:
    columns = [
        Column("frame", style="bold"), Column("plane"), Column("largest", "right"), Column("at x, y"),
        Column("rms", "right"), Column("beyond rounding", "right"), Column("left: largest", "right"),
        Column("rms", "right"), Column("unexplained", "right"),
    ]  # fmt: skip
    rows = [
        [
            one.frame, one.plane, f"{one.largest:.4g}", f"{one.x}, {one.y}" if one.x else "-", f"{one.rms:.3g}",
            one.beyond, f"{one.left_largest:.3g}", f"{one.left_rms:.3g}", one.unexplained,
        ]
        for one in found
    ]  # fmt: skip
    print_table(columns, rows)
    reasons: dict[str, int] = {}
    for one in found:
        for why, number in one.explained.items():
            reasons[why] = reasons.get(why, 0) + number
    if reasons:
        print_lines("", "Differences that are explained, in pixels of all planes:")
        print_lines(*(f"  {number:>12}  {why}" for why, number in reasons.items()))
    print_lines("", NOT_COMPARED, *problems)
    frames = len({one.frame for one in found})
    if unexplained:
        worst = max(found, key=lambda one: one.unexplained)
        print_lines(
            f"Without an explanation: {counted(unexplained, 'pixel')}, most in {worst.plane} of {worst.frame}, "
            f"such as x {worst.unexplained_x}, y {worst.unexplained_y}.", style="red",
        )  # fmt: skip
    elif frames:
        print_lines(
            f"{counted(frames, 'frame')}: everything else agrees with ccdproc within single precision."
        )
