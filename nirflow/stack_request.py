"""The request to ``nirflow stack``, checked before anything is read or started."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from imaging.kinds import MOSAIC
from nirflow.exits import UsageError
from nirflow.moments import moment, nights
from nirflow.request import known_band, require_text
from nirflow.step_settings import resolve
from tasks.support.parameters import STEPS, ReductionParameters

#: Steps whose parameters determine a mosaic.
_STEPS: Final = (MOSAIC.step, "resample", "detect", "photometry")


class StackRequest(BaseModel):
    """Stacks to combine, as requested by the user. Empty ``bands`` mean all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str = Field(default="", description="name of the target")
    observation: str = Field(default="", description="observation id")
    first: date | None = Field(default=None, description="first night")
    last: date | None = Field(default=None, description="last night")
    bands: tuple[str, ...] = Field(default=(), description="filters to combine")
    out: Path = Field(description="folder of the products")
    parameters: ReductionParameters = Field(
        default_factory=ReductionParameters, description="parameters of the steps"
    )
    as_of: datetime | None = Field(
        default=None, description="choose stacks as the store would have at that moment"
    )
    overwrite: bool = Field(
        default=False, description="replace products of the same name with different content"
    )
    threads: int | None = Field(default=None, ge=1, le=256, description="threads of the kernels, in all")
    quiet: bool = Field(default=False, description="no progress on the terminal")


def build_stack_request(
    *,
    target: str | None,
    observation: str | None,
    when: str | None = None,
    bands: Sequence[str] = (),
    out: Path,
    settings: Sequence[str] = (),
    as_of: str | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    quiet: bool = False,
) -> StackRequest:
    """Check the texts of the command line and build a request from them.

    Raises
    ------
    UsageError
        With the problem and the remedy.
    """
    field = [text.strip() for text in (target, observation) if text is not None]
    if len(field) != 1 or not field[0]:
        raise UsageError(
            "Name one field: its target, or its observation.",
            remedy="nirflow stack --target NAME, or nirflow stack --observation ID; see nirflow cal list --kind image.",
        )
    require_text(out)
    others = [text for text in settings if text.partition(".")[0].strip() not in _STEPS]
    if others:
        raise UsageError(
            f"--set {others[0]}: no such step makes a mosaic.",
            remedy=f"Its steps are {', '.join(_STEPS)}: nirflow params mosaic. Stacks have parameters of their own: "
            "nirflow reduce --set.",
        )
    first, last = nights(when.replace(":", ".."), "--nights") if when is not None else (None, None)
    return StackRequest(
        target=field[0] if target is not None else "",
        observation=field[0] if target is None else "",
        first=first,
        last=last,
        bands=tuple(dict.fromkeys(known_band(band) for band in bands)),
        out=out,
        parameters=ReductionParameters.model_validate(resolve(settings, STEPS)),
        as_of=moment(as_of, "--as-of"),
        overwrite=overwrite,
        threads=threads,
        quiet=quiet,
    )
