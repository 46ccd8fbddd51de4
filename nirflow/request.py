"""The request to ``nirflow reduce``, checked before anything is read or started."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ByteSize, ConfigDict, Field, TypeAdapter, ValidationError

from deployments.settings.own_step_settings import own_steps, reference_catalogue
from imaging.kinds import CALIBRATION_KINDS, MOSAIC, CalibrationKind, Target, in_a_sentence
from imaging.own_steps.loading import load
from imaging.own_steps.named_arguments import check_references
from imaging.own_steps.registered import OwnStepError
from imaging.own_steps.uses import POINTS, OwnStepParameters, StepUse
from imaging.parameters import StepParameters
from imaging.reference_catalogue.catalogue_parameters import NO_SOURCE, CatalogueParameters
from nirflow.exits import UsageError
from nirflow.moments import moment
from nirflow.step_settings import first_problem, resolve
from tasks.support.parameters import STEPS, ReductionParameters

#: Bytes; a smaller limit has no room for a single band of rows.
_LEAST_MEMORY: Final = 2**20
#: Steps whose parameters do not belong to a product.
_PIXEL_FREE: Final = ("check", "gate")


class UseCalibration(BaseModel):
    """A calibration named by the user in place of the one that the rules would choose."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: CalibrationKind
    name: str = Field(min_length=1, description="a product's file, or its name or id in the store")


