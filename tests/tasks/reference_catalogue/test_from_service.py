"""A service that is asked once: its answers are kept, and bad ones are refused with the reason."""

from __future__ import annotations

import hashlib
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalogue_files import CENTRE, region, twomass, written
from sqlalchemy import text
from vizier_stub import Behaviour, VizierStub, answer_of, vizier_stub

from calib_store.store import Store
from calib_store.tables.database import Database
from imaging.errors import CatalogueError
from imaging.reference_catalogue.catalogue_parameters import CatalogueParameters
from imaging.reference_catalogue.interpret import Region
from tasks.reference_catalogue import vizier
from tasks.reference_catalogue.find_catalogue import find_catalogue, from_service
from tasks.support.workspace import Workspace


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[VizierStub]:
    monkeypatch.setattr(vizier, "_PAUSE", 0.01)
    with vizier_stub() as server:
        yield server


def of(stub: VizierStub, **changed: Any) -> CatalogueParameters:
    return CatalogueParameters.model_validate({"source": "vizier:2MASS", "server": stub.address} | changed)


def test_the_answer_is_read_and_kept(store: Store, stub: VizierStub) -> None:
    first = from_service(store, of(stub), region())
    assert (first.name, len(first), first.bands) == ("2MASS", 30, ("J", "H", "Ks"))
    assert first.origin == "vizier:II/246/out"
    assert first.identity == hashlib.sha256(answer_of()).hexdigest()
    assert first.dropped == {"H magnitudes with a flag": 1}
    stub.behaviour = "busy"
    again = from_service(store, of(stub), region())
    np.testing.assert_array_equal(again.ra, first.ra)
    assert (again.identity, len(stub.questions)) == (first.identity, 1)


def test_the_question_names_table_and_region_and_has_no_limit(store: Store, stub: VizierStub) -> None:
    from_service(store, of(stub), region(radius=0.1))
    asked = dict(line.partition("=")[::2] for line in stub.questions[0].splitlines())
    assert asked["-source"] == "II/246/out"
    assert asked["-out.max"] == "unlimited"
    assert "-out.all" in asked
    assert asked["-c"].startswith(f"{CENTRE[0]:.4f}")
    assert float(asked["-c.rd"]) == pytest.approx(11 / 60)  # 6 arcmin and 5 beyond


def test_the_next_field_of_the_same_target_needs_no_question(store: Store, stub: VizierStub) -> None:
    here = region()
    from_service(store, of(stub), here)
    from_service(store, of(stub), Region(here.ra, here.dec + 0.05, 0.1, here.epoch + 5))
    assert len(stub.questions) == 1
    from_service(store, of(stub), Region(here.ra, here.dec + 0.1, 0.1, here.epoch))
    assert len(stub.questions) == 2


def test_as_of_a_time_only_what_the_store_had(store: Store, stub: VizierStub) -> None:
    before = datetime.now(UTC) - timedelta(seconds=60)
    found = from_service(store, of(stub), region())
    now = datetime.now(UTC) + timedelta(seconds=60)
    assert from_service(store, of(stub), region(), as_of=now).identity == found.identity
    with pytest.raises(CatalogueError, match="the store had no answer of the service on") as caught:
        from_service(store, of(stub), region(), as_of=before)
    assert "--as-of" in caught.value.remedy
    assert len(stub.questions) == 1


def test_later_answers_only(store: Store, stub: VizierStub, owner: Database) -> None:
    from_service(store, of(stub), region())
    with owner.begin() as connection:
        connection.execute(text("UPDATE catalogue_answers SET asked_at = '2020-01-01'"))
    from_service(store, of(stub, asked_since="2019-12-31"), region())
    assert len(stub.questions) == 1
    from_service(store, of(stub, asked_since="2020-01-02"), region())
    assert len(stub.questions) == 2


@pytest.mark.parametrize(
    ("behaviour", "expected", "asked"),
    [
        ("cut off", "answer of the service is not a table", 1),
        ("page", "answer of the service is not a table", 1),
        ("error", "answer of the service states an error: no such table", 1),
        ("overflow", "answer of the service was cut off by the service, .* too many rows", 1),
        ("busy", "HTTP 503", 3),
        ("refused", "HTTP 400", 1),
    ],
)
def test_a_bad_answer_is_refused_and_not_kept(
    store: Store, stub: VizierStub, behaviour: Behaviour, expected: str, asked: int
) -> None:
    stub.behaviour = behaviour
    with pytest.raises(CatalogueError, match=expected) as caught:
        from_service(store, of(stub), region())
    assert "--catalogue" in caught.value.remedy
    assert caught.value.name.startswith("vizier:II/246/out, 11.0 arcmin around 63.4917")
    assert len(stub.questions) == asked
    stub.behaviour = "good"
    assert len(from_service(store, of(stub), region())) == 30


def test_a_slow_service_is_given_up(store: Store, stub: VizierStub) -> None:
    stub.behaviour = "slow"
    with pytest.raises(CatalogueError, match=r"nothing complete within 0\.2 s"):
        from_service(store, of(stub, timeout=0.2), region())


def test_an_answer_without_end_is_given_up(
    store: Store, stub: VizierStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vizier, "LARGEST_ANSWER", 2**20)
    stub.behaviour = "huge"
    with pytest.raises(CatalogueError, match="more than 1 MB"):
        from_service(store, of(stub), region())


def test_a_service_that_is_down_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vizier, "_PAUSE", 0.01)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(CatalogueError, match=f"the service at {address} does not answer"):
            from_service(store, CatalogueParameters(source="vizier:2MASS", server=address), region())


def test_no_stars_is_an_answer(store: Store, stub: VizierStub) -> None:
    stub.behaviour = "empty"
    for _ in range(2):
        with pytest.raises(CatalogueError, match="has no rows"):
            from_service(store, of(stub), region())
    assert len(stub.questions) == 1


def test_an_address_that_is_none_is_refused(store: Store) -> None:
    with pytest.raises(CatalogueError, match="https://"):
        from_service(store, CatalogueParameters(source="vizier:2MASS", server="ftp://x"), region())


def test_without_astroquery_the_remedy_is_to_install_it(
    store: Store, stub: VizierStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "astroquery.vizier", None)
    with pytest.raises(CatalogueError, match="not installed") as caught:
        from_service(store, of(stub), region())
    assert "nirflow[catalogues]" in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "table"),
    [("vhs", "II/367/vhs_dr5"), ("UKIDSS", "II/319/las9"), ("Gaia", "I/355/gaiadr3"), ("II/1/x", "II/1/x")],
)
def test_surveys_have_their_tables(store: Store, name: str, table: str) -> None:
    asked: list[str] = []

    def ask(question: Any, **_: Any) -> bytes:
        asked.append(question.catalogue)
        raise CatalogueError("stop", "here")

    with pytest.raises(CatalogueError, match="here"):
        from_service(store, CatalogueParameters(source=f"vizier:{name}"), region(), ask=ask)
    assert asked == [table]


def test_a_run_without_a_catalogue_has_none(tmp_path: Path) -> None:
    workspace = Workspace(data_dir=tmp_path, out=tmp_path)
    assert find_catalogue(workspace, CatalogueParameters(), region()) is None
    assert find_catalogue(workspace, CatalogueParameters(source="none"), region()) is None
    path = written(twomass(), tmp_path / "stars.fits")
    found = find_catalogue(workspace, CatalogueParameters(source=str(path)), region())
    assert found is not None
    assert len(found) == 20
