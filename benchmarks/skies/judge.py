"""The verdict on a night: the stack's figures, its frames and its messages."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.faults.outcome import Outcome, messages_of
from benchmarks.skies.nights import SkyNight
from imaging.errors import NirflowError
from imaging.simulator.floor.best_stack import model_of
from imaging.simulator.floor.score_floor import score_floor
from imaging.simulator.parameters import SKY_SCALE
from imaging.simulator.score_figures import ScoreRow
from imaging.simulator.stack_model import StackProduct, locate, read_stack
from imaging.simulator.truth import NightTruth

#: Largest loss of the galaxy's centre, and at two scale lengths, %.
CENTRE, HALO = 1.0, 5.0
#: How far a warning's loss may be from the true one, relative.
ESTIMATE: Final = 0.3


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
    small_dither = night.judged == "galaxy" and bool(night.message)
    if small_dither:
        wrong += _estimate(rows, outcome)
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


def scaled_to(stack: StackProduct, truth: NightTruth, image: dict[str, Any]) -> float | None:
    """Return the transparency to which the frames of a stack were scaled; None where by exposure alone."""
    scales = list((image.get("metrics") or {}).get("scales", {}).values())
    if len(scales) < 2 or max(scales) - min(scales) < 1e-6:
        return None
    return truth.frame(stack.reference).throughput


def _weights(image: dict[str, Any]) -> dict[str, float]:
    return dict((image.get("metrics") or {}).get("weights", {}))


def _floor(night: SkyNight, stack: StackProduct, truth: NightTruth, image: dict[str, Any]) -> list[ScoreRow]:
    return score_floor(
        stack, truth, weights=_weights(image), transparency=scaled_to(stack, truth, image),
        disturbances=night.disturbances,
    )  # fmt: skip


def galaxy_rows(stack: StackProduct, truth: NightTruth, image: dict[str, Any]) -> list[ScoreRow]:
    """Return the losses of the large galaxy's surface brightness: at its centre and at two scale lengths."""
    frames = [truth.frame(name) for name in stack.mappings]
    grid = locate(stack, truth, frames)
    to = scaled_to(stack, truth, image)
    lights = np.array([(f.throughput if to is None else to) * f.exposure for f in frames]) / len(frames)
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


def _estimate(rows: tuple[ScoreRow, ...], outcome: Outcome) -> list[str]:
    """Compare the loss that the warning estimates with the true ones."""
    warnings = [line for line in messages_of(outcome.report) if re.search(r"extended|galaxy", line, re.I)]
    given = [float(v) for line in warnings for v in re.findall(r"(\d+(?:\.\d+)?) ?%", line)]
    true = [row.value for row in rows]
    if any(abs(g - t) <= ESTIMATE * abs(t) for g in given for t in true):
        return []
    return [f"estimated loss {given or 'missing'} %, true ones {', '.join(f'{t:.0f}' for t in true)} %"]
