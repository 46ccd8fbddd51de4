"""Figures of merit: a value, its expected range, and its meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, computed_field

from imaging.simulator.measure_stars import clipped_rms, robust_sigma

#: Sigmas at which a plain standard deviation is clipped.
PULL_CLIP: Final = 5.0


class ScoreRow(BaseModel):
    """One figure: its value, expected range and meaning."""

    model_config = ConfigDict(frozen=True)

    product: str = Field(description="bpm, dark, flat or stack")
    figure: str = Field(description="name of the figure")
    value: float
    unit: str = ""
    low: float | None = Field(default=None, description="smallest good value; None: no such limit")
    high: float | None = Field(default=None, description="largest good value; None: no such limit")
    meaning: str = ""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ok(self) -> bool | None:
        """Whether the value is in its range; None for a figure without limits."""
        if self.low is None and self.high is None:
            return None
        above = self.low is None or self.value >= self.low
        return above and (self.high is None or self.value <= self.high)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def limit(self) -> str:
        """The range as text."""
        if self.low is not None and self.high is not None:
            return f"{self.low:g}" if self.low == self.high else f"{self.low:g} to {self.high:g}"
        if self.high is not None:
            return f"<= {self.high:g}"
        return "" if self.low is None else f">= {self.low:g}"


class NightScore(BaseModel):
    """All figures of a night's products."""

    model_config = ConfigDict(frozen=True)

    rows: tuple[ScoreRow, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ok(self) -> bool:
        """Whether every figure with a limit is within it; False without any."""
        judged = [row.ok for row in self.rows if row.ok is not None]
        return bool(judged) and all(judged)

    @property
    def failed(self) -> tuple[ScoreRow, ...]:
        """The figures beyond their limits."""
        return tuple(row for row in self.rows if row.ok is False)

    def value(self, product: str, figure: str) -> float:
        """Return the value of one figure.

        Raises
        ------
        KeyError
            If the figure does not exist.
        """
        for row in self.rows:
            if (row.product, row.figure) == (product, figure):
                return row.value
        raise KeyError(f"{product}: {figure}")


def read_planes(path: Path, *names: str) -> tuple[NDArray[Any], ...]:
    """Return the named image extensions of a product, in native byte order."""
    with fits.open(path, memmap=False) as hdus:
        planes = tuple(np.squeeze(hdus[name].data) for name in names)
    return tuple(plane.astype(plane.dtype.newbyteorder("="), copy=False) for plane in planes)


def pull_rows(product: str, pull: NDArray[Any]) -> list[ScoreRow]:
    """Return robust and clipped widths of a pull distribution, (product - truth) / sqrt(VAR)."""
    centred = pull - np.median(pull) if pull.size else pull
    return [
        ScoreRow(
            product=product, figure="VAR pull", value=robust_sigma(pull), low=0.9, high=1.1,
            meaning="width of (product - truth) / sqrt(VAR) from the median absolute deviation",
        ),
        ScoreRow(
            product=product, figure="VAR pull, standard deviation", value=clipped_rms(centred, PULL_CLIP),
            low=0.9, high=1.1, meaning="the same as a standard deviation, clipped at 5 sigma",
        ),
    ]  # fmt: skip
