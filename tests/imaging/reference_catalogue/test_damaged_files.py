"""Damaged catalogues: each is read with finite values or refused as a catalogue, whatever is damaged."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from catalogue_files import gaia, plain, region, twomass, written
from hypothesis import given, settings
from hypothesis import strategies as st
from vizier_stub import answer_of

from imaging.errors import CatalogueError
from imaging.reference_catalogue.catalogue_parameters import CatalogueParameters
from imaging.reference_catalogue.read_catalogue import answered_catalogue

FORMATS = ("fits", "vot", "ecsv", "csv")


@cache
def intact() -> tuple[bytes, ...]:
    """Return the bytes of small catalogues in every format."""
    with TemporaryDirectory() as folder:
        files = [
            written(table, Path(folder) / f"stars.{suffix}").read_bytes()
            for table in (twomass(5), gaia(5), plain(5))
            for suffix in FORMATS
        ]
    return (*files, answer_of(5))


@settings(max_examples=150, deadline=None)
@given(
    which=st.integers(0, 3 * len(FORMATS)),
    edits=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=4), st.integers(0, 30)),
        min_size=1,
        max_size=6,
    ),
)
def test_a_damaged_catalogue_is_read_or_refused(which: int, edits: list[tuple[float, bytes, int]]) -> None:
    content = intact()[which]
    for place, inserted, removed in edits:
        start = int(place * len(content))
        content = content[:start] + inserted + content[start + removed :]
    parameters = CatalogueParameters(position_error=50, epoch=2000)
    try:
        found = answered_catalogue(content, parameters, region(), origin="stars")
    except CatalogueError:
        return
    assert len(found) > 0
    for values in (found.ra, found.dec, found.position_error):
        assert np.isfinite(values).all()
    assert (found.position_error > 0).all()
    for magnitudes in found.magnitudes.values():
        assert (
            np.isfinite(magnitudes.error[magnitudes.valid]) & (magnitudes.error[magnitudes.valid] > 0)
        ).all()
