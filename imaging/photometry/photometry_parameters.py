"""The parameters of the photometry of a stack."""

from __future__ import annotations

from imaging.parameters import StepParameters, parameter
from imaging.reference_catalogue.reference_stars import MagnitudeSystem


class PhotometryParameters(StepParameters):
    """How the sources of a stack are measured and calibrated."""

    aperture: float = parameter(
        1.5, "radius of the aperture of FLUX_AUTO and MAG_AUTO, which are corrected to all light of a star, in FWHM of "
        "the seeing", gt=0.3, le=4,
    )  # fmt: skip
    total_aperture: float = parameter(
        5.0, "radius that is taken to hold all light of a star, in FWHM of the seeing", gt=2, le=20
    )
    system: MagnitudeSystem = parameter(
        "Vega", "magnitude system: Vega, as in catalogues of the near infrared, or AB"
    )
    search: float = parameter(
        5.0, "largest error of the world coordinates with which stars of the catalogue are searched", unit="arcsec",
        gt=0, le=60,
    )  # fmt: skip
    match_radius: float = parameter(
        0.7, "largest distance of a source from its star in the catalogue", unit="arcsec", gt=0, le=5
    )
    star_error: float = parameter(
        0.1, "largest error of a star's magnitude, in the catalogue and measured, for the zero point", unit="mag",
        gt=0, le=1,
    )  # fmt: skip
    least_stars: int = parameter(3, "fewest stars of the catalogue that give a zero point", ge=2)
    colour: str = parameter(
        "", "colour, such as J-H, in which the zero point has a term that is fitted; default: no term",
        pattern=r"^$|^[A-Za-z][\w()-]*-[A-Za-z][\w()]*$",
    )  # fmt: skip
