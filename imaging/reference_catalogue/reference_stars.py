"""Reference stars in a region at the epoch of an observation, as steps use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from imaging.errors import CatalogueError

Band = Literal["Y", "J", "H", "K", "Ks"]
#: The bands in which magnitudes are read.
BANDS: Final[tuple[Band, ...]] = ("Y", "J", "H", "K", "Ks")
MagnitudeSystem = Literal["Vega", "AB"]


@dataclass(frozen=True)
class Magnitudes:
    """Magnitudes of the stars of a catalogue in one band.

    Attributes
    ----------
    value
        Magnitudes, shape (stars,); NaN where a star has none that is usable.
    error
        Their standard errors, mag, shape (stars,); NaN in the same places, otherwise positive.
    photometric_system
        Passbands to which they belong: ``2MASS``, ``VISTA``, ``MKO``, or the catalogue's name.
    magnitude_system
        Zero point: ``Vega`` or ``AB``.
    """

    value: NDArray[np.float64]
    error: NDArray[np.float64]
    photometric_system: str
    magnitude_system: MagnitudeSystem

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Which stars have a magnitude, shape (stars,)."""
        return np.isfinite(self.value)

    def of(self, which: NDArray[Any]) -> Magnitudes:
        """Return the magnitudes of some of the stars; ``which`` is a mask or indices."""
        return replace(self, value=self.value[which], error=self.error[which])


@dataclass(frozen=True)
class ReferenceCatalogue:
    """Reference stars, with their positions at the epoch of an observation.

    Attributes
    ----------
    name
        The catalogue, for headers and messages: ``2MASS``, or the name of its file or folder.
    identity
        sha256 of the file's bytes, of the service's answer, or of those of several tiles in order.
    ra, dec
        Right ascension and declination, deg, ICRS, at `epoch`, shape (stars,).
    position_error
        Standard error of a position along each axis, mas, shape (stars,): that of the catalogue together with that of
        the proper motion over the time since the catalogue's epoch.
    epoch
        Epoch of the positions: that of the observation, Julian years.
    magnitudes
        By band; only bands that the catalogue has.
    dropped
        Numbers of rows, or magnitudes, of the region that are not used, by reason; rows without a position are counted
        anywhere in the table.
    notes
        What was assumed because the catalogue does not declare it.
    origin
        Where it is from: the file, the folder, or the service with its table.
    """

    name: str
    identity: str
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    position_error: NDArray[np.float64]
    epoch: float
    magnitudes: Mapping[Band, Magnitudes] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    origin: str = ""

    def __len__(self) -> int:
        return len(self.ra)

    @property
    def bands(self) -> tuple[Band, ...]:
        """The bands in which at least one star has a magnitude."""
        return tuple(band for band in BANDS if band in self.magnitudes and self.magnitudes[band].valid.any())

    def of(self, which: NDArray[Any]) -> ReferenceCatalogue:
        """Return the catalogue with some of the stars; ``which`` is a mask or indices."""
        return replace(
            self, ra=self.ra[which], dec=self.dec[which], position_error=self.position_error[which],
            magnitudes={band: one.of(which) for band, one in self.magnitudes.items()},
        )  # fmt: skip

    def in_region(self, ra: float, dec: float, radius: float) -> ReferenceCatalogue:
        """Return the stars within ``radius`` (deg) of a position (deg, ICRS); there may be none."""
        return self.of(separation(self.ra, self.dec, ra, dec) <= radius)

    def in_band(self, band: str) -> Magnitudes:
        """Return the magnitudes in a band.

        Raises
        ------
        CatalogueError
            If no star of the region has one; the message names the bands that the catalogue has.
        """
        found = self.magnitudes.get(band)  # type: ignore[call-overload]
        if found is None or not found.valid.any():
            why = "; ".join(note for note in self.notes if note.startswith(f"{band}:"))
            raise CatalogueError(
                self.origin or self.name,
                f"has no usable magnitudes in {band} (bands: {', '.join(self.bands) or 'none'})"
                + (f"; {why}" if why else ""),
                remedy="Name the columns in catalogue.columns, or use a catalogue with this band.",
            )
        return found


def separation(ra: Any, dec: Any, ra0: float, dec0: float) -> NDArray[np.float64]:
    """Return the distances (deg) of positions from one, all in deg, by the haversine formula (Sinnott 1984)."""
    a, d = np.radians(np.asarray(ra, np.float64)), np.radians(np.asarray(dec, np.float64))
    a0, d0 = np.radians(ra0), np.radians(dec0)
    h = np.sin((d - d0) / 2) ** 2 + np.cos(d) * np.cos(d0) * np.sin((a - a0) / 2) ** 2
    return np.asarray(np.degrees(2 * np.arcsin(np.sqrt(np.clip(h, 0.0, 1.0)))))


def joined(
    parts: Sequence[ReferenceCatalogue], *, name: str, identity: str, origin: str
) -> ReferenceCatalogue:
    """Return the stars of several tiles of one catalogue; a row that two tiles have counts once.

    Raises
    ------
    CatalogueError
        If the tiles have magnitudes of different systems in one band.
    """
    first = parts[0]
    sizes = [len(part) for part in parts]
    magnitudes: dict[Band, Magnitudes] = {}
    for band in BANDS:
        of_band = [part.magnitudes.get(band) for part in parts]
        systems = {(one.photometric_system, one.magnitude_system) for one in of_band if one is not None}
        if not systems:
            continue
        if len(systems) > 1:
            several = " and ".join(sorted(f"{passbands} ({zero})" for passbands, zero in systems))
            raise CatalogueError(
                origin, f"has tiles with magnitudes in {band} of different systems: {several}",
                remedy="Keep the tiles of one survey in the folder.",
            )  # fmt: skip
        missing = [np.full(size, np.nan) for size in sizes]
        values = [gap if one is None else one.value for one, gap in zip(of_band, missing, strict=True)]
        errors = [gap if one is None else one.error for one, gap in zip(of_band, missing, strict=True)]
        magnitudes[band] = Magnitudes(np.concatenate(values), np.concatenate(errors), *systems.pop())
    dropped: dict[str, int] = {}
    for part in parts:
        for reason, number in part.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + number
    ra, dec = (np.concatenate([getattr(part, axis) for part in parts]) for axis in ("ra", "dec"))
    _, once = np.unique(np.stack([ra, dec]), axis=1, return_index=True)
    if len(once) < len(ra):
        dropped["in two tiles"] = len(ra) - len(once)
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    complete = ReferenceCatalogue(
        name, identity, ra, dec, np.concatenate([part.position_error for part in parts]), first.epoch, magnitudes,
        dropped, notes, origin,
    )  # fmt: skip
    return complete.of(np.sort(once))
