"""Situations of frames unlike their peers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.faults import edit
from benchmarks.faults.laboratory import DARK, LAMP_ON, SCIENCE
from benchmarks.faults.outcome import Outcome
from benchmarks.faults.situation import Check, Situation
from imaging.simulator.parameters import NightParameters

camera = NightParameters().camera

#: Electrons in one ADU of the darks and science frames.
_GAIN = camera.gain(8)
#: Terms of a message about a frame that is unlike its peers, and a figure with its unit.
_UNLIKE = "unlike|quadrant|peer|level|noise|weight|gradient|structure"
_FIGURE = r"\d ?(e-|%|times|sigma|adu|electron)|times"


def _pixels(name: str, change: Callable[[NDArray[Any]], Any]) -> Callable[[Path], None]:
    return lambda night: edit.pixels(night, name, change)


def _more(electrons: float) -> Callable[[NDArray[Any]], Any]:
    return lambda adu: (adu + round(electrons / _GAIN)).astype(adu.dtype)


def _noisy(adu: NDArray[Any]) -> NDArray[Any]:
    noise = np.random.default_rng(3).normal(0, 12 / _GAIN, adu.shape)
    changed: NDArray[Any] = (adu + np.rint(noise)).astype(adu.dtype)
    return changed


def _leaning(adu: NDArray[Any]) -> NDArray[Any]:
    rows = np.linspace(0, 200 / _GAIN, adu.shape[-2])[:, None]
    changed: NDArray[Any] = (adu + np.rint(rows)).astype(adu.dtype)
    return changed


def _quadrant(adu: NDArray[Any]) -> None:
    half = adu.shape[-1] // 2
    adu[..., :half, :half] += round(60 / _GAIN)


def _unread(adu: NDArray[Any]) -> None:
    adu[..., round(0.59 * adu.shape[-2]) :, :] = 0


def _short(adu: NDArray[Any]) -> NDArray[Any]:
    changed: NDArray[Any] = (adu // 4).astype(adu.dtype)
    return changed


def _out_and_named(name: str, kind: str, terms: str = "") -> Callable[[Outcome], Sequence[Check]]:
    def judge(outcome: Outcome) -> Sequence[Check]:
        product = {"image": "stack"}.get(kind, kind)
        return (
            outcome.clean(),
            outcome.right_figures(product),
            outcome.named(name, terms or _UNLIKE, _FIGURE, grave=True),
        )

    return judge


def _weighted(outcome: Outcome) -> Sequence[Check]:
    want, got = (figures.get(("dark", "mean offset")) for figures in (outcome.lab.expected, outcome.figures))
    if got is None or want is None:
        return (outcome.clean(), Check(False, outcome.failure))
    text = f"the master is {got - want:+.2f} e- off"
    return (
        outcome.clean(),
        Check(abs(got - want) < 0.5, text),
        outcome.right_figures("dark"),
        outcome.named(DARK, _UNLIKE, _FIGURE),
    )


def _flagged_or_out(outcome: Outcome) -> Sequence[Check]:
    return (
        outcome.clean(),
        outcome.right_figures(),
        outcome.named(SCIENCE[4], "zero|one value|unread|DQ|left|constant"),
    )


def _halves(night: Path) -> None:
    edit.values(night, SCIENCE[5:], OBSID="GS-2013B-Q-15-40", OBJECT="WISE J0413")


def _joined_or_explained(outcome: Outcome) -> Sequence[Check]:
    sizes = sorted(len(one["inputs"]) for one in outcome.products("image"))
    advice = next((line for line in outcome.lines if "--join" in line), None)
    stacks = Check(bool(sizes) and sum(sizes) == 9, f"stacks of {sizes or 'no'} frames")
    note = Check(
        sizes == [9] or advice is not None, (advice or "no message how to join the stacks")[:160], grave=False
    )
    return (outcome.clean(), stacks, note)


SITUATIONS: tuple[Situation, ...] = (
    Situation("light-leak-in-a-dark", "frames", "one of ten darks with 500 e- more",
              "left out, with its figure", disturb=_pixels(DARK, _more(500)),
              judge=_out_and_named(DARK, "dark", "level|peer")),
    Situation("little-more-in-a-dark", "frames", "one of ten darks with 22 e- more",
              "left out or weighted, with its figure", disturb=_pixels(DARK, _more(22)), judge=_weighted),
    Situation("gradient-in-a-dark", "frames", "light across one of ten darks, up to 200 e-",
              "left out, with its figure", disturb=_pixels(DARK, _leaning), judge=_out_and_named(DARK, "dark")),
    Situation("offset-quadrant-of-a-dark", "frames", "a quadrant of one of ten darks 60 e- high",
              "left out, with its figure", disturb=_pixels(DARK, _quadrant), judge=_out_and_named(DARK, "dark")),
    Situation("noisy-dark", "frames", "one of ten darks with two and a half times the noise",
              "left out or weighted, with its figure", disturb=_pixels(DARK, _noisy),
              judge=_out_and_named(DARK, "dark")),
    Situation("lamp-off-in-a-lamp-on", "frames", "one of four lamp-ons with a tenth of the light",
              "left out, with its figure", disturb=_pixels(LAMP_ON, lambda adu: (adu // 10).astype(adu.dtype)),
              judge=_out_and_named(LAMP_ON, "flat")),
    Situation("unread-part", "frames", "the upper 41 % of a science frame are zeros",
              "that part has no data, or the frame is out", disturb=_pixels(SCIENCE[4], _unread),
              judge=_flagged_or_out),
    Situation("aborted-exposure", "frames", "a quarter of the counts in one science frame, EXPTIME as planned",
              "out, with its figure", disturb=_pixels(SCIENCE[4], _short),
              judge=_out_and_named(SCIENCE[4], "image", "flux|transparency|sky|level")),
    Situation("new-name-half-way", "frames", "observation id and object name change half-way",
              "two stacks and a note how to join them, or one", disturb=_halves, judge=_joined_or_explained),
)  # fmt: skip
