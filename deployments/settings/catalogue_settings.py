"""The settings of the catalogue of reference stars: that of every reduction, and those that a form may name."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from imaging.errors import NirflowError
from imaging.reference_catalogue.catalogue_parameters import NO_SOURCE, CatalogueParameters


class CatalogueSettings(CatalogueParameters):
    """The catalogue of reference stars in the settings."""

    in_forms: tuple[str, ...] = Field(
        default=(),
        description="files and folders that the forms of the deployments may name as catalogue.source, besides that of "
        "this section and services",
    )

    @model_validator(mode="after")
    def _full_path(self) -> Self:
        # The parts of the service have other working folders, in which the path must mean the same.
        if self.wanted and self.service is None and not Path(str(self.source)).expanduser().is_absolute():
            raise ValueError(
                f"source is the relative path {self.source}; write one that starts with / or ~, or a service such as "
                "vizier:2MASS"
            )
        return self

    def check_form(self, given: CatalogueParameters) -> None:
        """Check that a form names only a catalogue that the owner of the pipeline allows.

        Whoever may start a run may thereby neither read any file of the machine nor have it ask any server.

        Raises
        ------
        NirflowError
            If it names another file, or a server.
        """
        allowed = {None, NO_SOURCE, self.source, *self.in_forms}
        if given.source not in allowed and given.service is None:
            raise NirflowError(
                f"The form names the catalogue {given.source}, which the settings do not allow in forms.",
                remedy="Have it added to in_forms in the section [catalogue] of nirflow.toml.",
            )
        if given.server not in (None, self.server):
            raise NirflowError(
                f"The form names the server {given.server} for catalogues.",
                remedy="Have it set in the section [catalogue] of nirflow.toml.",
            )
