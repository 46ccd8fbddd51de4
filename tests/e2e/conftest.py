"""Nights of a few small frames, simulated once, and stores for their reduction."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from clean_databases import CleanDatabases, copied_database
from night_lab import Lab, Run
from observatory import Observatory, observing
from sqlalchemy import make_url

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


def _laboratory(
    folder: Path, address: PostgresAddress, database: str, server_dir: Path, shape: tuple[int, int]
) -> Iterator[Lab]:
    from tasks.support.workspace import close_stores

    url = address.url(database).set(username="test_pipeline").render_as_string(hide_password=False)
    yield Lab(folder, url, server_dir, shape)
    close_stores()


@pytest.fixture
def lab(
    tmp_path: Path, postgres_address: PostgresAddress, clean_databases: CleanDatabases, postgres_data_dir: Path,
    prefect_server: ServerAddress,
) -> Iterator[Lab]:  # fmt: skip
    """Yield a lab for one test."""
    with clean_databases.one() as name:
        yield from _laboratory(tmp_path, postgres_address, name, postgres_data_dir, (SIZE, SIZE))


@pytest.fixture(scope="session")
def new_lab(
    tmp_path_factory: pytest.TempPathFactory,
    postgres_address: PostgresAddress,
    clean_databases: CleanDatabases,
    postgres_data_dir: Path,
    prefect_server: ServerAddress,
) -> Iterator[Callable[..., Lab]]:
    """Make labs that last for the session."""
    laboratory = contextmanager(_laboratory)
    with ExitStack() as stack:

        def make(size: int = SIZE) -> Lab:
            folder, name = tmp_path_factory.mktemp("lab"), stack.enter_context(clean_databases.one())
            return stack.enter_context(
                laboratory(folder, postgres_address, name, postgres_data_dir, (size, size))
            )

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


@dataclass(frozen=True)
class _Reduced:
    """The first run of the small night, and copies of its store: the name of a database, and a data folder."""

    run: Run
    database: str
    data: Path


@pytest.fixture(scope="session")
def _first_run(
    reduced_lab: Lab, night: NightTruth, postgres_address: PostgresAddress, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[_Reduced]:  # fmt: skip
    from tasks.support.workspace import close_stores

    run = reduced_lab.reduce(night.folder.parent, previews=True)
    close_stores()  # a database can only be copied while nobody is connected to it
    data = shutil.copytree(reduced_lab.data, tmp_path_factory.mktemp("reduced") / "data")
    with copied_database(postgres_address, str(make_url(reduced_lab.url).database)) as name:
        yield _Reduced(run, name, data)


@pytest.fixture(scope="session")
def reduced(_first_run: _Reduced) -> Run:
    """Return the first run of the small night, into an empty store."""
    return _first_run.run


def _known(folder: Path, address: PostgresAddress, server_dir: Path, first: _Reduced) -> Iterator[Lab]:
    shutil.copytree(first.data, folder / "data")
    with copied_database(address, first.database) as name:
        yield from _laboratory(folder, address, name, server_dir, (SIZE, SIZE))


@pytest.fixture
def known_lab(
    tmp_path: Path, postgres_address: PostgresAddress, postgres_data_dir: Path, _first_run: _Reduced
) -> Iterator[Lab]:
    """Yield a lab for one test whose store has the small night, as after its first run."""
    yield from _known(tmp_path, postgres_address, postgres_data_dir, _first_run)


@pytest.fixture(scope="module")
def modules_known_lab(
    tmp_path_factory: pytest.TempPathFactory,
    postgres_address: PostgresAddress,
    postgres_data_dir: Path,
    _first_run: _Reduced,
) -> Iterator[Lab]:
    """Yield the same for the tests of a module."""
    folder = tmp_path_factory.mktemp("known")
    yield from _known(folder, postgres_address, postgres_data_dir, _first_run)


@pytest.fixture(scope="module")
def observatory(new_lab: Callable[..., Lab], night: NightTruth) -> Iterator[Observatory]:
    """Yield an observatory without frames yet; the tests of a module share it."""
    with observing(new_lab(), night) as one:
        yield one
