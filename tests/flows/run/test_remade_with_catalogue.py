"""A stack made again has the catalogue of the run if it had one, and none if it had none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flows.run.remake_plan import NotPossibleError, own_parameters
from tasks.support.parameters import ReductionParameters

NAMED = ReductionParameters.model_validate({"catalogue": {"source": "/data/2mass.fits"}})


def stack(**parameters: Any) -> Any:
    return SimpleNamespace(kind="image", parameters={"stack": {}} | parameters)


def test_the_current_catalogue_and_the_products_own_limits_apply() -> None:
    used = {"name": "2MASS", "identity": "0" * 64, "meaning": {}}
    found = own_parameters(stack(catalogue=used, astrometry={"pointing_error": 30.0}), NAMED)
    assert found.catalogue == NAMED.catalogue
    assert found.astrometry.pointing_error == 30.0


def test_without_a_catalogue_it_gets_none() -> None:
    assert not own_parameters(stack(), NAMED).catalogue.wanted


def test_a_catalogue_that_is_no_longer_named_is_missed() -> None:
    used = {"name": "2MASS", "identity": "0" * 64, "meaning": {}}
    with pytest.raises(
        NotPossibleError, match="it was made with the catalogue 2MASS, and no catalogue is named"
    ) as at:
        own_parameters(stack(catalogue=used), ReductionParameters())
    assert "nirflow.toml" in at.value.remedy
