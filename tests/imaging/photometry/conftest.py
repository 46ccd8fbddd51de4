"""Synthetic stacks of known stars, prepared for photometry."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from benchmarks.photometry.synthetic import Scene, SyntheticStack, synthetic_stack
from imaging.photometry.measured_image import MeasuredImage
from imaging.sources.detect import Detection, detect

SCENE = Scene(size=640, bright=40)


@cache
def observed(seed: int) -> tuple[SyntheticStack, Detection, MeasuredImage]:
    """Return a stack with its sources, and the same prepared for photometry."""
    stack = synthetic_stack(SCENE, np.random.default_rng(seed))
    found = detect(stack.sci, stack.dq)
    return stack, found, MeasuredImage.of(stack.sci, stack.var, stack.dq, found)


@pytest.fixture(params=[1, 2])
def stack(request: pytest.FixtureRequest) -> tuple[SyntheticStack, Detection, MeasuredImage]:
    return observed(request.param)
