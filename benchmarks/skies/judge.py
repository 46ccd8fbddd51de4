"""The verdict on a night: the stack's figures, its frames and its messages."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.faults.outcome import Outcome, messages_of
from benchmarks.skies.nights import SkyNight
from imaging.errors import NirflowError
from imaging.simulator.floor.best_stack import model_of
from imaging.simulator.floor.score_floor import of_frames, scaled_lights, score_floor
from imaging.simulator.plans.f2_nights import SKY_SCALE
from imaging.simulator.score_figures import ScoreRow
from imaging.simulator.stack_model import StackProduct, locate, read_stack
from imaging.simulator.truth import NightTruth

#: Largest loss of the galaxy's centre, and at two scale lengths, %.
CENTRE, HALO = 1.0, 5.0
#: Largest level of the empty background, e-.
BACKGROUND: Final = 0.5
#: How far a warning's losses may be from the true ones, relative.
ESTIMATE: Final = 0.3
#: Dithers of 150 arcsec do for the galaxy that those of 20 are too small for: the throw may be wider by a quarter.
MOST_WIDER: Final = 1.25 * 150 / 20
_WARNING: Final = re.compile(
    r"loses (?P<centre>[\d.]+) % of its light at the centre and (?P<halo>[\d.]+) % at (?P<at>[\d.]+) scale lengths?"
)
_THROW: Final = re.compile(
    r"dithers (?P<wider>[\d.]+) times as wide, a median of \d+ arcsec, would do|sky at least \d+ arcsec away"
)


@dataclass(frozen=True)
class Judged:
    """The figures of one night of one seed, and what is wrong with it."""

    night: str
    seed: int
    rows: tuple[ScoreRow, ...]
    frames: int
    wrong: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong

    def value(self, figure: str) -> float:
        """Return a figure; NaN if it was not measured."""
        return next((row.value for row in self.rows if row.figure == figure), math.nan)


def judge(night: SkyNight, seed: int, truth: NightTruth, outcome: Outcome) -> Judged:
    """Compare a reduced night with its truth and with what the table demands."""
    wrong = [] if outcome.clean().ok else [outcome.clean().evidence]
    wrong += _messages(night, outcome)
    image = _image(outcome)
    if night.judged == "bad" or image is None:
        if night.judged != "bad":
            wrong.append(f"no stack: {' '.join(outcome.failure.split())[:160]}")
        elif outcome.code == 0 and not night.message:
            wrong.append("reported as a success")
        calibrations = {one["kind"] for one in outcome.report.get("products", ())} - {"image"}
        if not calibrations:
            wrong.append("no calibrations were made or used")
        return Judged(night.name, seed, (), 0, tuple(wrong))
    try:
        stack = read_stack(Path(image["output"]))
        rows = tuple(
            galaxy_rows(stack, truth, image)
            if night.judged == "galaxy"
            else _floor(night, stack, truth, image)
        )
    except NirflowError as error:
        return Judged(night.name, seed, (), 0, (*wrong, f"not scored: {error}"))
    used = len(stack.mappings)
    if night.frames is not None and used != night.frames:
        wrong.append(f"{used} of {night.frames} frames used")
    level = next((row.value for row in rows if row.figure == "background"), math.nan)
    if night.background and not abs(level) <= BACKGROUND:
        wrong.append(f"background {level:.2g} e- (limit {BACKGROUND:g})")
    small_dither = night.judged == "galaxy" and bool(night.message)
    if small_dither:
        wrong += estimate_wrong(
            rows, [line for line in messages_of(outcome.report) if re.search(night.message, line, re.I)]
        )
    else:
        wrong += [
            f"{row.figure} {row.value:.3g} (limit {row.limit})"
            for row in rows
            if row.ok is False and row.figure not in night.by_eye
        ]
    return Judged(night.name, seed, rows, used, tuple(wrong))


def _image(outcome: Outcome) -> dict[str, Any] | None:
    """Return the stack with most frames."""
    images = [one for one in outcome.products("image") if one.get("output")]
    return max(images, key=lambda one: len(one["inputs"]), default=None)


def _messages(night: SkyNight, outcome: Outcome) -> list[str]:
    lines = list(messages_of(outcome.report)) + outcome.err.splitlines()
    wrong = []
    if night.message and not any(re.search(night.message, line, re.I) for line in lines):
        wrong.append(f"no message about {night.message}")
    if night.silent:
        wrong += [f"alarm: {line[:120]}" for line in lines if re.search(night.silent, line, re.I)][:1]
    return wrong


def _of_frames(image: dict[str, Any], figure: str) -> dict[str, float]:
    """Return a figure that a stack's record gives for each frame."""
    return of_frames(image.get("metrics") or {}, figure)


