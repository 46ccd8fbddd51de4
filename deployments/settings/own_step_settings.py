"""The settings of the user's own steps, those of every reduction and those of forms; the settings of `reduce`."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from calib_store.model.settings import StoreSettings
from deployments.settings.catalogue_settings import CatalogueSettings
from imaging.errors import NirflowError
from imaging.own_steps.named_arguments import is_file
from imaging.own_steps.uses import POINTS, OwnStepParameters
from imaging.reference_catalogue.catalogue_parameters import CatalogueParameters


class StepSettings(OwnStepParameters):
    """The user's own steps in the settings."""

    in_forms: tuple[str, ...] = Field(
        default=("ccdproc:cosmicray_lacosmic", "ccdproc:cosmicray_median"),
        description="functions that the forms of the deployments may name, besides registered steps and those of this "
        "section",
    )

    @property
    def parameters(self) -> OwnStepParameters:
        """The steps as parameters of a reduction."""
        return OwnStepParameters.model_validate(
            {name: getattr(self, name) for name in OwnStepParameters.model_fields}
        )

    def check_form(self, given: OwnStepParameters) -> None:
        """Check that a form names only functions that the owner of the pipeline allows.

        Whoever may start a run may thereby not call any function of any package with any arguments.

        Raises
        ------
        NirflowError
            If it names another function, or a file of the machine.
        """
        own = self.parameters
        allowed = {*self.in_forms, *(use.function for point in POINTS for use in own.at(point))}
        for point in POINTS:
            for use in given.at(point):
                if ":" in use.function and use.function not in allowed:
                    raise NirflowError(
                        f"The form names the function {use.function}, which the settings do not allow in forms.",
                        remedy="Use a registered step, or have it added to in_forms in the section [steps] of "
                        "nirflow.toml.",
                    )
                if named := [name for name in use.references.values() if is_file(name)]:
                    raise NirflowError(
                        f"The form names the file {named[0]} for the step {use.function}.",
                        remedy="A form may name products of the store; files only in nirflow.toml.",
                    )


class ReductionSettings(StoreSettings):
    """The settings of `nirflow reduce`: those of the store, the user's own steps, and the reference catalogue."""

    model_config = SettingsConfigDict(env_nested_delimiter="_", env_nested_max_split=1)

    steps: StepSettings = Field(default=StepSettings(), description="functions of your own as steps")
    catalogue: CatalogueSettings = Field(
        default=CatalogueSettings(), description="the catalogue of reference stars"
    )


def own_steps(given: Any = None) -> OwnStepParameters:
    """Return the steps of a reduction on the command line: those given there, over those of the settings."""
    base = ReductionSettings().steps.parameters
    return base if given is None else given.over(base).resolved()


def reference_catalogue(given: CatalogueParameters | None = None) -> CatalogueParameters:
    """Return the catalogue of a reduction on the command line: the given one, over that of the settings."""
    return (given or CatalogueParameters()).over(ReductionSettings().catalogue)
