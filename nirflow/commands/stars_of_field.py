"""``nirflow catalogue``: the reference stars that a catalogue has in a field, as a reduction would read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from imaging.listed import counted
from nirflow.commands.cal.naming import AsOf, Json, open_store
from nirflow.console.output import print_lines
from nirflow.console.tables import Column, print_json, print_table
from nirflow.exits import UsageError

if TYPE_CHECKING:
    from imaging.reference_catalogue.catalogue_parameters import CatalogueParameters
    from imaging.reference_catalogue.interpret import Region
    from imaging.reference_catalogue.reference_stars import ReferenceCatalogue


def catalogue(
    ra: Annotated[float, typer.Option(min=0, max=360, help="Right ascension of the field's centre, deg, ICRS.")],
    dec: Annotated[float, typer.Option(min=-90, max=90, help="Declination, deg, ICRS.")],
    epoch: Annotated[
        float, typer.Option(min=1900, max=2100, help="Epoch of the observation, Julian years: 2013.89.")
    ],
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[SOURCE]", help="A file, a folder of tiles, or a service (vizier:2MASS). Default: that of the "
            "settings."
        ),
    ] = None,
    radius: Annotated[float, typer.Option(min=0.1, max=120, help="Radius of the field, arcmin.")] = 5.0,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="PARAMETER=VALUE", help="A parameter of the catalogue, as for nirflow reduce: --set "
            "catalogue.frame=fk4, or frame=fk4; see nirflow params catalogue. Repeatable."
        ),
    ] = None,
    as_of: AsOf = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Show the reference stars of a field: bands, errors, what is left out, and what was assumed.

    Nothing is reduced. A service is asked only if the store has no answer that covers the field.
    """
    from imaging.reference_catalogue.interpret import Region
    from nirflow.request import catalogue_parameters

    given = [f"catalogue.{text.removeprefix('catalogue.')}" for text in settings or ()]
    parameters = catalogue_parameters(given, source)
    if not parameters.wanted:
        raise UsageError(
            "No catalogue is named, neither here nor in the settings.",
            remedy="Name a file, a folder or a service: nirflow catalogue vizier:2MASS --ra ...",
        )
    found = _found(parameters, Region(ra, dec, radius / 60.0, epoch), as_of)
    if json:
        print_json(_described(found))
    else:
        _print(found)


def _found(parameters: CatalogueParameters, region: Region, as_of: str | None) -> ReferenceCatalogue:
    from imaging.reference_catalogue.read_catalogue import read_catalogue
    from nirflow.moments import moment
    from tasks.reference_catalogue.find_catalogue import from_service

    if parameters.service is None:
        return read_catalogue(parameters, region)
    with open_store() as store:
        return from_service(store, parameters, region, as_of=moment(as_of, "--as-of"))


def _described(found: ReferenceCatalogue) -> dict[str, object]:
    """Return the figures of a catalogue; magnitudes by band."""
    import numpy as np

    bands = {}
    for band in found.bands:
        magnitudes = found.in_band(band)
        value, error = magnitudes.value[magnitudes.valid], magnitudes.error[magnitudes.valid]
        bands[band] = {
            "stars": len(value), "brightest": float(value.min()), "faintest": float(value.max()),
            "error": float(np.median(error)),
            "system": f"{magnitudes.photometric_system}, {magnitudes.magnitude_system}",
        }  # fmt: skip
    return {
        "name": found.name, "origin": found.origin, "sha256": found.identity, "stars": len(found),
        "epoch": found.epoch, "position_error": float(np.median(found.position_error)), "bands": bands,
        "left_out": dict(found.dropped), "notes": list(found.notes),
    }  # fmt: skip


def _print(found: ReferenceCatalogue) -> None:
    shown = _described(found)
    print_lines(
        f"{found.name}: {counted(len(found), 'star')} at {found.epoch:.2f}, median error of a position "
        f"{shown['position_error']:.0f} mas ({found.origin}, sha256 {found.identity[:12]})"
    )
    columns = [Column("band", style="bold")]
    columns += [
        Column(heading, "right") for heading in ("stars", "brightest", "faintest", "median error [mag]")
    ]
    rows = [
        [
            band,
            one["stars"],
            f"{one['brightest']:.2f}",
            f"{one['faintest']:.2f}",
            f"{one['error']:.3f}",
            one["system"],
        ]
        for band, one in shown["bands"].items()  # type: ignore[attr-defined]
    ]
    if rows:
        print_table([*columns, Column("system")], rows)
    for reason, number in found.dropped.items():
        print_lines(f"Left out, {reason}: {number}")
    for note in found.notes:
        print_lines(f"Note: {note}.")
