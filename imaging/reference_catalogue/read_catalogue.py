"""The reference stars of a region from a local file, a folder of tiles, or the answer of a service."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from imaging.errors import CatalogueError
from imaging.io.tables.table_file import SUFFIXES, TableFile, read_table_file, table_of
from imaging.listed import counted, listed
from imaging.reference_catalogue.at_epoch import to_icrs
from imaging.reference_catalogue.catalogue_columns import find_columns
from imaging.reference_catalogue.catalogue_parameters import CatalogueParameters
from imaging.reference_catalogue.interpret import (
    Region,
    frame_of,
    interpreted,
    other_frame,
    positions_of,
    survey_of,
)
from imaging.reference_catalogue.reference_stars import ReferenceCatalogue, joined, separation

#: Tiles whose extent on the sky is remembered within a process.
_REMEMBERED: Final = 4096
#: A star may be this far outside the extent of its tile at the epoch of an observation, deg.
_MARGIN: Final = 300.0 / 3600.0
#: Fields whose stars are kept in memory: those of a run that are looked for and then made.
_FIELDS: Final = 8


def read_catalogue(parameters: CatalogueParameters, region: Region) -> ReferenceCatalogue:
    """Return the reference stars of a region from the file or folder that the parameters name.

    Of a folder, only the tiles with stars in the region count, also for the identity.

    Parameters
    ----------
    parameters
        Source and meaning of the columns.
    region
        Region and epoch of the observation.

    Returns
    -------
    ReferenceCatalogue
        At least one star.

    Raises
    ------
    CatalogueError
        If the source is not a file or folder, cannot be read, has no star in the region, or its columns are not known.
    """
    path = Path(parameters.source or "").expanduser()
    if not parameters.source or parameters.service is not None:
        raise CatalogueError(
            parameters.source or "catalogue.source", "is not a file or folder",
            remedy="Name the catalogue: --catalogue PATH",
        )  # fmt: skip
    if not path.is_dir():
        try:
            status = path.stat()
        except OSError:
            return _in_file(path, parameters, region)  # reading it states the problem
        return _in_same_file(path, status.st_size, status.st_mtime_ns, parameters, region)
    tiles = tiles_of(path)
    near = [tile for tile in tiles if _may_cover(tile, parameters, region)]
    files = [(tile, read_table_file(tile)) for tile in near]
    parts = [
        part for _, file in files if (part := interpreted(file, parameters, region)) is not None and len(part)
    ]
    if not parts:
        raise CatalogueError(
            str(path), f"none of its {counted(len(tiles), 'file')} has a star within {region.label}",
            remedy="Add the tile of the field, or set the frame of its positions in catalogue.frame",
        )  # fmt: skip
    identity = hashlib.sha256("".join(sorted(part.identity for part in parts)).encode()).hexdigest()
    names = sorted({part.name for part in parts})
    return joined(parts, name=names[0] if len(names) == 1 else path.name, identity=identity, origin=str(path))


@lru_cache(maxsize=_FIELDS)
def _in_same_file(
    path: Path, size: int, changed: int, parameters: CatalogueParameters, region: Region
) -> ReferenceCatalogue:
    """Return the stars of a region in a file as it was last changed: a stack is looked for, then made."""
    return _in_file(path, parameters, region)


def _in_file(path: Path, parameters: CatalogueParameters, region: Region) -> ReferenceCatalogue:
    file = read_table_file(path)
    found = interpreted(file, parameters, region)
    if found is None or not len(found):
        raise _elsewhere(file, parameters, region)
    return found


def answered_catalogue(
    answer: bytes, parameters: CatalogueParameters, region: Region, *, origin: str
) -> ReferenceCatalogue:
    """Return the reference stars of a region from the answer of a service, as `read_catalogue` does from a file.

    Parameters
    ----------
    answer
        The bytes of a table in one of the formats of a file.
    parameters, region
        As for `read_catalogue`.
    origin
        The service and its table, for messages and the catalogue.

    Raises
    ------
    CatalogueError
        As for `read_catalogue`.
    """
    file = table_of(answer, origin)
    found = interpreted(file, parameters, region)
    if found is None or not len(found):
        raise _elsewhere(file, parameters, region)
    return found


def tiles_of(folder: Path) -> list[Path]:
    """Return the files of a folder that are tiles of a catalogue, by name.

    Raises
    ------
    CatalogueError
        If it cannot be listed or has none.
    """
    try:
        found = sorted(
            path for path in folder.iterdir() if path.name.lower().endswith(SUFFIXES) and path.is_file()
        )
    except OSError as error:
        raise CatalogueError(
            str(folder),
            f"cannot be listed: {error.strerror or error}",
            remedy="Let this account read the folder.",
        ) from error
    if not found:
        raise CatalogueError(
            str(folder), f"has no file of a catalogue ({listed(SUFFIXES, len(SUFFIXES))})",
            remedy="Name the folder of the tiles.",
        )  # fmt: skip
    return found


def _may_cover(tile: Path, parameters: CatalogueParameters, region: Region) -> bool:
    try:
        status = tile.stat()
    except OSError:
        return True  # reading it states the problem
    meaning = parameters.model_copy(update={"source": None})
    ra, dec, radius = _extent(tile, status.st_size, status.st_mtime_ns, meaning)
    return bool(separation(ra, dec, region.ra, region.dec) <= radius + region.radius + _MARGIN)


@lru_cache(maxsize=_REMEMBERED)
def _extent(
    tile: Path, size: int, changed: int, parameters: CatalogueParameters
) -> tuple[float, float, float]:
    """Return a circle that contains all positions of a tile: centre and radius, deg, ICRS.

    Size and last change are those of the file, so that another file of the same name is read again.
    """
    file = read_table_file(tile)
    survey = survey_of(file, parameters)
    columns = find_columns(file, parameters.given_columns, survey)
    longitude, latitude = positions_of(columns)
    there = np.isfinite(longitude) & np.isfinite(latitude)
    frame = frame_of(file, parameters, columns)
    ra, dec = to_icrs(longitude[there], latitude[there], frame, file.epoch or frame.equinox)
    a, d = np.radians(ra), np.radians(dec)
    x, y, z = np.mean([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=1)
    centre = float(np.degrees(np.arctan2(y, x))) % 360.0, float(np.degrees(np.arctan2(z, np.hypot(x, y))))
    return (*centre, float(separation(ra, dec, *centre).max()))


def _elsewhere(file: TableFile, parameters: CatalogueParameters, region: Region) -> CatalogueError:
    """Return the error of a catalogue without a star in a region; if another frame explains it, that is the remedy."""
    frame, number = other_frame(file, parameters, region)
    problem = f"none of its {counted(len(file), 'row')} is a usable star within {region.label}"
    if number:
        return CatalogueError(
            file.name, f"{problem}; read as {frame.label} positions, {number} would be there",
            remedy=f"If that is their frame, set catalogue.frame={frame.name}",
        )  # fmt: skip
    survey = survey_of(file, parameters)
    longitude, latitude = positions_of(find_columns(file, parameters.given_columns, survey))
    covered = ", ".join(
        f"{axis} {np.nanmin(values):.3f} to {np.nanmax(values):.3f}"
        for axis, values in (("longitude", longitude), ("latitude", latitude))
    )
    return CatalogueError(
        file.name,
        f"{problem}; its positions cover {covered} deg",
        remedy="Use a catalogue of the observed field.",
    )
