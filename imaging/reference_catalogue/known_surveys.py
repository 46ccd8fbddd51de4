"""What is known of surveys whose tables do not declare it: names of columns, units, typical errors, epochs, systems.

Sources: 2MASS, Skrutskie et al. 2006, AJ 131, 1163 (positions 70-80 mas); VHS, McMahon et al. 2013, Messenger 154, 35;
UKIDSS, Lawrence et al. 2007, MNRAS 379, 1599 (positions better than 100 mas), passbands Hewett et al. 2006, MNRAS 367,
454; Gaia DR3, Gaia Collaboration 2023, A&A 674, A1, and Lindegren et al. 2021, A&A 649, A2 (RUWE).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from imaging.reference_catalogue.reference_stars import MagnitudeSystem

#: What a column holds: positions, errors, motions, time, flags, and a magnitude ``J`` with its error ``J_error``.
Role = str


@dataclass(frozen=True)
class Survey:
    """What is known of a survey.

    Attributes
    ----------
    name
        Its name.
    columns
        Names of the column of each role, in archives and at VizieR, the preferred first.
    marks
        Sets of names, in lower case, by any of which its tables are recognised.
    units
        Units of columns without one, by role.
    position_error
        Typical standard error of a position along each axis, mas, where the table has none.
    epoch
        Epoch of the positions, Julian years, where the table has none: that of the survey, or its middle.
    vizier
        Its table at VizieR.
    photometric_system, magnitude_system
        Of its magnitudes.
    """

    name: str
    columns: Mapping[Role, tuple[str, ...]]
    marks: tuple[frozenset[str], ...]
    position_error: float
    epoch: float
    vizier: str
    photometric_system: str
    magnitude_system: MagnitudeSystem = "Vega"
    units: Mapping[Role, str] = field(default_factory=dict)


def _marks(*names: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(one.lower() for one in each.split()) for each in names)


def _bands(**names: str) -> dict[Role, tuple[str, ...]]:
    """Return the columns of magnitudes and errors: pairs ``magnitude/error`` by band."""
    pairs = {band: [pair.split("/") for pair in text.split()] for band, text in names.items()}
    return {band: tuple(pair[0] for pair in found) for band, found in pairs.items()} | {
        f"{band}_error": tuple(pair[1] for pair in found) for band, found in pairs.items()
    }


_DEGREES: Final = {"ra": "deg", "dec": "deg"}
_ARCHIVE: Final = {
    "ra": ("ra", "ra2000", "RAJ2000"), "dec": ("dec", "dec2000", "DEJ2000"), "class": ("mergedClass", "Mclass", "cl"),
    "seam": ("priOrSec",), "frame_set": ("frameSetID",),
}  # fmt: skip

TWOMASS: Final = Survey(
    "2MASS",
    {
        "ra": ("ra", "RAJ2000"), "dec": ("dec", "decl", "DEJ2000"), "major_error": ("err_maj", "errMaj"),
        "minor_error": ("err_min", "errMin"), "epoch": ("jdate", "JD", "date", "Date"),
        "quality": ("ph_qual", "Qflg"), "confusion": ("cc_flg", "Cflg"), "extended": ("gal_contam", "Xflg"),
        "moving": ("mp_flg", "Aflg"),
        **_bands(
            J="j_m/j_msigcom Jmag/e_Jmag", H="h_m/h_msigcom Hmag/e_Hmag", Ks="k_m/k_msigcom Kmag/e_Kmag",
        ),
    },
    _marks("j_m h_m k_m", "Jmag Hmag Kmag Qflg"),
    position_error=80.0, epoch=1999.5, vizier="II/246/out", photometric_system="2MASS",
    units={**_DEGREES, "major_error": "arcsec", "minor_error": "arcsec"},
)  # fmt: skip

VHS: Final = Survey(
    "VHS",
    {
        **_ARCHIVE,
        **_bands(
            Y="yAperMag3/yAperMag3Err Yap3/e_Yap3", J="jAperMag3/jAperMag3Err Jap3/e_Jap3",
            H="hAperMag3/hAperMag3Err Hap3/e_Hap3", Ks="ksAperMag3/ksAperMag3Err Ksap3/e_Ksap3",
        ),
        "Y_bits": ("yppErrBits", "Yperrbits"), "J_bits": ("jppErrBits", "Jperrbits"),
        "H_bits": ("hppErrBits", "Hperrbits"), "Ks_bits": ("ksppErrBits", "Ksperrbits"),
    },
    _marks("ksAperMag3", "Ksap3"),
    position_error=100.0, epoch=2012.5, vizier="II/367/vhs_dr5", photometric_system="VISTA", units=_DEGREES,
)  # fmt: skip

UKIDSS: Final = Survey(
    "UKIDSS",
    {
        **_ARCHIVE,
        "epoch": ("epoch", "Epoch"), "pm_ra": ("muRa", "pmRA"), "pm_dec": ("muDec", "pmDE"),
        "pm_ra_error": ("sigMuRa", "e_pmRA"), "pm_dec_error": ("sigMuDec", "e_pmDE"),
        **_bands(
            Y="yAperMag3/yAperMag3Err Ymag/e_Ymag",
            J="jAperMag3/jAperMag3Err j_1AperMag3/j_1AperMag3Err Jmag/e_Jmag Jmag1/e_Jmag1",
            H="hAperMag3/hAperMag3Err Hmag/e_Hmag",
            K="kAperMag3/kAperMag3Err k_1AperMag3/k_1AperMag3Err Kmag/e_Kmag Kmag1/e_Kmag1",
        ),
        "star": ("pStar", "p*"), "Y_bits": ("yppErrBits",), "J_bits": ("jppErrBits", "j_1ppErrBits"),
        "H_bits": ("hppErrBits",), "K_bits": ("kppErrBits", "k_1ppErrBits"),
    },
    _marks("kAperMag3", "k_1AperMag3", "j_1AperMag3", "ULAS", "UGPS", "UGCS", "UDXS"),
    position_error=100.0, epoch=2008.0, vizier="II/319/las9", photometric_system="MKO",
    units={**_DEGREES, "pm_ra": "mas/yr", "pm_dec": "mas/yr", "pm_ra_error": "mas/yr", "pm_dec_error": "mas/yr"},
)  # fmt: skip

GAIA: Final = Survey(
    "Gaia DR3",
    {
        "ra": ("ra", "RA_ICRS"), "dec": ("dec", "DE_ICRS"), "ra_error": ("ra_error", "e_RA_ICRS"),
        "dec_error": ("dec_error", "e_DE_ICRS"), "pm_ra": ("pmra", "pmRA"), "pm_dec": ("pmdec", "pmDE"),
        "pm_ra_error": ("pmra_error", "e_pmRA"), "pm_dec_error": ("pmdec_error", "e_pmDE"), "epoch": ("ref_epoch",),
        "ruwe": ("ruwe", "RUWE"), "duplicated": ("duplicated_source", "Dup"),
    },
    _marks("ra dec pmra phot_g_mean_mag", "RA_ICRS DE_ICRS Gmag"),
    position_error=0.5, epoch=2016.0, vizier="I/355/gaiadr3", photometric_system="Gaia DR3",
    units={
        **_DEGREES, "ra_error": "mas", "dec_error": "mas", "pm_ra": "mas/yr", "pm_dec": "mas/yr",
        "pm_ra_error": "mas/yr", "pm_dec_error": "mas/yr",
    },
)  # fmt: skip

SURVEYS: Final[dict[str, Survey]] = {one.name: one for one in (TWOMASS, VHS, UKIDSS, GAIA)}


def recognised(columns: Collection[str]) -> Survey | None:
    """Return the survey that a table with these columns is from; None if they are those of no known survey."""
    names = {name.lower() for name in columns}
    return next((one for one in SURVEYS.values() if any(mark <= names for mark in one.marks)), None)


def survey_named(name: str) -> Survey | None:
    """Return the survey of a name, whatever its case, with or without its release (``gaia``); None for another name."""
    wanted = name.lower().replace(" ", "")
    for one in SURVEYS.values():
        full = one.name.lower().replace(" ", "")
        if wanted in (full, full.removesuffix("dr3")):
            return one
    return None
