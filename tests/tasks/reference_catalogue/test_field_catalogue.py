"""The reference stars of a group's field: found, identified by content, and missing with a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from catalogue_files import CENTRE, twomass

from imaging.reference_catalogue.catalogue_parameters import CatalogueParameters
from tasks.reference_catalogue.field_catalogue import NO_CATALOGUE, field_catalogue
from tasks.support.references import RawFrame
from tasks.support.workspace import Workspace


@pytest.fixture
def facts(raw_frame: Callable[..., RawFrame]) -> list[Any]:
    frames = [raw_frame(f"S20131121S{n:04d}.fits", kind="object") for n in (75, 76)]
    return [one.facts.model_copy(update={"ra": CENTRE[0], "dec": CENTRE[1]}) for one in frames]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(data_dir=tmp_path / "data", out=tmp_path / "out")


def test_stars_of_a_file_are_found_and_known_by_their_content(
    facts: list[Any], workspace: Workspace, tmp_path: Path
) -> None:
    for name in ("one.fits", "copy.fits"):
        twomass().write(tmp_path / name)
    found, copied = (
        field_catalogue(facts, CatalogueParameters(source=str(tmp_path / name)), workspace)
        for name in ("one.fits", "copy.fits")
    )
    assert found.problem == ""
    assert found.catalogue is not None
    assert len(found.catalogue) == 20
    assert found.used == copied.used
    assert found.used is not None
    assert found.used.identity == found.catalogue.identity != ""


def test_nothing_was_requested(facts: list[Any], workspace: Workspace) -> None:
    assert field_catalogue(facts, CatalogueParameters(), workspace) == NO_CATALOGUE


@pytest.mark.parametrize("dec", [12.0, None])
def test_a_catalogue_that_cannot_be_used_is_part_of_the_recipe(
    facts: list[Any], workspace: Workspace, tmp_path: Path, dec: float | None
) -> None:
    twomass().write(tmp_path / "one.fits")
    parameters = CatalogueParameters(source=str(tmp_path / "one.fits"))
    found = field_catalogue([one.model_copy(update={"dec": dec}) for one in facts], parameters, workspace)
    assert found.catalogue is None
    assert found.problem.startswith("the catalogue is not used: ")
    assert found.used is not None
    assert (found.used.identity, found.used.name) == ("", str(tmp_path / "one.fits"))
