"""The section of the settings for the catalogue of reference stars, and what a form may name."""

from __future__ import annotations

from pathlib import Path

import pytest

from calib_store.model.settings import WrongSettingsError
from deployments.deployed.common import options_of
from deployments.settings.all_settings import Settings, describe
from deployments.settings.own_step_settings import reference_catalogue
from imaging.errors import NirflowError
from imaging.reference_catalogue.catalogue_parameters import CatalogueParameters
from tasks.support.parameters import ReductionParameters

SETTINGS = '[catalogue]\nsource = "/data/2mass"\nposition_error = 90\nin_forms = ["/data/vhs.fits"]\n'


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    path = tmp_path / "nirflow.toml"
    path.write_text(SETTINGS)
    monkeypatch.setenv("NIRFLOW_CONFIG", str(path))
    return Settings()


def in_form(settings: Settings, **given: object) -> CatalogueParameters:
    parameters = ReductionParameters.model_validate({"catalogue": given})
    found = options_of(settings, parameters=parameters).parameters.catalogue
    assert isinstance(found, CatalogueParameters)
    return found


def test_the_catalogue_of_the_settings_serves_every_unattended_run(settings: Settings) -> None:
    stars = options_of(settings).parameters.catalogue
    assert (stars.source, stars.position_error) == ("/data/2mass", 90.0)
    assert stars == reference_catalogue()
    shown = {one.name: one for one in describe(settings)}
    assert shown["catalogue.source"].value == "/data/2mass"
    assert shown["catalogue.source"].variable == "NIRFLOW_CATALOGUE_SOURCE"


def test_a_form_changes_parameters_of_the_catalogue_of_the_settings(settings: Settings) -> None:
    assert in_form(settings, epoch=2010.0) == CatalogueParameters(
        source="/data/2mass", position_error=90, epoch=2010
    )


def test_a_source_of_its_own_takes_nothing_from_the_settings(settings: Settings) -> None:
    assert in_form(settings, source="/data/vhs.fits") == CatalogueParameters(source="/data/vhs.fits")
    assert in_form(settings, source="vizier:2MASS").service == ("vizier", "2MASS")
    assert not in_form(settings, source="none").wanted


@pytest.mark.parametrize("given", [{"source": "/etc/shadow"}, {"server": "http://169.254.169.254"}])
def test_a_form_reads_no_other_file_and_no_other_server(settings: Settings, given: dict[str, str]) -> None:
    with pytest.raises(NirflowError, match="The form names the") as caught:
        in_form(settings, **given)
    assert "[catalogue]" in caught.value.remedy


def test_a_relative_path_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIRFLOW_CATALOGUE_SOURCE", "stars.fits")
    with pytest.raises(WrongSettingsError, match=r"relative path stars\.fits"):
        Settings()


def test_a_variable_names_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIRFLOW_CATALOGUE_SOURCE", "vizier:2MASS")
    assert reference_catalogue().service == ("vizier", "2MASS")
    assert reference_catalogue(CatalogueParameters(source="none")).source == "none"
