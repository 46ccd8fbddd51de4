"""Parameters of the reference catalogue: where it is, and what its columns mean where it does not declare it."""

from __future__ import annotations

import re
from datetime import date
from typing import Any, Final, Literal, Self

from pydantic import model_validator

from imaging.parameters import StepParameters, parameter
from imaging.reference_catalogue.reference_stars import BANDS, MagnitudeSystem

#: A source that stands for no catalogue, whatever the settings have.
NO_SOURCE: Final = "none"

Frame = Literal["icrs", "fk5", "fk4", "galactic"]
#: Names by which settings give columns, with the role of each.
GIVEN_ROLES: Final[dict[str, str]] = {
    **{
        name: name
        for name in (
            "ra", "dec", "l", "b", "position_error", "ra_error", "dec_error", "pm_ra", "pm_dec", "pm_ra_error",
            "pm_dec_error", "epoch",
        )
    },
    **{band.lower(): band for band in BANDS},
    **{f"{band.lower()}_err": f"{band}_error" for band in BANDS},
}  # fmt: skip
#: A source that is a service: its name, a colon, and what it is asked for.
SERVICE: Final = re.compile(r"(?P<service>vizier):\s*(?P<table>\S.*)")
_COLUMN: Final = re.compile(r"(?P<name>\w+)\s*=\s*(?P<column>[^\[\]]+?)\s*(?:\[(?P<unit>[^\[\]]+)\])?")


class CatalogueParameters(StepParameters):
    """Parameters of the reference catalogue."""

    source: str | None = parameter(
        None,
        "catalogue of reference stars: a file, a folder of tiles, or a service with the survey or table that it is "
        "asked for (vizier:2MASS). None: that of the settings; none: no catalogue",
    )
    survey: Literal["2MASS", "VHS", "UKIDSS", "Gaia DR3"] | None = parameter(
        None, "survey that a file is from; None: recognised by its columns"
    )
    columns: tuple[str, ...] = parameter(
        (),
        "columns that the catalogue does not declare, each name=column or name=column[unit]; names: "
        + ", ".join(GIVEN_ROLES),
    )
    frame: Frame | None = parameter(
        None, "reference frame of the positions; None: as declared, otherwise ICRS"
    )
    equinox: float | None = parameter(
        None, "equinox of the frame; None: as declared, otherwise 2000, or 1950 with fk4", unit="yr", ge=1800, le=2200
    )  # fmt: skip
    epoch: float | None = parameter(
        None, "epoch of the positions; None: as declared, otherwise that of the known survey", unit="yr",
        ge=1800, le=2200,
    )  # fmt: skip
    position_error: float | None = parameter(
        None, "standard error of a position along each axis; None: as in the columns, otherwise that of the survey",
        unit="mas", gt=0,
    )  # fmt: skip
    magnitude_error: float | None = parameter(
        None, "standard error of a magnitude; None: as in the columns", unit="mag", gt=0
    )
    magnitude_system: MagnitudeSystem | None = parameter(
        None, "zero point of the magnitudes; None: that of the survey, otherwise Vega"
    )
    server: str | None = parameter(
        None, "address of the service's server (https://host); None: that of the service itself"
    )
    asked_since: date | None = parameter(
        None,
        "use only answers of the service that it gave from this day on, UT; None: the earliest in the store",
    )
    timeout: float = parameter(60.0, "longest wait for an answer of the service", unit="s", gt=0, le=3600)
    proper_motion_rms: float = parameter(
        7.0,
        "rms along each axis of the proper motion of stars for which the catalogue has none",
        unit="mas/yr",
        ge=0,
    )

    @model_validator(mode="after")
    def _columns_are_named(self) -> Self:
        for text in self.columns:
            found = _COLUMN.fullmatch(text.strip())
            if found is None or found["name"].lower() not in GIVEN_ROLES:
                raise ValueError(
                    f"columns has {text!r}; write name=column with one of the names {', '.join(GIVEN_ROLES)}"
                )
        return self

    @property
    def wanted(self) -> bool:
        """Whether a catalogue is named."""
        return self.source not in (None, "", NO_SOURCE)

    @property
    def service(self) -> tuple[str, str] | None:
        """The service and what it is asked for; None for a file, a folder or no catalogue."""
        found = SERVICE.fullmatch(self.source or "")
        return (found["service"], found["table"]) if found else None

    @property
    def given_columns(self) -> dict[str, tuple[str, str]]:
        """The column and the unit (may be empty) of each role that the settings give."""
        found = (_COLUMN.fullmatch(text.strip()) for text in self.columns)
        return {
            GIVEN_ROLES[one["name"].lower()]: (one["column"], one["unit"] or "")
            for one in found
            if one is not None
        }

    def interpretation(self) -> dict[str, Any]:
        """Return the parameters that change what a catalogue means, for a recipe; its identity replaces its place."""
        place = {"source", "server", "timeout", "asked_since"}
        return self.model_dump(mode="json", exclude=place, exclude_defaults=True)

    def over(self, base: CatalogueParameters) -> CatalogueParameters:
        """Return these parameters over others: with a source of their own as they are, otherwise what they change."""
        if self.source is not None:
            return self
        usual = CatalogueParameters()
        changed = {
            name: value for name in CatalogueParameters.model_fields
            if (value := getattr(self, name)) != getattr(usual, name)
        }  # fmt: skip
        return CatalogueParameters.model_validate(
            {name: getattr(base, name) for name in CatalogueParameters.model_fields} | changed
        )