def _floor(night: SkyNight, stack: StackProduct, truth: NightTruth, image: dict[str, Any]) -> list[ScoreRow]:
    return score_floor(
        stack, truth, weights=_of_frames(image, "weights"), scales=_of_frames(image, "scales"),
        disturbances=night.disturbances,
    )  # fmt: skip


def galaxy_rows(stack: StackProduct, truth: NightTruth, image: dict[str, Any]) -> list[ScoreRow]:
    """Return the losses of the large galaxy's surface brightness: at its centre and at two scale lengths."""
    frames = [truth.frame(name) for name in stack.mappings]
    grid = locate(stack, truth, frames)
    lights = scaled_lights(truth, frames, stack.reference, _of_frames(image, "scales")) / len(frames)
    model = model_of(truth, frames, grid, stack.sci.shape, lights=lights)
    p = truth.parameters
    scale = p.galaxy_scale / SKY_SCALE
    distance = _distance(stack.sci.shape, grid.origin, p.galaxy_axis_ratio)
    rows = []
    for figure, low, high, limit in (
        ("loss of the centre", 0.0, 0.1, CENTRE), ("loss at two scale lengths", 1.8, 2.2, HALO),
    ):  # fmt: skip
        ring = (distance >= low * scale) & (distance < high * scale) & (stack.dq & 16 == 0)
        # Of the medians, so that stars do not count.
        loss = (
            100 * (1 - float(np.median(stack.sci[ring]) / np.median(model[ring]))) if ring.any() else math.nan
        )
        rows.append(ScoreRow(product="stack", figure=figure, value=loss, unit="%", low=-limit, high=limit))
    return rows


def _distance(shape: tuple[int, ...], centre: tuple[float, float], axis_ratio: float) -> NDArray[np.float64]:
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(x - centre[0], (y - centre[1]) / axis_ratio)


def estimate_wrong(rows: Sequence[ScoreRow], warnings: Sequence[str]) -> list[str]:
    """Return what is wrong with a warning's losses, its distance and the throw that it names.

    Parameters
    ----------
    rows
        True losses, %: at the centre, and at two scale lengths.
    warnings
        Messages about extended sources.
    """
    found = next((m for line in warnings if (m := _WARNING.search(line))), None)
    if found is None:
        return [f"no losses are named: {'; '.join(warnings)[:160] or 'no warning'}"]
    wrong = []
    for row, given in zip(rows, (float(found["centre"]), float(found["halo"])), strict=True):
        if not abs(given - row.value) <= ESTIMATE * abs(row.value):
            wrong.append(f"{row.figure}: estimated {given:g} %, true {row.value:.0f} %")
    if float(found["at"]) != 2.0:
        wrong.append(f"the halo is judged at {found['at']} scale lengths")
    throws = [m for line in warnings if (m := _THROW.search(line))]
    if not throws:
        wrong.append("no throw is named that would do")
    elif throws[0]["wider"] and not 1.0 < float(throws[0]["wider"]) < MOST_WIDER:
        wrong.append(f"dithers {throws[0]['wider']} times as wide would do (limit {MOST_WIDER:g})")
    return wrong