class ReduceRequest(BaseModel):
    """A reduction as requested by the user.

    Empty ``bands`` and ``only`` mean all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    paths: tuple[Path, ...] = Field(description="files, folders and globs of raw frames")
    recursive: bool = Field(default=False, description="also search subfolders")
    out: Path = Field(description="folder of the products")
    bands: tuple[str, ...] = Field(default=(), description="filters to reduce")
    only: tuple[Target, ...] = Field(
        default=(), description="products to make; what they need is made as well"
    )
    parameters: ReductionParameters = Field(
        default_factory=ReductionParameters, description="parameters of every step"
    )
    changed: tuple[str, ...] = Field(default=(), description="the --set texts as written")
    use: tuple[UseCalibration, ...] = Field(default=(), description="calibrations named by the user")
    allow_missing: frozenset[CalibrationKind] = Field(
        default=frozenset(), description="calibrations to continue without; the product is marked"
    )
    across_nights: bool = Field(default=False, description="combine science frames of several nights")
    join: bool = Field(default=False, description="stack adjacent sequences of one pointing together")
    as_of: datetime | None = Field(
        default=None, description="choose calibrations as the store would have at that moment"
    )
    affected_by: str | None = Field(
        default=None, description="make only what was made with this product or raw frame"
    )
    overwrite: bool = Field(
        default=False, description="replace products of the same name with different content"
    )
    threads: int | None = Field(default=None, ge=1, le=256, description="threads of the kernels, in all")
    memory: ByteSize | None = Field(default=None, description="memory limit of the stacks, bytes")
    quiet: bool = Field(default=False, description="no progress on the terminal")


def build_request(
    paths: Sequence[Path],
    *,
    out: Path,
    recursive: bool = False,
    bands: Sequence[str] = (),
    only: Sequence[str] = (),
    settings: Sequence[str] = (),
    steps: Sequence[str] = (),
    catalogue: str | None = None,
    use: Sequence[str] = (),
    allow_missing: Sequence[str] = (),
    across_nights: bool = False,
    join: bool = False,
    overwrite: bool = False,
    as_of: str | None = None,
    affected_by: str | None = None,
    threads: int | None = None,
    memory: str | None = None,
    quiet: bool = False,
) -> ReduceRequest:
    """Check the texts of the command line and build a request from them.

    Raises
    ------
    UsageError
        With the problem and the remedy.
    """
    if catalogue is not None:
        settings = [*settings, f"catalogue.source={catalogue}"]
    _refuse_parameters(settings, steps, affected_by)
    require_text(*paths, out)
    try:
        return ReduceRequest(
            paths=tuple(paths),
            recursive=recursive,
            out=out,
            bands=tuple(dict.fromkeys(known_band(band) for band in bands)),
            only=TypeAdapter(tuple[Target, ...]).validate_python(tuple(dict.fromkeys(only))),
            parameters=_parameters(settings, steps),
            changed=(*settings, *(f"--step {text}" for text in steps)),
            use=_uses(use),
            allow_missing=TypeAdapter(frozenset[CalibrationKind]).validate_python(allow_missing),
            across_nights=across_nights,
            join=join,
            overwrite=overwrite,
            as_of=moment(as_of, "--as-of"),
            affected_by=affected_by,
            threads=threads,
            memory=_memory(memory),
            quiet=quiet,
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"{name} cannot be {first['input']!r}: {first_problem(error)}.",
            remedy="For the options and parameters: nirflow reduce --help, nirflow params",
        ) from None


def require_text(*paths: Path) -> None:
    """Refuse paths that are not text: runs are recorded with their paths, as JSON.

    Raises
    ------
    UsageError
        With the path and the remedy.
    """
    for path in paths:
        try:
            os.fspath(path).encode()
        except UnicodeEncodeError:
            raise UsageError(
                f"{path} contains bytes that are not valid UTF-8, which the record of runs cannot hold.",
                remedy="Rename it, or name a link to it: ln -s OLD NEW. With a locale other than UTF-8: LC_ALL=C.UTF-8",
            ) from None


def _refuse_parameters(settings: Sequence[str], steps: Sequence[str], affected_by: str | None) -> None:
    """Refuse parameters of a mosaic, which a reduction does not make, and of products that are made again, which have
    their own; those that affect no pixel are allowed.
    """
    of_mosaics = [text for text in settings if text.partition(".")[0].strip() == MOSAIC.step]
    if of_mosaics:
        raise UsageError(
            f"--set {of_mosaics[0]} has no effect on a reduction: stacks are combined by a command of their own.",
            remedy=f"nirflow stack --target NAME --set {of_mosaics[0]}",
        )
    others = [text for text in settings if text.partition(".")[0].strip() not in _PIXEL_FREE]
    if affected_by is not None and (others or steps):
        option = f"--set {others[0]}" if others else f"--step {steps[0]}"
        raise UsageError(
            f"{option} cannot go with --affected-by: each product is made again with its own parameters.",
            remedy="Omit it. To use other parameters, reduce the frames again: nirflow reduce PATH --set ...",
        )


def _parameters(settings: Sequence[str], steps: Sequence[str]) -> ReductionParameters:
    changed = resolve(settings, STEPS)
    stars = _catalogue(changed.pop("catalogue", CatalogueParameters()))
    given = changed.pop("steps", OwnStepParameters())
    assert isinstance(given, OwnStepParameters)
    own = own_steps(_with_steps(given, steps))
    for point in POINTS:
        for one in own.at(point):
            try:
                check_references(one, point)
                load(one, own.time_limit)
            except OwnStepError as error:
                raise UsageError(error.message, remedy=error.remedy) from error
    return ReductionParameters.model_validate({**changed, "steps": own, "catalogue": stars})


def catalogue_parameters(settings: Sequence[str], source: str | None) -> CatalogueParameters:
    """Return the catalogue of ``--set`` texts and of a source, over that of the settings.

    Raises
    ------
    UsageError
        If a text is wrong, or if there is no such file or folder.
    """
    given = [*settings, f"catalogue.source={source}"] if source is not None else settings
    return _catalogue(
        resolve(given, {"catalogue": CatalogueParameters}).get("catalogue", CatalogueParameters())
    )


def _catalogue(given: StepParameters) -> CatalogueParameters:
    """Return the catalogue as given, otherwise that of the settings, with the complete path of a file.

    Raises
    ------
    UsageError
        If there is no such file or folder.
    """
    assert isinstance(given, CatalogueParameters)
    if given.source is None and "source" in given.model_fields_set:
        given = given.model_copy(update={"source": NO_SOURCE})
    stars = reference_catalogue(given)
    if not stars.wanted or stars.service is not None:
        return stars
    path = Path(str(stars.source)).expanduser().absolute()
    require_text(path)
    if not path.exists():
        raise UsageError(
            f"There is no catalogue {path}.",
            remedy="Correct --catalogue, or source in the section [catalogue] of nirflow.toml: a file, a folder of "
            "tiles, or a service such as vizier:2MASS. Without a catalogue: --catalogue none",
        )
    return stars.model_copy(update={"source": str(path)})


def _with_steps(given: OwnStepParameters, texts: Sequence[str]) -> OwnStepParameters:
    """Return the steps with those of the ``--step`` texts after them, in order."""
    for text in texts:
        point, sign, use = text.partition("=")
        point = point.strip()
        if not sign or point not in POINTS:
            raise UsageError(
                f"--step {text!r} is not of the form POINT=FUNCTION(ARGUMENT=VALUE, ...).",
                remedy=f"Points: {', '.join(POINTS)}. For example --step "
                "'after_detrend=ccdproc:cosmicray_lacosmic(sigclip=5, readnoise=@read_noise)'",
            )
        try:
            added = StepUse.model_validate(use)
        except ValidationError as error:
            raise UsageError(
                f"--step {text!r}: {first_problem(error)}.",
                remedy="Write POINT=package.module:function(argument=value, ...), within quotes for the shell.",
            ) from None
        given = given.model_copy(update={point: (*getattr(given, point), added)})
    return given


def known_band(text: str) -> str:
    """Return the official spelling of a band: ``K-red`` for ``k-RED``."""
    from imaging.instruments import catalogue

    bands = tuple(dict.fromkeys(band for one in catalogue.instruments() for band in one.bands))
    known = {band.lower(): band for band in bands}
    if text.lower() in known:
        return known[text.lower()]
    close = difflib.get_close_matches(text.lower(), known, n=1, cutoff=0.5)
    guess = f"Did you mean {known[close[0]]}? " if close else ""
    raise UsageError(f"Unknown band {text!r}.", remedy=f"{guess}Bands: {', '.join(bands)}.")


def _uses(texts: Sequence[str]) -> tuple[UseCalibration, ...]:
    uses = tuple(_use(text) for text in texts)
    for kind in CALIBRATION_KINDS:
        if sum(use.kind == kind for use in uses) > 1:
            raise UsageError(f"--use names more than one {kind}.", remedy="Name one of each kind.")
    return uses


def _use(text: str) -> UseCalibration:
    kind, sign, name = text.partition("=")
    kind, name = kind.strip().lower(), name.strip()
    if not sign or not name or kind not in CALIBRATION_KINDS:
        raise UsageError(
            f"--use {text!r} names no calibration.",
            remedy=f"Write {in_a_sentence(f'{one}=' for one in CALIBRATION_KINDS)} and a file, or a product's name in "
            "the store (nirflow cal list): --use dark=S20131120S0115_dark.fits",
        )
    return UseCalibration.model_validate({"kind": kind, "name": name})


def _memory(text: str | None) -> ByteSize | None:
    if text is None:
        return None
    try:
        size = TypeAdapter(ByteSize).validate_python(text)
    except ValidationError:
        size = ByteSize(0)
    if size < _LEAST_MEMORY:
        raise UsageError(
            f"--memory {text!r} is not an amount of memory, or is too small.", remedy="Write 800MB or 1.2GB."
        )
    return size
