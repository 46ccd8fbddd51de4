"""The parameters of all steps in one model: what ``--set``, the Prefect form and ``nirflow params`` show."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from imaging.calibrations.bpm import BpmParameters
from imaging.calibrations.compare import GateParameters
from imaging.calibrations.dark import DarkParameters
from imaging.calibrations.flat import FlatParameters
from imaging.detrend.detrend import DetrendParameters
from imaging.detrend.prepare import PrepareParameters
from imaging.frames.find_files import CheckParameters
from imaging.frames.groups import GroupParameters
from imaging.parameters import StepParameters
from imaging.registration.align import AlignParameters
from imaging.registration.resample import ResampleParameters
from imaging.sky.subtract import SkyParameters
from imaging.sources.detect import DetectParameters
from imaging.stack.stack import StackParameters


class ReductionParameters(BaseModel):
    """Parameters of a reduction, by step."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: CheckParameters = Field(default=CheckParameters(), description="what makes a frame unusable")
    groups: GroupParameters = Field(default=GroupParameters(), description="which frames belong together")
    prepare: PrepareParameters = Field(default=PrepareParameters(), description="ADU to electrons")
    dark: DarkParameters = Field(default=DarkParameters(), description="master dark")
    bpm: BpmParameters = Field(default=BpmParameters(), description="bad pixel mask")
    flat: FlatParameters = Field(default=FlatParameters(), description="master flat")
    gate: GateParameters = Field(
        default=GateParameters(), description="new calibrations compared with certified ones"
    )
    detrend: DetrendParameters = Field(default=DetrendParameters(), description="dark and flat applied")
    sky: SkyParameters = Field(default=SkyParameters(), description="sky from the other dithers")
    detect: DetectParameters = Field(default=DetectParameters(), description="sources and masks")
    align: AlignParameters = Field(default=AlignParameters(), description="frames onto a reference")
    resample: ResampleParameters = Field(default=ResampleParameters(), description="onto the output grid")
    stack: StackParameters = Field(default=StackParameters(), description="frames into one image")


#: The parameter model of each step, by the step's name.
STEPS: dict[str, type[StepParameters]] = {
    name: field.annotation  # type: ignore[misc]
    for name, field in ReductionParameters.model_fields.items()
}
