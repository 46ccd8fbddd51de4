"""Small images with headers, and functions of a user's package."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from imaging.header import Header
from imaging.own_steps.loading import LoadedStep, load
from imaging.own_steps.uses import StepUse
from imaging.pixels.image import Image

SHAPE = (48, 64)
WCS = {
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 32.0, "CRPIX2": 24.0, "CRVAL1": 150.0, "CRVAL2": -30.0,
    "CD1_1": -5e-5, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 5e-5,
}  # fmt: skip


@pytest.fixture
def image() -> Callable[..., Image]:
    """Make an image of noise, with some flags."""

    def make(level: float = 100.0, unit: str = "electron") -> Image:
        rng = np.random.default_rng(5)
        sci = rng.normal(level, 10, SHAPE).astype(np.float32)
        dq = np.zeros(SHAPE, np.uint16)
        dq[0, :3] = 1, 8, 2
        header = Header({**WCS, "BUNIT": unit})
        return Image(sci, np.full(SHAPE, 100, np.float32), dq, header, Header({"EXPTIME": 60.0}))

    return make


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., LoadedStep]]:
    """Load a function as if a package had it."""

    def make(function: Callable[..., Any], arguments: str = "", **use: Any) -> LoadedStep:
        module = ModuleType("users_functions")
        vars(module)["function"] = function
        monkeypatch.setitem(sys.modules, "users_functions", module)
        return load(StepUse.model_validate({"function": f"users_functions:function({arguments})", **use}))

    return make
