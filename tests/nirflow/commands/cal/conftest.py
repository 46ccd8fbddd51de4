"""Darks for the store behind the command line."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import Result

Run = Callable[..., Result]


@pytest.fixture
def make_dark(tmp_path: Path, frame_writer: Callable[..., Path]) -> Callable[..., Path]:
    """Write a processed dark with the headers of a raw one; cards by keyword. Each is made a second after the
    previous one.
    """
    second = itertools.count()

    def make(name: str = "S20131120S0115", level: float = 1.0, scatter: float = 0.0, **cards: Any) -> Path:
        raw = frame_writer(tmp_path / f"{name}.fits", OBSTYPE="DARK", FILTER2="DK_G0807", **cards)
        path = tmp_path / f"{name}_dark.fits"
        primary = fits.PrimaryHDU(header=fits.getheader(raw))
        primary.header["PROCDARK"] = f"2026-01-02T00:00:{next(second):02d}"
        sci = np.random.default_rng(len(name)).normal(level, scatter, (40, 40)).astype(np.float32)
        planes = {"SCI": sci, "VAR": np.full((40, 40), max(scatter, 1.0) ** 2, np.float32)}
        images = [fits.ImageHDU(plane, name=plane_name) for plane_name, plane in planes.items()]
        dq = fits.ImageHDU(np.zeros((40, 40), np.uint16), name="DQ")
        fits.HDUList([primary, *images, dq]).writeto(path)
        return path

    return make


@pytest.fixture
def master_dark(make_dark: Callable[..., Path]) -> Path:
    """Return a processed dark of 120 s."""
    return make_dark()


@pytest.fixture
def added(nirflow: Run, make_dark: Callable[..., Path], own_store: None) -> Callable[..., dict[str, Any]]:
    """Add a dark by the command line and return the product as JSON."""

    def add(*arguments: Any, **cards: Any) -> dict[str, Any]:
        result = nirflow(
            "cal", "add", make_dark(*arguments, **cards), "--any-shape", "--json", "--author", "Ana"
        )
        assert result.exit_code == 0, result.stderr
        (product,) = json.loads(result.stdout)["added"]
        return dict(product)

    return add
