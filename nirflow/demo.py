"""The demonstration: a simulated night is reduced and compared with its truth."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nirflow.console.tables import Column, print_table
from nirflow.exits import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flows.run.report import NightReport
    from imaging.simulator.parameters import NightParameters
    from imaging.simulator.score_figures import NightScore
    from imaging.simulator.truth import NightTruth

#: Rows and columns of the disturbed night at most, so that the demonstration stays short.
DISTURBED_SIZE = 1024
#: What disturbs it: changing seeing, thin clouds and an unstable sky, all moderate.
DISTURBED: Mapping[str, object] = {
    "days": 30,
    "seeing_course": (0.6, 1.0), "transparency_course": (1.0, 0.75),
    "sky_swing": 0.15, "sky_tilt": 0.02, "sky_wave": 0.01,
}  # fmt: skip
DISTURBANCES = 3
#: Further stars, at the reference's pixel scale.
STARS = 400


def simulated(folder: Path, parameters: NightParameters, *, quiet: bool = False) -> NightTruth:
    """Simulate a night into ``folder``, or reuse the same night if it is already there.

    Raises
    ------
    UsageError
        If the folder holds FITS files other than this night.
    """
    from imaging.frames.file_names import is_frame_name
    from imaging.simulator.observing_plan import plan_night
    from imaging.simulator.simulate import simulate_night
    from imaging.simulator.truth import load_truth
    from nirflow.console.progress import progress_bar

    if (folder / "truth" / "night.json").is_file():
        truth = load_truth(folder)
        files = (truth.catalogue, *truth.raw_paths())
        if truth.parameters == parameters and all(path.is_file() for path in files):
            return truth
    if folder.is_dir() and any(is_frame_name(path.name) for path in folder.iterdir()):
        raise UsageError(
            f"{folder} already holds other FITS files.", remedy="Name a new or empty folder, or remove it."
        )
    with progress_bar("Simulating", len(plan_night(parameters)), quiet=quiet) as advance:
        return simulate_night(folder, parameters, progress=lambda done, total: advance())


def readable(night: NightParameters) -> bool:
    """Return whether frames of a night have a shape that their instrument's table has."""
    detector = night.camera.instrument.detector
    return (night.size, night.size) in (detector.shape, *detector.subarrays)


@contextmanager
def own_store(folder: Path) -> Iterator[None]:
    """Use a separate store for the demonstration, to keep simulated calibrations out of the store of real
    nights.
    """
    before = {name: os.environ.get(name) for name in ("NIRFLOW_DATA_DIR", "NIRFLOW_DATABASE_URL")}
    os.environ["NIRFLOW_DATA_DIR"] = str(folder.resolve())
    os.environ.pop("NIRFLOW_DATABASE_URL", None)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def compare(report: NightReport, truth: NightTruth) -> NightScore:
    """Compare the products of a simulated night with its truth.

    If several products of a kind were made, the one made for the night's own frames is compared: of the
    darks, the one that the science frames use.
    """
    from imaging.simulator.score import score_night

    def product(kind: str, roots: Sequence[str]) -> Path | None:
        for made in report.products:
            if made.kind == kind and {name.removesuffix(".fits") for name in made.inputs} & set(roots):
                return made.output
        return None

    darks = [frame.root for frame in truth.of_role("dark")]
    flats = [frame.root for role in ("lamp_on", "lamp_off") for frame in truth.frames if frame.role == role]
    return score_night(
        truth,
        bpm=product("bpm", flats),
        dark=product("dark", darks),
        flat=product("flat", flats),
        stack=product("image", [frame.root for frame in truth.science]),
    )


def disturbed(calm: NightParameters) -> NightParameters:
    """Return the disturbed night that the demonstration shows next to a calm one."""
    from imaging.simulator.parameters import REFERENCE_SCALE

    size = min(calm.size, DISTURBED_SIZE)
    # The same sky for every pixel scale: as many stars in its area, not in that of the array.
    stars = round(STARS * (calm.axes.scale / REFERENCE_SCALE) ** 2)
    changes = {"size": size, "n_stars": stars, **DISTURBED}
    return type(calm).model_validate(calm.model_dump() | changes)


def compare_disturbed(report: NightReport, truth: NightTruth) -> NightScore:
    """Compare the stack of a disturbed night with what that night allows."""
    from imaging.errors import NirflowError
    from imaging.simulator.floor.score_floor import of_frames, score_floor
    from imaging.simulator.score_figures import NightScore
    from imaging.simulator.stack_model import read_stack

    stacks = [one for one in report.products if of_frames(one.metrics, "weights") and one.output is not None]
    if not stacks:
        return NightScore(rows=())
    most = max(stacks, key=lambda one: len(one.inputs))
    assert most.output is not None
    weights, scales = (of_frames(most.metrics, name) for name in ("weights", "scales"))
    try:
        stack = read_stack(most.output)
        rows = score_floor(
            stack, truth, weights=weights, scales=scales, disturbances=DISTURBANCES,
        )  # fmt: skip
    except NirflowError:
        return NightScore(rows=())
    return NightScore(rows=tuple(rows))


def print_score(score: NightScore) -> None:
    """Print each figure next to its expected range; ``--json`` adds the meaning of each."""
    columns = [
        Column("product"), Column("figure"), Column("value", "right"), Column("unit"),
        Column("should be", "right"), Column(""),
    ]  # fmt: skip
    verdicts = {True: "good", False: "BEYOND", None: " "}
    rows = [
        [row.product, row.figure, f"{row.value:.4g}", row.unit, row.limit, verdicts[row.ok]]
        for row in score.rows
    ]
    print_table(columns, rows, styles=["red" if row.ok is False else "" for row in score.rows])
