"""The parameters of all steps in one model: what ``--set``, the Prefect form and ``nirflow params`` show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from imaging.astrometry.world_coordinates import AstrometryParameters
from imaging.calibrations.compare import GateParameters
from imaging.calibrations.sky_flat import SkyFlatParameters
from imaging.detrend.detrend import DetrendParameters
from imaging.detrend.prepare import PrepareParameters
from imaging.errors import NirflowError
from imaging.frames.facts import FrameFacts
from imaging.frames.find_files import CheckParameters
from imaging.frames.groups import GroupParameters
from imaging.instruments import catalogue
from imaging.instruments.checking.table_errors import located
from imaging.instruments.instrument import Instrument
from imaging.kinds import CALIBRATIONS, KINDS, Kind, class_named
from imaging.own_steps.uses import OwnStepParameters
from imaging.parameters import StepParameters
from imaging.photometry.photometry_parameters import PhotometryParameters
from imaging.reference_catalogue.catalogue_parameters import CatalogueParameters
from imaging.registration.align import AlignParameters
from imaging.registration.resampling.resample import ResampleParameters
from imaging.sky.subtract import SkyParameters
from imaging.sources.detect import DetectParameters


class _Steps(BaseModel):
    """The parameters of the steps that do not make a product themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: CheckParameters = Field(default=CheckParameters(), description="what makes a frame unusable")
    groups: GroupParameters = Field(default=GroupParameters(), description="which frames belong together")
    prepare: PrepareParameters = Field(default=PrepareParameters(), description="ADU to electrons")
    sky_flat: SkyFlatParameters = Field(
        default=SkyFlatParameters(), title="Sky flat", description="master flat where no lamp flat exists"
    )
    gate: GateParameters = Field(
        default=GateParameters(), description="new calibrations compared with certified ones"
    )
    detrend: DetrendParameters = Field(default=DetrendParameters(), description="dark and flat applied")
    sky: SkyParameters = Field(default=SkyParameters(), description="sky from the other dithers")
    steps: OwnStepParameters = Field(
        default=OwnStepParameters(),
        title="Own steps",
        description="functions of your own, called with frames and stacks",
    )
    catalogue: CatalogueParameters = Field(
        default=CatalogueParameters(), description="reference stars with positions and magnitudes"
    )
    detect: DetectParameters = Field(default=DetectParameters(), description="sources and masks")
    align: AlignParameters = Field(default=AlignParameters(), description="frames onto a reference")
    resample: ResampleParameters = Field(default=ResampleParameters(), description="onto the output grid")
    photometry: PhotometryParameters = Field(
        default=PhotometryParameters(), description="magnitudes of the sources of a stack"
    )
    astrometry: AstrometryParameters = Field(
        default=AstrometryParameters(), description="world coordinates of a stack from a catalogue"
    )


def _of(kinds: Iterable[Kind]) -> dict[str, tuple[Any, Any]]:
    """Return the fields of the steps that make products of these kinds."""
    models = {kind: class_named(kind.parameters) for kind in kinds}
    return {
        kind.step: (model, Field(default=model(), description=kind.step_label))
        for kind, model in models.items()
    }


def _in_order() -> dict[str, tuple[Any, Any]]:
    """Return the fields of all steps: those that make calibrations come before what follows from these."""
    fields: dict[str, tuple[Any, Any]] = {}
    for name, field in _Steps.model_fields.items():
        if name == "sky_flat":
            fields |= _of(CALIBRATIONS)
        fields[name] = (field.annotation, field)
    of_stacks = {name: fields.pop(name) for name in ("astrometry", "photometry")}
    return fields | _of(kind for kind in KINDS.values() if not kind.is_calibration) | of_stacks


if TYPE_CHECKING:

    class ReductionParameters(_Steps):
        """Parameters of a reduction, by step; those of a kind of product are found when the module is imported."""

        def __getattr__(self, step: str) -> Any: ...

else:
    ReductionParameters = create_model(
        "ReductionParameters",
        __doc__="Parameters of a reduction, by step.",
        __config__=_Steps.model_config,
        __module__=__name__,
        **_in_order(),
    )

#: The parameter model of each step, by the step's name.
STEPS: dict[str, type[StepParameters]] = {
    name: field.annotation  # type: ignore[misc]
    for name, field in ReductionParameters.model_fields.items()
}

#: Steps whose defaults a table of an instrument may replace: those of science frames.
OF_SCIENCE: Final = (
    "prepare", "detrend", "sky", "detect", "align", "resample", "stack", "astrometry", "photometry",
)  # fmt: skip


def for_instrument(parameters: ReductionParameters, table: Instrument) -> ReductionParameters:
    """Return the parameters with those of an instrument's table in place of general defaults.

    A value that the user gave stays, also one that equals the general default.

    Raises
    ------
    NirflowError
        If the table names a step or parameter that does not exist, or an invalid value.
    """
    found: dict[str, StepParameters] = {}
    for step, values in table.defaults.items():
        if step not in OF_SCIENCE:
            raise _wrong(table, (step,), f"is not a step of science frames ({', '.join(OF_SCIENCE)})")
        model = STEPS[step]
        try:
            model.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            raise _wrong(
                table, (step, *first["loc"]), f"{first['msg']} (nirflow params lists them)"
            ) from error
        found[step] = model.model_validate(completed(getattr(parameters, step), values))
    return parameters.model_copy(update=found) if found else parameters


def as_in_a_form(parameters: ReductionParameters) -> ReductionParameters:
    """Return parameters of which those with the general default count as not given: a form sends all values."""
    return ReductionParameters.model_validate(parameters.model_dump(exclude_defaults=True))


def completed(given: BaseModel, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a step with other values for those that were not given."""
    found = given.model_dump()
    for name, value in values.items():
        part = getattr(given, name)
        if isinstance(part, BaseModel) and isinstance(value, Mapping):
            found[name] = completed(part, value)
        elif name not in given.model_fields_set:
            found[name] = value
    return found


def _wrong(table: Instrument, place: tuple[str | int, ...], problem: str) -> NirflowError:
    where = ("defaults", *place)
    source = next((one.source for one in catalogue.tables() if one.instrument.name == table.name), None)
    text = source.read_text() if source is not None and source.is_file() else ""
    problem = located(text, where, problem)
    return NirflowError(
        f"The table of {table.name} ({source or 'in memory'}) is wrong: {problem}.",
        remedy="Correct [defaults] in the table.",
    )


def as_recorded(parameters: ReductionParameters, facts: FrameFacts) -> dict[str, Any]:
    """Return the parameters of a run as the products for a frame record them, by step.

    What products record of their own frames is left out: the search for cosmic rays where the run leaves it to the
    number of frames, and the user's decisions about calibrations.
    """
    used = for_instrument(parameters, facts.table)
    used = used.model_copy(update={"prepare": used.prepare.for_frame(facts)})
    own = {"override", "allow_missing"} | ({"cosmic_rays"} if used.detrend.cosmic_rays == "auto" else set())
    return used.model_dump(mode="json", exclude={"detrend": own})
