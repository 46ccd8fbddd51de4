"""Nights of a few small frames, simulated once, and stores for their reduction."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from night_lab import Lab, Run
from observatory import Observatory, observing

from imaging.simulator.parameters import NightParameters
from imaging.simulator.simulate import simulate_night
from imaging.simulator.truth import NightTruth

if TYPE_CHECKING:
    from calib_store.server.postgres import PostgresAddress
    from deployments.settings.server_settings import ServerAddress

SIZE = 384
#: The minimum number of frames for the recipes, in the tutorial's sets.
FEW = {"size": SIZE, "n_science": 5, "n_darks": 4, "n_short_darks": 3, "n_lamp_on": 3, "n_lamp_off": 3}

LabFactory = Callable[[], Lab]


@contextmanager
def _laboratory(
    folder: Path, address: PostgresAddress, server_dir: Path, shape: tuple[int, int]
) -> Iterator[Lab]:
    name = f"lab_{uuid.uuid4().hex[:12]}"
    with address.administer() as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE nirflow_template OWNER nirflow")
    url = address.url(name).set(username="test_pipeline").render_as_string(hide_password=False)
    yield Lab(folder, url, server_dir, shape)
    from tasks.support.workspace import close_stores

    close_stores()
    with address.administer() as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def lab(
    tmp_path: Path, postgres_address: PostgresAddress, postgres_data_dir: Path, prefect_server: ServerAddress
) -> Iterator[Lab]:
    """Yield a lab for one test."""
    with _laboratory(tmp_path, postgres_address, postgres_data_dir, (SIZE, SIZE)) as one:
        yield one


@pytest.fixture(scope="session")
def new_lab(
    tmp_path_factory: pytest.TempPathFactory,
    postgres_address: PostgresAddress,
    postgres_data_dir: Path,
    prefect_server: ServerAddress,
) -> Iterator[Callable[..., Lab]]:
    """Make labs that last for the session."""
    with ExitStack() as stack:

        def make(size: int = SIZE) -> Lab:
            folder = tmp_path_factory.mktemp("lab")
            return stack.enter_context(_laboratory(folder, postgres_address, postgres_data_dir, (size, size)))

        yield make


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory) -> NightTruth:
    """Return a Y night of 18 small frames. The third science frame carries the second's WCS."""
    return simulate_night(
        tmp_path_factory.mktemp("night"), NightParameters(**FEW, seed=7, wcs_rms=0.2, stale_wcs=2)
    )


@pytest.fixture(scope="session")
def reduced_lab(new_lab: Callable[..., Lab]) -> Lab:
    """Return the lab with the small night already reduced; tests only add to it."""
    return new_lab()


@pytest.fixture(scope="session")
def reduced(reduced_lab: Lab, night: NightTruth) -> Run:
    """Return the first run of the small night, into an empty store."""
    return reduced_lab.reduce(night.folder.parent, previews=True)


@pytest.fixture(scope="module")
def observatory(new_lab: Callable[..., Lab], night: NightTruth) -> Iterator[Observatory]:
    """Yield an observatory without frames yet; the tests of a module share it."""
    with observing(new_lab(), night) as one:
        yield one
