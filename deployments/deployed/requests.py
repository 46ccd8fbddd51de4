"""The parameters of the deployed flows, as models from which the Prefect UI makes its forms."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from deployments.prefect_api.names import SEQUENCE
from imaging.frames.nights import check_night
from imaging.frames.sequences import night_in
from imaging.instruments.site import Site
from imaging.kinds import REQUIRED_KINDS, CalibrationKind, Target
from imaging.parameters import in_order
from tasks.support.parameters import ReductionParameters

Band = Literal["Y", "J-lo", "J", "H", "Ks", "K-red", "K-blue", "K-long"]
Night = Annotated[date, AfterValidator(check_night)]
_LONGEST: Final = 31


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=in_order)


class Nights(_Request):
    """One night or several; by default the last night."""

    first: Night | None = Field(
        default=None,
        title="Night",
        description="date that the observatory gives to the night: for Gemini, the local date at its end. Empty: the "
        "last night before the scheduled time.",
    )
    last: Night | None = Field(
        default=None, title="Until night", description="last night of a range (inclusive). Empty: one night."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last is not None and self.first is None:
            raise ValueError("the first night of the range is missing")
        if self.first is not None and self.last is not None:
            days = (self.last - self.first).days
            if days < 0:
                raise ValueError(f"the range ends on {self.last}, before it begins on {self.first}")
            if days >= _LONGEST:
                raise ValueError(
                    f"a range of {days + 1} nights is too long; one run takes at most {_LONGEST}"
                )
        return self


class NamedCalibration(_Request):
    """A product of the store to use for one kind of calibration, whatever the rules would choose."""

    kind: CalibrationKind = Field(title="Kind", description="kind of the calibration")
    product: str = Field(
        min_length=1,
        title="Product",
        description="name or id (or its first 6 digits or more) of a product in the store",
    )

    @field_validator("product")
    @classmethod
    def _in_the_store(cls, value: str) -> str:
        if "/" in value:
            raise ValueError(f"{value!r} is a path; only products of the store can be named here")
        return value.strip()


class ChosenCalibrations(_Request):
    """Calibrations of a run. Empty: the rules choose."""

    days: int | None = Field(
        default=None,
        ge=0,
        le=90,
        title="Within, days",
        description="raw darks and flats within this time of the night are included, in complete groups. Empty: as in "
        "the settings (10).",
    )
    use: tuple[NamedCalibration, ...] = Field(
        default=(),
        title="Use",
        description="products to use, whatever the rules would choose; it is recorded",
    )
    allow_missing: tuple[CalibrationKind, ...] = Field(
        default=(),
        title="Allow missing",
        description="kinds to continue without if none is found; stacks are marked",
    )

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        kinds = [one.kind for one in self.use]
        twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
        if twice is not None:
            raise ValueError(f"two products are named for the kind {twice}")
        return self


class AdvancedRequest(_Request):
    """Grouping of the science, and parameters of the steps."""

    across_nights: bool = Field(
        default=False,
        title="Across nights",
        description="combine the science frames of one pointing from several nights. Off: a stack for each night.",
    )
    join: bool = Field(
        default=False,
        title="Join sequences",
        description="stack adjacent sequences of one pointing together, although their observation ids differ. Off: a "
        "stack for each.",
    )
    parameters: ReductionParameters = Field(
        default=ReductionParameters(), title="Parameters", description="parameters of the steps, as in nirflow params"
    )  # fmt: skip


class NightlyRequest(Nights):
    """Reduce all frames of a night."""

    folder: Path | None = Field(
        default=None,
        title="Folder",
        description="only raw frames in this folder and below, which must be in the store or in a watched folder. "
        "Empty: any folder.",
    )
    targets: tuple[str, ...] = Field(
        default=(), title="Targets", description="targets to reduce, as in the headers. Empty: all."
    )
    bands: tuple[Band, ...] = Field(default=(), title="Bands", description="filters to reduce. Empty: all.")
    only: tuple[Target, ...] = Field(
        default=(),
        title="Only",
        description="kinds of product to make, with the calibrations that they need. Empty: all.",
    )
    calibrations: ChosenCalibrations = Field(
        default=ChosenCalibrations(),
        title="Calibrations",
        description="calibrations of the run; by default the rules choose",
    )
    advanced: AdvancedRequest = Field(
        default=AdvancedRequest(),
        title="Advanced",
        description="grouping of the science, and parameters of the steps",
    )


class CalibrationsRequest(Nights):
    """Make darks, bad pixel masks and flats only."""

    only: tuple[CalibrationKind, ...] = Field(
        default=REQUIRED_KINDS, title="Only", description="kinds of product to make"
    )


class MosaicRequest(_Request):
    """Combine the stacks of several nights or pointings into one image for each band."""

    target: str = Field(
        default="",
        max_length=200,
        title="Target",
        description="stacks of this target, in any capitals. Give this or the observation.",
    )
    observation: str = Field(
        default="", max_length=200, title="Observation", description="stacks of this observation id"
    )
    first: Night | None = Field(
        default=None, title="From night", description="first night of the stacks. Empty: no limit."
    )
    last: Night | None = Field(
        default=None,
        title="Until night",
        description="last night of the stacks (inclusive). Empty: no limit.",
    )
    bands: tuple[Band, ...] = Field(default=(), title="Bands", description="filters to combine. Empty: all.")
    parameters: ReductionParameters = Field(
        default=ReductionParameters(),
        title="Parameters",
        description="parameters of the steps mosaic, resample, detect and photometry, as in nirflow params",
    )

    @model_validator(mode="after")
    def _one_field(self) -> Self:
        if bool(self.target.strip()) == bool(self.observation.strip()):
            raise ValueError("give either a target or an observation")
        if self.first is not None and self.last is not None and self.last < self.first:
            raise ValueError(f"the range ends on {self.last}, before it begins on {self.first}")
        return self


class SequenceRequest(_Request):
    """Reduce one sequence of exposures."""

    sequence: str = Field(
        title="Sequence",
        description="name such as 2013-11-21.science.Y.1f0c9a2b; see the events of the frames, or the night's page",
    )

    label: str | None = Field(
        default=None, max_length=200, title="Label", description="name of the run. Empty: from the sequence"
    )

    @field_validator("sequence")
    @classmethod
    def _plain(cls, value: str) -> str:
        return _sequence(value)


class ReprocessRequest(_Request):
    """Make again products affected by a bad product or frame, or by a change of the rules."""

    affected_by: str | None = Field(
        default=None,
        title="Product or frame",
        description="a rejected or superseded product, or a rejected raw frame: name, id, or first digits",
    )
    rules_version: str | None = Field(
        default=None,
        title="Rules version",
        description="science whose calibrations were chosen by these rules, if the current rules choose others",
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.affected_by is None) == (self.rules_version is None):
            raise ValueError("give either a product or frame, or a version of the rules")
        return self


class HousekeepingRequest(_Request):
    """Check the store and delete old runs from the Prefect server. Nothing in the store is deleted."""

    verify: bool = Field(
        default=True, title="Verify", description="read every product's file and compare checksums"
    )
    collect: bool = Field(
        default=True,
        title="Orphans",
        description="list files that no product refers to (nirflow cal gc deletes them)",
    )
    keep_runs_days: int | None = Field(
        default=None,
        ge=1,
        title="Keep runs, days",
        description="the Prefect server deletes runs that ended earlier. Empty: as in the settings (180). An operator "
        "cannot set less.",
    )


class DecisionRequest(_Request):
    """Certify, reject or reinstate a product, or reject or reinstate a raw frame."""

    product: str = Field(
        min_length=1,
        title="Product or frame",
        description="file name or id (or its first 6 digits or more) of a product, or a raw frame's name",
    )
    decision: Literal["certify", "reject", "reinstate"] = Field(
        title="Decision", description="reinstate makes a product a candidate again, or a frame usable"
    )
    reason: str = Field(min_length=1, title="Reason", description="reason, which is logged with your name")
    first_night: Night | None = Field(
        default=None,
        title="Valid from night",
        description="first night of a certified product's validity. Empty: according to its rule.",
    )
    last_night: Night | None = Field(
        default=None, title="Valid until night", description="last night (inclusive). Empty: one night."
    )
    valid_from: datetime | Literal["always"] | None = Field(
        default=None,
        title="Valid from",
        description="instead of nights: a time in UT, or always. Empty: according to its rule.",
    )
    valid_until: datetime | Literal["always"] | None = Field(
        default=None,
        title="Valid until",
        description="instead of nights: a time in UT (exclusive), or always.",
    )
    take_over: bool = Field(
        default=False,
        title="Take over",
        description="divide the time between certified neighbours half-way between them",
    )
    despite_gate: bool = Field(
        default=False,
        title="Despite the comparison",
        description="certify although it failed the comparison with a certified product",
    )

    @field_validator("reason")
    @classmethod
    def _given(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("a decision needs a reason")
        return value.strip()

    @field_validator("valid_from", "valid_until")
    @classmethod
    def _in_ut(cls, value: datetime | Literal["always"] | None) -> datetime | Literal["always"] | None:
        if not isinstance(value, datetime):
            return value
        check_night(value.date())
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)

    @model_validator(mode="after")
    def _one_validity(self) -> Self:
        nights = self.first_night is not None or self.last_night is not None
        moments = self.valid_from is not None or self.valid_until is not None
        if self.decision != "certify" and (nights or moments or self.take_over or self.despite_gate):
            raise ValueError("a validity and its options are only for the decision certify")
        if nights and moments:
            raise ValueError("give either the nights of the validity or its times, not both")
        if self.last_night is not None and (self.first_night is None or self.last_night < self.first_night):
            raise ValueError("the last night of the validity needs a first night that is not later")
        return self

    def validity_at(
        self, site: Site
    ) -> tuple[datetime | Literal["always"] | None, datetime | Literal["always"] | None]:
        """Return start (inclusive) and end (exclusive) of the validity of a product of a site; None: by its rule."""
        if self.first_night is None:
            return self.valid_from, self.valid_until
        return site.validity_of(self.first_night, self.last_night or self.first_night)


def _sequence(value: str) -> str:
    name = value.removeprefix(SEQUENCE)
    try:
        night_in(name)
    except ValueError:
        raise ValueError(
            f"{name!r} is not the name of a sequence, such as 2013-11-21.science.Y.1f0c9a2b"
        ) from None
    return name
