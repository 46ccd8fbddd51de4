"""The parameters of the catalogue of reference stars that comes with a simulated night."""

from __future__ import annotations

from imaging.parameters import StepParameters, parameter


class CatalogueConditions(StepParameters):
    """What a survey of the field lists, and how well."""

    zero_point: float | None = parameter(
        None,
        "magnitude of a star of 1 electron per second at response 1 and transparency 1; None: that of the instrument's "
        "table, or 25",
        unit="mag", ge=0, le=40,
    )  # fmt: skip
    colour_term: float = parameter(
        0.0,
        "magnitude of a star in the frames minus that in the catalogue, for each magnitude of J - Ks",
        ge=-1,
        le=1,
    )
    proper_motion_rms: float = parameter(
        7.0, "rms of the stars' proper motion along each axis", unit="mas/yr", ge=0, le=1000
    )
    catalogue_epoch: float = parameter(
        2000.0, "epoch of the positions in the catalogue", unit="yr", ge=1900, le=2100
    )
    catalogue_position_error: float = parameter(
        50.0, "standard error along each axis of a bright star's position in the catalogue", unit="mas", gt=0
    )
    catalogue_magnitude_error: float = parameter(
        0.02, "standard error of a bright star's magnitude in the catalogue", unit="mag", gt=0, le=1
    )
    catalogue_depth: float = parameter(
        20.0, "magnitude at which the catalogue's error is 0.1 because of the sky; up to an error of 0.3 it is listed",
        unit="mag", ge=0, le=40,
    )  # fmt: skip
    catalogue_missing: float = parameter(
        0.05, "fraction of the stars that the catalogue does not have", ge=0, le=1
    )
    catalogue_gap: float = parameter(
        0.0, "width of a strip from North to South, through the centre, without stars in the catalogue",
        unit="arcsec", ge=0,
    )  # fmt: skip
    catalogue_spurious: float = parameter(
        0.02, "entries of the catalogue that are no stars, relative to those that are", ge=0, le=10
    )
    catalogue_motions: bool = parameter(True, "the catalogue has proper motions")
    catalogue_motion_error: float = parameter(
        1.0, "standard error along each axis of its proper motions", unit="mas/yr", ge=0
    )
