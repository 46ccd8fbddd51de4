"""Calibrations that are read once for all frames of a group."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imaging.calibrations.dark import DarkParameters
from imaging.products.product_file import ProductFile
from tasks.dark import build_dark
from tasks.support.calibration_files import calibration_files
from tasks.support.references import Calibrations, FrameSet, ProductRef, Survey
from tasks.support.workspace import Workspace


@pytest.fixture
def dark(look: Callable[..., Survey], workspace: Workspace, raw: list[Path]) -> ProductRef:
    frames = look(raw).frames
    made: Any = build_dark.fn(FrameSet(label="dark", frames=frames), DarkParameters(), workspace)
    return made if isinstance(made, ProductRef) else made.data


@pytest.mark.parametrize("memory", [2**28, 1000])
def test_planes_are_read_once_while_any_frame_needs_them(
    dark: ProductRef, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    limited, calibrations = workspace.model_copy(update={"memory": memory}), Calibrations(present=(dark,))
    with ProductFile(workspace.file_of(dark)) as file:
        expected = file.rows("SCI")
        small = 34 * expected.size <= memory
    reads: list[str] = []
    original = ProductFile.rows

    def rows(self: ProductFile, extname: str, rows: slice | None = None) -> Any:
        reads.append(extname)
        return original(self, extname, rows)

    monkeypatch.setattr(ProductFile, "rows", rows)
    with calibration_files(calibrations, limited) as waiting:
        for _ in range(2):
            with calibration_files(calibrations, limited) as opened:
                found = opened()["dark"]
                for band in (slice(0, 8), slice(8, len(expected))):
                    np.testing.assert_array_equal(found.rows("SCI", band), expected[band])
        assert waiting()["dark"] is found
        assert len(reads) == (1 if small else 4)
    with calibration_files(calibrations, limited) as opened:
        assert opened()["dark"] is not found  # closed, and its memory free
