"""Histories of figures over the nights: which products belong together, in which order, under which key."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, get_client, runtime
from prefect.client.schemas.filters import ArtifactFilter

from calib_store.curation.certify import reject
from calib_store.model.records import Product
from calib_store.store import Store
from deployments.settings.server_settings import ServerAddress
from flows.run import history
from flows.run.history import history_rows, publish_history
from imaging.frames.facts import FrameFacts
from tasks.prefect_internals.heartbeats import prompt_heartbeats
from tasks.support.references import ProductRef

Add = Callable[..., Product]


def ref(product: Product) -> ProductRef:
    return ProductRef.model_validate(
        {
            "id": str(product.id), "kind": product.kind, "name": product.name, "sha256": product.sha256,
            "recipe_key": product.recipe_key,
        }
    )  # fmt: skip


def test_the_newest_night_comes_first_with_all_figures(add: Add) -> None:
    old = add(hours=-48, metrics={"level": 1.0, "n_hot": 3, "unknown": 7})
    new = add(metrics={"level": 1.23456789, "noise": None})
    rows = history_rows(old, [new, old])
    assert rows == [
        {
            "night": "2013-11-21",
            "product": new.name,
            "status": new.status,
            "level, e-": 1.2346,
            "hot, px": None,
        },
        {"night": "2013-11-19", "product": old.name, "status": old.status, "level, e-": 1.0, "hot, px": 3},
    ]


def test_an_evening_belongs_to_the_night_that_ends_the_next_day(add: Add) -> None:
    evening = add(hours=-6)
    assert evening.middle.date() == date(2013, 11, 20)
    (row,) = history_rows(evening, [])
    assert row["night"] == "2013-11-21"


def test_calibrations_of_the_day_belong_to_the_night_before_at_their_own_site(
    add: Add, facts: Callable[..., FrameFacts]
) -> None:
    noon = add(hours=12)
    assert (noon.middle.hour, noon.middle.date()) == (15, date(2013, 11, 21))
    elsewhere = add(hours=12, facts=facts(instrument="UNKNOWN"))
    assert [history_rows(one, [])[0]["night"] for one in (noon, elsewhere)] == ["2013-11-21", "2013-11-22"]


@pytest.mark.parametrize(
    ("kind", "keys", "title"),
    [
        ("dark", {"exposure_time": 120.0}, "dark exposure_time 120.0"),
        ("dark", {"exposure_time": 120.0, "read_pairs": 8, "coadds": 1}, "dark 120 s 8 reads 1 coadd"),
        ("flat", {"filter": "Y"}, "flat filter Y"),
        ("bpm", {}, "bpm"),
    ],
)
def test_rules_may_omit_facts_that_titles_usually_contain(
    add: Add, kind: str, keys: dict[str, Any], title: str
) -> None:
    product = add(kind).model_copy(update={"keys": keys})
    assert history._title(product) == title
    assert [row["product"] for row in history_rows(product, [product])] == [product.name]


def test_a_history_is_limited(add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_LENGTH", 2)
    products = [add(hours=24.0 * day) for day in range(3)]
    assert [row["night"] for row in history_rows(products[2], products)] == ["2013-11-23", "2013-11-22"]


@pytest.fixture
def published(prefect_server: ServerAddress, store: Store) -> Callable[..., dict[str, Any]]:
    """Publish the history of products in a run; return its tables by key."""

    def run(*products: Product) -> dict[str, Any]:
        @flow(name="publishing history")
        def publishing() -> UUID:
            publish_history(store, [ref(one) for one in products])
            return UUID(runtime.flow_run.id)

        with prompt_heartbeats(publishing) as ready:
            run_id = ready()
        of = ArtifactFilter.model_validate({"flow_run_id": {"any_": [run_id]}})
        with get_client(sync_client=True) as client:
            return {
                one.key or "": json.loads(str(one.data)) for one in client.read_artifacts(artifact_filter=of)
            }

    return run


def test_a_table_for_each_configuration_without_bad_products(
    published: Callable[..., dict[str, Any]], store: Store, add: Add, facts: Callable[..., FrameFacts]
) -> None:
    dark, before, bad = add(), add(hours=-24), add(hours=-48)
    other = add(facts=facts(exposure_time=20.0))
    reject(store, bad, author="Ana", reason="a test")
    tables = published(dark, before)
    ((key, rows),) = tables.items()
    assert key.startswith("history-dark")
    assert [row["product"] for row in rows] == [dark.name, before.name]
    both = published(dark, other)
    assert len(both) == 2
    assert both[key] == rows
    assert [row["product"] for row in next(rows for one, rows in both.items() if one != key)] == [other.name]


def test_stacks_are_compared_within_their_band_and_the_key_is_that_of_all_nights(
    published: Callable[..., dict[str, Any]], add: Add, facts: Callable[..., FrameFacts]
) -> None:
    j = {"filter": "J", "filter_id": "J_G0802"}
    one = add("image", metrics={"seeing": 0.6}, facts=facts(target="A"))
    other = add("image", hours=24, metrics={"seeing": 0.8}, facts=facts(target="B", exposure_time=60.0))
    band = add("image", metrics={"seeing": 1.0}, facts=facts(**j))
    tables = published(one, band)
    assert set(tables) == {"history-image-y", "history-image-j"}
    assert [row["product"] for row in tables["history-image-y"]] == [other.name, one.name]
    assert [row["seeing, px"] for row in tables["history-image-y"]] == [0.8, 0.6]


def test_outside_a_run_nothing_is_published(store: Store, add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise AssertionError("an artifact outside of a run")

    monkeypatch.setattr(history, "publish_table", refuse)
    publish_history(store, [ref(add())])
