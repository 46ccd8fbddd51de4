"""What is usual: robust limits about a median."""

from __future__ import annotations

import pytest

from imaging.usual import usual


def test_robust_limits() -> None:
    assert usual([1.0] * 4) is None
    found = usual([1.0, 1.1, 0.9, 1.0, 1.05, 9.0])
    assert found is not None
    assert (found.middle, found.number) == (1.025, 6)
    assert found.high == pytest.approx(1.025 + 3 * 1.4826 * 0.05)
    steady = usual([1.0] * 9, 0.2)
    assert steady is not None
    assert (steady.low, steady.high) == (0.8, 1.2)
    assert usual([1.0] * 3, 0.2, fewest=3) is not None
