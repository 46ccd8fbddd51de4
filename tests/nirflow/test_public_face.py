"""What ``from nirflow import ...`` offers: the names in the README, without unnecessary imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

import nirflow


@pytest.mark.parametrize("name", nirflow.__all__)
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    value = getattr(nirflow, name)
    assert name == "__version__" or value.__doc__
    assert name in dir(nirflow)


def test_public_names_are_those_of_their_packages() -> None:
    from calib_store.store import Store
    from flows.night import reduce_night
    from flows.run.options import Options
    from imaging.products.ccd import read_ccd
    from nirflow.session import services

    assert nirflow.Store is Store
    assert nirflow.reduce_night is reduce_night
    assert nirflow.Options is Options
    assert nirflow.read_ccd is read_ccd
    assert nirflow.services is services


def test_other_names_are_missing() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'reduce_nights'"):
        nirflow.reduce_nights  # noqa: B018


def test_a_product_is_read_without_the_orchestrator_or_the_store() -> None:
    code = (
        "import sys, nirflow; light = set(sys.modules); nirflow.read_ccd; "
        "print(sorted({'prefect', 'sqlalchemy', 'numpy'} & light), "
        "sorted({'prefect', 'sqlalchemy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] []"
