"""Which column of a table holds what: as given, by the names of its survey, by UCD, or by usual names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from astropy import units
from numpy.typing import NDArray

from imaging.errors import CatalogueError
from imaging.io.tables.table_file import TableFile
from imaging.listed import listed
from imaging.reference_catalogue.known_surveys import Survey
from imaging.reference_catalogue.reference_stars import BANDS

#: The unit in which each role is used.
_UNITS: Final[Mapping[str, str]] = {
    "ra": "deg", "dec": "deg", "l": "deg", "b": "deg", "position_error": "mas", "ra_error": "mas", "dec_error": "mas",
    "major_error": "mas", "minor_error": "mas", "pm_ra": "mas/yr", "pm_dec": "mas/yr", "pm_ra_error": "mas/yr",
    "pm_dec_error": "mas/yr", **dict.fromkeys(BANDS, "mag"), **{f"{band}_error": "mag" for band in BANDS},
}  # fmt: skip
#: Units of magnitudes whose zero point is that of AB.
_MAGNITUDES: Final = ("mag(AB)", "ABmag", "mag (AB)")
#: The atoms of a UCD that a role has: all of these, and no others but those of `_NEUTRAL`.
_UCDS: Final[Mapping[str, tuple[str, ...]]] = {
    "ra": ("pos.eq.ra",), "dec": ("pos.eq.dec",), "l": ("pos.galactic.lon",), "b": ("pos.galactic.lat",),
    "ra_error": ("stat.error", "pos.eq.ra"), "dec_error": ("stat.error", "pos.eq.dec"),
    "pm_ra": ("pos.pm", "pos.eq.ra"), "pm_dec": ("pos.pm", "pos.eq.dec"),
    "pm_ra_error": ("stat.error", "pos.pm", "pos.eq.ra"), "pm_dec_error": ("stat.error", "pos.pm", "pos.eq.dec"),
    "J": ("phot.mag", "em.ir.j"), "H": ("phot.mag", "em.ir.h"), "K": ("phot.mag", "em.ir.k"),
    "J_error": ("stat.error", "phot.mag", "em.ir.j"), "H_error": ("stat.error", "phot.mag", "em.ir.h"),
    "K_error": ("stat.error", "phot.mag", "em.ir.k"), "epoch": ("time.epoch",),
}  # fmt: skip
_NEUTRAL: Final = frozenset({"meta.main", "stat.mean", "stat.median"})
#: Names that tables of no survey often have, in lower case.
_USUAL: Final[Mapping[str, tuple[str, ...]]] = {
    "ra": ("ra", "raj2000", "ra_j2000", "ra2000", "ra_icrs", "_raj2000", "_ra", "alpha_j2000", "right_ascension"),
    "dec": (
        "dec", "decl", "de", "dej2000", "dec_j2000", "dec2000", "de_icrs", "_dej2000", "_de", "delta_j2000",
        "declination",
    ),
    "l": ("glon", "gal_lon"), "b": ("glat", "gal_lat"),
    "position_error": ("position_error", "pos_error", "pos_err", "poserr", "sigma_pos"),
    "ra_error": ("ra_error", "ra_err", "e_ra", "e_raj2000", "e_ra_icrs", "sigma_ra"),
    "dec_error": ("dec_error", "dec_err", "e_dec", "e_de", "e_dej2000", "e_de_icrs", "sigma_dec"),
    "pm_ra": ("pm_ra", "pmra", "pm_ra_cosdec"), "pm_dec": ("pm_dec", "pmdec", "pmde"),
    "pm_ra_error": ("pm_ra_error", "pmra_error", "pm_ra_err", "pmra_err", "e_pmra"),
    "pm_dec_error": ("pm_dec_error", "pmdec_error", "pm_dec_err", "pmdec_err", "e_pmdec", "e_pmde"),
    "epoch": ("ref_epoch", "epoch", "epoch_year"),
    **{
        band: (low, f"{low}mag", f"{low}_mag", f"mag_{low}", f"{low}_m")
        for band in BANDS for low in (band.lower(),)
    },
    **{
        f"{band}_error": (
            f"{low}_error", f"{low}_err", f"e_{low}mag", f"{low}mag_err", f"{low}_mag_err", f"{low}_mag_error",
            f"magerr_{low}", f"e_{low}", f"{low}_msigcom",
        )
        for band in BANDS for low in (band.lower(),)
    },
}  # fmt: skip
#: Pairs of which a table has both or none.
_PAIRS: Final = (("ra", "dec"), ("l", "b"), ("pm_ra", "pm_dec"))


@dataclass(frozen=True)
class Columns:
    """The columns of a table by role, with the unit of each.

    Attributes
    ----------
    file
        The table.
    found
        Column and unit by role; the unit is empty where neither the file nor the settings nor the survey has one.
    notes
        Why a band has no column, beginning with the band.
    """

    file: TableFile
    found: Mapping[str, tuple[str, str]]
    notes: tuple[str, ...] = ()

    def __contains__(self, role: str) -> bool:
        return role in self.found

    def name(self, role: str) -> str:
        """Return the name of the column of a role."""
        return self.found[role][0]

    def numbers(self, role: str) -> NDArray[np.float64]:
        """Return the column of a role in the unit in which it is used, shape (rows,); NaN where it is missing.

        Raises
        ------
        CatalogueError
            If its unit does not fit.
        """
        column, unit = self.found[role]
        wanted = _UNITS.get(role)
        if role in ("ra", "dec") and self.file.table[column].dtype.kind in "SUO":
            return self._angles(role, column, unit)
        numbers = self.file.numbers(column)
        if wanted is None or not unit or unit == wanted or (wanted == "mag" and unit in _MAGNITUDES):
            return numbers
        try:
            factor = units.Unit(unit).to(units.Unit(wanted))
        except (ValueError, TypeError, units.UnitsError):
            raise CatalogueError(
                self.file.name, f"its column {column} ({role}) has the unit {unit}, which is not an amount of {wanted}",
                remedy=f"Name the right column: --set catalogue.columns={_short(role)}=COLUMN[{wanted}]",
            ) from None  # fmt: skip
        return numbers * factor

    def _angles(self, role: str, column: str, unit: str) -> NDArray[np.float64]:
        """Return positions that are written as text: degrees, or sexagesimal, hours for right ascension."""
        texts = self.file.texts(column)
        hours = role == "ra" and unit not in ("deg", "degree") and any(
            ":" in text or " " in text or "h" in text for text in texts
        )  # fmt: skip
        return np.array([_angle(text) * (15.0 if hours else 1.0) for text in texts])

    def texts(self, role: str) -> list[str]:
        """Return the column of a role as texts."""
        return self.file.texts(self.name(role))


def _angle(text: str) -> float:
    parts = text.lower().translate(str.maketrans("hmsd°'\":", "        ")).split()
    try:
        values = [float(part) for part in parts[:3]]
    except ValueError:
        return np.nan
    if not values:
        return np.nan
    size = sum(abs(value) / 60.0**i for i, value in enumerate(values))
    return -size if text.strip().startswith("-") else size


def find_columns(file: TableFile, given: Mapping[str, tuple[str, str]], survey: Survey | None) -> Columns:
    """Return which column of a table has which role.

    Parameters
    ----------
    file
        The table.
    given
        Columns of the settings with their units, by role; they take precedence.
    survey
        The survey that the table is from, if it is known; its names come next, then UCDs, then usual names.

    Raises
    ------
    CatalogueError
        If a given column does not exist, if there are no positions, or if several columns may be positions.
    """
    found: dict[str, tuple[str, str]] = {}
    for role, (column, unit) in given.items():
        name = _named(file, (column,))
        if name is None:
            raise CatalogueError(
                file.name, f"has no column {column!r} for {_short(role)} (columns: {listed(file.columns, 30)})",
                remedy="Correct catalogue.columns.",
            )  # fmt: skip
        found[role] = (name, unit or file.unit(name))
    if survey is not None:
        for role, names in survey.columns.items():
            name = _named(file, names)
            if role not in found and name is not None:
                found[role] = (name, file.unit(name) or survey.units.get(role, ""))
    roles = ("ra", "dec", "l", "b") if survey is not None else tuple(_USUAL)
    notes: list[str] = []
    for role in roles:
        if role not in found:
            try:
                name = _by_ucd(file, role) or _named(file, _USUAL[role])
            except CatalogueError as error:
                if role not in BANDS:
                    raise
                notes.append(f"{role}: {error.problem}")
                continue
            if name is not None and name not in {column for column, _ in found.values()}:
                found[_k_or_ks(role, name, found)] = (name, file.unit(name))
    for pair in _PAIRS:
        if sum(role in found for role in pair) == 1:
            for role in pair:
                found.pop(role, None)
    if "ra" not in found and "l" not in found:
        raise CatalogueError(
            file.name,
            f"has no columns of positions that are known by UCD or name (columns: {listed(file.columns, 30)})",
            remedy="Name them: --set 'catalogue.columns=ra=COLUMN,dec=COLUMN'",
        )  # fmt: skip
    return Columns(file, found, tuple(notes))


def _k_or_ks(role: str, name: str, found: Mapping[str, tuple[str, str]]) -> str:
    """Return the role of a column with the UCD of K: K, or Ks where its name has it."""
    if not role.startswith("K") or "ks" not in name.lower():
        return role
    return "Ks" if role in ("K", "Ks") else "Ks_error"


def _named(file: TableFile, names: Iterable[str]) -> str | None:
    lower: dict[str, str] = {}
    for column in file.columns:
        lower.setdefault(column.lower(), column)
    for name in names:
        if name in file.columns:
            return name
        if name.lower() in lower:
            return lower[name.lower()]
    return None


def _by_ucd(file: TableFile, role: str) -> str | None:
    """Return the column with the UCD of a role: the main one of several, or the one with the usual name.

    Raises
    ------
    CatalogueError
        If several have it, and nothing distinguishes them.
    """
    wanted = set(_UCDS.get(role, ()))
    if not wanted:
        return None
    atoms = {name: set(ucd.lower().split(";")) for name, ucd in file.ucds.items() if name in file.columns}
    matching = [name for name, parts in atoms.items() if wanted <= parts <= wanted | _NEUTRAL]
    main = [name for name in matching if "meta.main" in atoms[name]] or matching
    if len(main) <= 1:
        return main[0] if main else None
    usual = [name for name in main if name.lower() in _USUAL[role]]
    if len(usual) == 1:
        return usual[0]
    raise CatalogueError(
        file.name, f"has several columns with the UCD of {_short(role)}: {listed(main)}",
        remedy=f"Name the right one: --set catalogue.columns={_short(role)}=COLUMN",
    )  # fmt: skip


def _short(role: str) -> str:
    """Return the name of a role in the settings."""
    band = role.removesuffix("_error")
    return role.lower().replace("_error", "_err") if band in BANDS else role
