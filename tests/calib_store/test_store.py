from __future__ import annotations

import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr
from sqlalchemy import select, text
from stored_products import count_rows

from calib_store.model.records import Decision, KnownFile, Override
from calib_store.model.settings import StoreSettings
from calib_store.store import Store
from calib_store.tables.schema import (
    configurations,
    decisions,
    frame_headers,
    frames,
    products,
)
from imaging.errors import StoreError

HOSTILE = "'; DROP TABLE products; --"


# Settings and opening


def test_settings_are_read_when_constructed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert StoreSettings().data_dir == tmp_path / "nirflow"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert StoreSettings().data_dir == Path.home() / ".local/share/nirflow"
    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(tmp_path / "here"))
    monkeypatch.setenv("NIRFLOW_DATABASE_URL", "postgresql://me:hush@host/db")
    settings = StoreSettings()
    assert settings.objects_dir == tmp_path / "here" / "objects"
    assert "hush" not in repr(settings)


def test_open_starts_the_embedded_server_and_migrates(postgres_data_dir: Path, facts) -> None:
    with Store.open(StoreSettings(data_dir=postgres_data_dir)) as opened:
        assert opened.match(facts(), "dark").product is None


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://me:hush@/nirflow?host=/nowhere", "does not answer"),
        ("postgresql+asyncpg://me:hush@127.0.0.1:1/nirflow", "does not answer"),
        ("postgresql://me:hush@host:port/db", "not a database address"),
        ("hush", "not a database address"),
        ("mysql://me:hush@host/db", "needs PostgreSQL"),
    ],
)
def test_a_database_that_is_down_is_reported_without_the_password(
    tmp_path: Path, url: str, message: str
) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        Store.open(StoreSettings(data_dir=tmp_path, database_url=SecretStr(url)))
    error: BaseException | None = caught.value
    assert "NIRFLOW_DATABASE_URL" in str(error)
    while error is not None:
        assert "hush" not in str(error) + repr(error)
        error = error.__cause__


def test_database_that_goes_away_and_comes_back(store: Store, postgres_address, facts) -> None:
    assert store.match(facts(), "dark").product is None
    with postgres_address.administer() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            (store.database.url.database,),
        )
    assert store.match(facts(), "dark").product is None


def test_a_connection_lost_in_a_transaction_is_reported_and_nothing_is_kept(
    store: Store, postgres_address
) -> None:
    insertion = text(
        "INSERT INTO configurations (digest, rule, kind, keys, facts) VALUES ('d', 'r', 'k', '{}', '{}')"
    )

    def lose() -> None:
        with store.database.begin() as connection:
            connection.execute(insertion)
            pid = connection.scalar(text("SELECT pg_backend_pid()"))
            with postgres_address.administer() as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
            connection.execute(text("SELECT 1"))

    with pytest.raises(StoreError, match="does not answer"):
        lose()
    assert count_rows(store, configurations) == 0


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("53100", r"gave up: the first line\. Make room on the disk"),
        ("40P01", "gave up: .* run it again"),
        ("57014", "gave up: .* log of the server"),
        ("53300", "does not answer"),
        ("57P01", "does not answer"),
        ("08006", "does not answer"),
    ],
)
def test_only_a_lost_connection_is_reported_as_one(store: Store, state: str, message: str) -> None:
    raised = text(
        f"DO $$ BEGIN RAISE EXCEPTION E'the first line\\na second line' USING ERRCODE = '{state}'; END $$"
    )
    with pytest.raises(StoreError) as caught, store.database.begin() as connection:
        connection.execute(raised)
    assert re.search(message, str(caught.value))
    assert "a second line" not in str(caught.value)


# Frames


def test_ingest_is_idempotent_and_remembers_files(store: Store, record) -> None:
    night = [record(f"S{i}.fits") for i in range(40)]
    assert store.frames.known_files([r.path for r in night]) == {}
    first, second = store.frames.ingest(night), store.frames.ingest(night)
    assert (first.new, first.known, second.new, second.known) == (40, 0, 0, 40)
    assert first.messages() == second.messages() == ()
    assert store.frames.known_files([r.path for r in night] + [Path("/other.fits")]) == {
        r.path: KnownFile(10, 1, r.sha256) for r in night
    }
    assert store.frames.facts_of([night[3].sha256, "0" * 64]) == {night[3].sha256: night[3].facts}
    assert count_rows(store, frames) == count_rows(store, frame_headers) == 40


def test_the_same_bytes_under_two_names_are_one_frame(store: Store, record) -> None:
    one, two = record("S1.fits", "same"), record("copy of S1.fits", "same")
    report = store.frames.ingest([one, two])
    assert report.new == 1
    assert report.duplicates == ((one.sha256, (one.path, two.path)),)
    assert "used once" in report.messages()[0]
    assert set(store.frames.known_files([one.path, two.path])) == {one.path, two.path}


def test_a_copy_under_another_name_changes_no_name(store: Store, record, facts) -> None:
    first = record("S1.fits", facts=facts(name="S1.fits"))
    store.frames.ingest([first])
    copy = record("S9.fits", content="S1.fits", facts=facts(name="S9.fits"))
    assert copy.sha256 == first.sha256
    store.frames.ingest([copy])
    (frame,) = store.frames.with_sha256s([first.sha256]).values()
    assert frame.facts is not None
    assert (frame.name, frame.facts.name) == ("S1.fits", "S1.fits")
    assert len(frame.paths) == 2
    judged = record("S9.fits", content="S1.fits", facts=facts(name="S9.fits", target="OTHER"))
    store.frames.ingest([judged])
    (frame,) = store.frames.with_sha256s([first.sha256]).values()
    assert frame.facts is not None
    assert (frame.facts.name, frame.facts.target) == ("S1.fits", "OTHER")


def test_the_same_name_with_other_bytes_is_another_frame(store: Store, record, tmp_path: Path) -> None:
    old = record("S1.fits", "old")
    new = record("S1.fits", "new", path=tmp_path / "elsewhere" / "S1.fits.bz2")
    assert store.frames.ingest([old]).renamed_content == ()
    report = store.frames.ingest([new])
    assert report.new == 1
    assert report.renamed_content == (("S1.fits", (old.sha256, new.sha256)),)
    assert "2 different files" in report.messages()[0]


def test_a_file_whose_content_changes_points_to_the_new_frame(store: Store, record) -> None:
    store.frames.ingest([record("S1.fits", "old")])
    changed = record("S1.fits", "new", size=11, changed_ns=2)
    store.frames.ingest([changed])
    assert store.frames.known_files([changed.path]) == {changed.path: KnownFile(11, 2, changed.sha256)}


def test_quarantine_is_kept_and_can_be_lifted(store: Store, record, facts) -> None:
    bad = record("S1.fits", facts=None, quarantine="S1.fits: cut short")
    store.frames.ingest([bad])
    assert store.frames.facts_of([bad.sha256]) == {}
    store.frames.ingest([record("S1.fits")])
    assert store.frames.facts_of([bad.sha256]) == {bad.sha256: facts(name="S1.fits")}
    with pytest.raises(StoreError, match="neither facts nor a reason"):
        store.frames.ingest([record("S2.fits", facts=None)])


def test_headers_and_names_that_databases_cannot_store(store: Store, record, tmp_path: Path) -> None:
    header = {
        "NAN": math.nan, "INF": -math.inf, "NUL": "a\0b", "NONE": None, "FLAG": True, "LONG": 2**70,
        "SMALL": np.float32(1.5), "KEY\0": [1, {"x": math.nan}], "QUOTE": HOSTILE, "HALF": "\ud800",
    }  # fmt: skip
    strange = Path(
        os.fsdecode(os.fsencode(tmp_path) + b"/\xff" + HOSTILE.encode().replace(b"/", b"") + b".fits")
    )
    raw = record("S1.fits", path=strange, header=header)
    store.frames.ingest([raw])
    with store.database.begin() as connection:
        kept = connection.scalar(select(frame_headers.c.header))
    assert (kept["NAN"], kept["INF"], kept["FLAG"], kept["LONG"]) == ("nan", "-inf", True, 2**70)
    assert (kept["SMALL"], kept["QUOTE"]) == (1.5, HOSTILE)
    assert set(store.frames.known_files([strange])) == {strange}


# Promise 8: no text from a header or a user becomes SQL or a path


@pytest.mark.parametrize(
    "name", [HOSTILE, "../../etc/passwd", "/etc/passwd", ".hidden", "", "a/b.fits", "a\0.fits", "x" * 300]
)
def test_product_names_are_plain_file_names(store: Store, add, name: str) -> None:
    with pytest.raises(StoreError, match="not a plain file name"):
        add("dark", name=name)
    assert count_rows(store, products) == 0
    assert not store.objects.root.exists()


def test_hostile_values_are_values(store: Store, add, facts, record) -> None:
    hostile = facts(filter_id=HOSTILE, target=HOSTILE, lyot=HOSTILE, program="%(x)s :y {z}")
    product = add(
        "flat", facts=hostile, parameters={HOSTILE: HOSTILE}, metrics={HOSTILE: HOSTILE},
        algorithm_version=HOSTILE, flow_run_id=HOSTILE, author=HOSTILE,
    )  # fmt: skip
    assert store.match(hostile, "flat").product == product
    assert store.match(facts(), "flat").product is None
    frame = record("S9.fits")
    store.frames.ingest([frame])
    match = store.match(hostile, "flat")
    store.record_decisions([Decision(frame.sha256, match, product, Override(HOSTILE, HOSTILE))])
    for name in (HOSTILE, "%", "_", "\\", "0" * 5, "ab%"):
        with pytest.raises(StoreError, match="has no product"):
            store.get(name)
    assert count_rows(store, products) == count_rows(store, decisions) == 1
